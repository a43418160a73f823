// Package peer connects the nodes of a cluster: control connections for calls and notifications, data connections for
// streams of frames. It knows no Raft and no partitions; what travels is bytes under a [Method] or a frame type.
//
// Every node dials one control connection to each peer that it was told of ([Node.SetPeer]) and accepts one from each:
// a connection carries the calls and notifications of the node that dialled it, and the answers to them. Data
// connections ([Node.DialData], [Node.OnData]) are dialled as they are needed and belong to whoever uses them.
//
// Invariants: a connection begins with a handshake that says who both sides are, and which process of theirs; a node of
// another cluster, and another node than the one that was meant, are refused by name. Every frame carries a CRC, and a
// broken one ends the connection. Silence for longer than Limits.Silence ends the connections with that peer; this is
// no proof that it died. Refused redials and other incarnations are ([Event]). All memory and all queues are bounded.
// All goroutines have ended when [Node.Close] returns.
//
// Owner of state: [Node] for who is connected, an outgoing peer's one goroutine for its connection. The format on the
// wire is in docs/format/peer.md. Start reading at node.go, then outgoing.go and conn.go.
package peer
