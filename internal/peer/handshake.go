package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"

	"chronik/internal/kafka"
)

// The versions of the format that this node speaks. Both sides use the highest that both know.
const (
	versionMin = 1
	versionMax = 1
)

const (
	magic        = "CHPR"
	anyBroker    = kafka.BrokerID(-1) // expected by who does not know yet whom it dials
	handshakeMax = 2 << 10            // bytes of either message behind its length
	stringMax    = 255                // bytes of a cluster ID or an address
	textMax      = 1000               // bytes of a refusal
)

// hello is what the dialling node says first.
type hello struct {
	versionMin, versionMax byte
	kind                   Kind
	expected               kafka.BrokerID
	identity               Identity
}

// welcome is the answer.
type welcome struct {
	version  byte
	refused  bool
	identity Identity
	text     string // why it is refused
}

// RefusedError is a peer that answered and does not want this node, or is not the one that was meant.
type RefusedError struct {
	By   Identity
	Text string
}

func (e *RefusedError) Error() string { return fmt.Sprintf("refused by %s: %s", e.By, e.Text) }

func (h hello) encode() []byte {
	b := []byte{h.versionMin, h.versionMax, byte(h.kind)}
	b = binary.LittleEndian.AppendUint32(b, uint32(h.expected))
	return sealed(h.identity.appendTo(b))
}

func (w welcome) encode() []byte {
	refused := byte(0)
	if w.refused {
		refused = 1
	}
	b := w.identity.appendTo([]byte{w.version, refused})
	text := w.text[:min(len(w.text), textMax)]
	b = binary.LittleEndian.AppendUint16(b, uint16(len(text)))
	return sealed(append(b, text...))
}

func (id Identity) appendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(id.Broker))
	b = append(b, id.Directory[:]...)
	b = append(b, id.Incarnation[:]...)
	for _, s := range []string{id.ClusterID, id.Address} {
		b = append(b, byte(len(s)))
		b = append(b, s...)
	}
	return b
}

// sealed puts magic, length and CRC before a message.
func sealed(message []byte) []byte {
	b := append(make([]byte, 0, 12+len(message)), magic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(message)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(message, castagnoli))
	return append(b, message...)
}

var errNotPeer = errors.New("what is at the other end does not speak chronik's protocol between nodes")

// readSealed reads what sealed made, and not a byte more.
func readSealed(r io.Reader) ([]byte, error) {
	var head [12]byte
	if _, err := io.ReadFull(r, head[:4]); err != nil {
		return nil, err
	}
	if string(head[:4]) != magic {
		return nil, errNotPeer
	}
	if _, err := io.ReadFull(r, head[4:]); err != nil {
		return nil, unexpected(err)
	}
	length := binary.LittleEndian.Uint32(head[4:])
	if length > handshakeMax {
		return nil, fmt.Errorf("an introduction of %d bytes was announced, at most %d are possible", length, handshakeMax)
	}
	message := make([]byte, length)
	if _, err := io.ReadFull(r, message); err != nil {
		return nil, unexpected(err)
	}
	if crc32.Checksum(message, castagnoli) != binary.LittleEndian.Uint32(head[8:]) {
		return nil, errors.New("an introduction arrived broken")
	}
	return message, nil
}

// fields takes a message apart; after the first field that is missing everything is zero, and bad is set. What follows
// the last field that is known belongs to a later version.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) take(n int) []byte {
	if f.bad || len(f.b) < n {
		f.bad = true
		return make([]byte, n)
	}
	taken := f.b[:n]
	f.b = f.b[n:]
	return taken
}

func (f *fields) byte() byte     { return f.take(1)[0] }
func (f *fields) uint32() uint32 { return binary.LittleEndian.Uint32(f.take(4)) }
func (f *fields) uint64() uint64 { return binary.LittleEndian.Uint64(f.take(8)) }

func (f *fields) identity() Identity {
	id := Identity{Broker: kafka.BrokerID(f.uint32())}
	copy(id.Directory[:], f.take(16))
	copy(id.Incarnation[:], f.take(16))
	id.ClusterID = string(f.take(int(f.byte())))
	id.Address = string(f.take(int(f.byte())))
	return id
}

var errShort = errors.New("an introduction ends too early")

func decodeHello(message []byte) (hello, error) {
	f := fields{b: message}
	h := hello{versionMin: f.byte(), versionMax: f.byte(), kind: Kind(f.byte()), expected: kafka.BrokerID(f.uint32())}
	h.identity = f.identity()
	if f.bad {
		return hello{}, errShort
	}
	return h, nil
}

func decodeWelcome(message []byte) (welcome, error) {
	f := fields{b: message}
	w := welcome{version: f.byte(), refused: f.byte() != 0}
	w.identity = f.identity()
	w.text = string(f.take(int(binary.LittleEndian.Uint16(f.take(2)))))
	if f.bad {
		return welcome{}, errShort
	}
	return w, nil
}

// sameCluster tells whether two nodes may talk: both in one cluster, or one of them in none yet.
func sameCluster(a, b string) bool { return a == "" || b == "" || a == b }

// objection is why self does not want the node that introduced itself; empty if it does.
func (h hello) objection(self Identity, servesData bool) string {
	from := h.identity
	switch {
	case h.versionMin > versionMax || h.versionMax < versionMin:
		return fmt.Sprintf("versions %d to %d of the protocol between nodes are not spoken here, %d to %d are: upgrade the older node",
			h.versionMin, h.versionMax, versionMin, versionMax)
	case h.expected != anyBroker && h.expected != self.Broker:
		return fmt.Sprintf("this is broker %d, not broker %d: one of them is configured with the other's address %s",
			self.Broker, h.expected, self.Address)
	case from.Broker < 0:
		return fmt.Sprintf("%d is no broker ID", from.Broker)
	case from.Broker == self.Broker && from.Incarnation != self.Incarnation:
		return fmt.Sprintf("broker ID %d is used by two nodes, at %s and at %s: give one of them another node.id",
			self.Broker, self.Address, from.Address)
	case !sameCluster(from.ClusterID, self.ClusterID):
		return otherCluster(self, from)
	case h.kind == Control:
		return ""
	case !h.kind.data():
		return fmt.Sprintf("connections of %s are not known here", h.kind)
	case from.ClusterID == "" || self.ClusterID == "":
		return fmt.Sprintf("a %s connection needs both nodes in one cluster, but broker %d is in %q and broker %d in %q",
			h.kind, from.Broker, from.ClusterID, self.Broker, self.ClusterID)
	case !servesData:
		return fmt.Sprintf("broker %d does not replicate yet", self.Broker)
	}
	return ""
}

func otherCluster(self, from Identity) string {
	return fmt.Sprintf("broker %d belongs to cluster %s, but broker %d at %s to cluster %s",
		self.Broker, self.ClusterID, from.Broker, from.Address, from.ClusterID)
}

// introduce is the dialling side's handshake. The error is a *RefusedError where somebody of ours answered.
func introduce(conn net.Conn, self Identity, kind Kind, expected kafka.BrokerID) (Identity, error) {
	h := hello{versionMin: versionMin, versionMax: versionMax, kind: kind, expected: expected, identity: self}
	if _, err := conn.Write(h.encode()); err != nil {
		return Identity{}, err
	}
	message, err := readSealed(conn)
	if err != nil {
		return Identity{}, err
	}
	w, err := decodeWelcome(message)
	if err != nil {
		return Identity{}, err
	}
	switch {
	case w.refused:
		return w.identity, &RefusedError{By: w.identity, Text: w.text}
	case w.version < versionMin || w.version > versionMax:
		return w.identity, &RefusedError{By: w.identity, Text: fmt.Sprintf("it chose version %d of the protocol between nodes, which is not spoken here", w.version)}
	case expected != anyBroker && w.identity.Broker != expected:
		return w.identity, &RefusedError{By: w.identity, Text: fmt.Sprintf("broker %d was expected there", expected)}
	case !sameCluster(self.ClusterID, w.identity.ClusterID):
		return w.identity, &RefusedError{By: w.identity, Text: otherCluster(self, w.identity)}
	}
	return w.identity, nil
}

// welcomePeer is the accepting side's handshake.
func welcomePeer(conn net.Conn, self func() Identity, servesData func() bool) (hello, Identity, error) {
	message, err := readSealed(conn)
	if err != nil {
		return hello{}, Identity{}, err
	}
	h, err := decodeHello(message)
	if err != nil {
		return hello{}, Identity{}, err
	}
	me := self()
	objection := h.objection(me, servesData())
	w := welcome{version: min(versionMax, h.versionMax), identity: me, refused: objection != "", text: objection}
	if _, err := conn.Write(w.encode()); err != nil {
		return h, me, err
	}
	if objection != "" {
		return h, me, &RefusedError{By: me, Text: objection}
	}
	return h, me, nil
}
