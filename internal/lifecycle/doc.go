// Package lifecycle is a broker's side of its life in the cluster: [Agent] registers this process, sends its heartbeats,
// holds its lease and carries out its controlled shutdown. The controller's side is liveness*.go of package controller.
//
// State: the agent's, under its mu, which is never held over a call into another package. Time comes from the Clock of the
// Options alone.
//
// Invariants:
//
//   - The lease is counted from when a heartbeat was sent, never from its answer, and counts once this node has applied
//     the metadata that the answer rests on. Nothing that was answered before takes it back to a later end.
//   - A process registers as one incarnation. When another process has taken its name, it ends; it never registers
//     against it.
//   - The lease bounds stale reads and acks=1 and nothing else: safety rests on epochs.
//
// Start reading at agent.go.
package lifecycle
