package stream

import (
	"encoding/binary"
	"fmt"

	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/peer"
	"chronik/internal/replica"
)

// The types of frames; docs/format/stream.md. Numbers are little-endian and of fixed size. peer gives each frame its length
// and CRC.
const (
	frameFollow byte = 1 // follower to leader
	frameStop   byte = 2
	frameAck    byte = 3

	frameTruncate  byte = 16 // leader to follower
	frameReset     byte = 17
	frameAppend    byte = 18
	frameWatermark byte = 19
	frameRefuse    byte = 20
	frameMove      byte = 21
	frameStretch   byte = 22
)

// sessionID numbers the Follows of a process, upwards from 1, over all its connections: of two Follows of one partition the
// later one has the higher number, whichever connection is faster.
type sessionID uint64

const (
	followSize    = 8 + 16 + 4 + 4 + 8 + 4 + 8
	stopSize      = 8
	ackSize       = 8 + 4 + 8 + 8
	truncateSize  = 8 + 4 + 4 + 8
	resetSize     = 8 + 4 + 8 + 4
	appendSize    = 8 + 4 + 8 + 8 + 8
	watermarkSize = 8 + 4 + 8 + 8
	refuseSize    = 8 + 4 + 2
	moveSize      = 8 + 1
	stretchSize   = 8 + 4 + 8 + 8 + 8 + 8 + 8 + 4

	refuseTextMax = 1000
	epochsMax     = 1 << 20
)

// follow starts a session, or resumes after one.
type follow struct {
	session     sessionID
	id          kafka.TopicPartition
	leaderEpoch kafka.LeaderEpoch
	logEnd      kafka.Offset
	lastEpoch   kafka.LeaderEpoch
	brokerEpoch kafka.BrokerEpoch
}

func (m follow) appendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(m.session))
	b = append(b, m.id.Topic[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(m.id.Partition))
	b = binary.LittleEndian.AppendUint32(b, uint32(m.leaderEpoch))
	b = binary.LittleEndian.AppendUint64(b, uint64(m.logEnd))
	b = binary.LittleEndian.AppendUint32(b, uint32(m.lastEpoch))
	return binary.LittleEndian.AppendUint64(b, uint64(m.brokerEpoch))
}

func decodeFollow(b []byte) (m follow, err error) {
	d, err := exactly(b, followSize, "Follow")
	if err != nil {
		return m, err
	}
	m.session = d.session()
	copy(m.id.Topic[:], d.bytes(16))
	m.id.Partition = int32(d.u32())
	m.leaderEpoch, m.logEnd = d.epoch(), d.offset()
	m.lastEpoch, m.brokerEpoch = d.epoch(), kafka.BrokerEpoch(d.u64())
	if m.session == 0 || m.id.Partition < 0 || m.leaderEpoch < 0 || m.logEnd < 0 || m.lastEpoch < kafka.NoLeaderEpoch {
		return m, fmt.Errorf("a frame Follow with impossible values: %+v", m)
	}
	return m, nil
}

// appendStop encodes that a session is over: the follower wants nothing of it any more.
func appendStop(b []byte, id sessionID) []byte {
	return binary.LittleEndian.AppendUint64(b, uint64(id))
}

func decodeStop(b []byte) (sessionID, error) {
	d, err := exactly(b, stopSize, "Stop")
	if err != nil {
		return 0, err
	}
	return d.session(), nil
}

// ack says what of a session's partition is on the follower's disk. A frame holds one or more.
type ack struct {
	session     sessionID
	leaderEpoch kafka.LeaderEpoch
	durable     kafka.Offset
	logStart    kafka.Offset
}

func (m ack) appendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(m.session))
	b = binary.LittleEndian.AppendUint32(b, uint32(m.leaderEpoch))
	b = binary.LittleEndian.AppendUint64(b, uint64(m.durable))
	return binary.LittleEndian.AppendUint64(b, uint64(m.logStart))
}

// checkAcks makes nextAck safe.
func checkAcks(b []byte) error { return several(b, ackSize, "Ack") }

func nextAck(b []byte) (m ack, rest []byte) {
	d := fields(b)
	m.session, m.leaderEpoch = d.session(), d.epoch()
	m.durable, m.logStart = d.offset(), d.offset()
	return m, d
}

// truncate tells where the follower's log went another way: it cuts and follows again.
type truncate struct {
	session     sessionID
	leaderEpoch kafka.LeaderEpoch
	to          replica.EpochEnd
}

func (m truncate) appendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(m.session))
	b = binary.LittleEndian.AppendUint32(b, uint32(m.leaderEpoch))
	b = binary.LittleEndian.AppendUint32(b, uint32(m.to.Epoch))
	return binary.LittleEndian.AppendUint64(b, uint64(m.to.End))
}

func decodeTruncate(b []byte) (m truncate, err error) {
	d, err := exactly(b, truncateSize, "Truncate")
	if err != nil {
		return m, err
	}
	m.session, m.leaderEpoch = d.session(), d.epoch()
	m.to.Epoch, m.to.End = d.epoch(), d.offset()
	return m, nil
}

// reset makes the follower drop everything and start where the leader's log does.
type reset struct {
	session     sessionID
	leaderEpoch kafka.LeaderEpoch
	start       replica.Reset
}

func (m reset) appendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(m.session))
	b = binary.LittleEndian.AppendUint32(b, uint32(m.leaderEpoch))
	b = binary.LittleEndian.AppendUint64(b, uint64(m.start.Offset))
	return append(appendEpochs(b, m.start.Epochs), m.start.Producers...)
}

func appendEpochs(b []byte, epochs []log.EpochOffset) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(epochs)))
	for _, e := range epochs {
		b = binary.LittleEndian.AppendUint32(b, uint32(e.Epoch))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.Offset))
	}
	return b
}

// decodeReset copies what it keeps.
func decodeReset(b []byte) (m reset, err error) {
	if len(b) < resetSize {
		return m, errSize(b, "Reset")
	}
	d := fields(b)
	m.session, m.leaderEpoch = d.session(), d.epoch()
	m.start.Offset = d.offset()
	var ok bool
	if m.start.Epochs, ok = d.epochs(); !ok || m.start.Offset < 0 {
		return m, fmt.Errorf("a frame Reset of %d bytes with impossible values: log start %d", len(b), m.start.Offset)
	}
	m.start.Producers = append([]byte(nil), d...)
	return m, nil
}

// appended is the head of an Append; the batches follow it.
type appended struct {
	session       sessionID
	leaderEpoch   kafka.LeaderEpoch
	base          kafka.Offset
	highWatermark kafka.Offset
	logStart      kafka.Offset
}

// put writes the head into the room that was left for it.
func (m appended) put(b []byte) {
	binary.LittleEndian.PutUint64(b, uint64(m.session))
	binary.LittleEndian.PutUint32(b[8:], uint32(m.leaderEpoch))
	binary.LittleEndian.PutUint64(b[12:], uint64(m.base))
	binary.LittleEndian.PutUint64(b[20:], uint64(m.highWatermark))
	binary.LittleEndian.PutUint64(b[28:], uint64(m.logStart))
}

// decodeAppend returns the batches too; they point into b.
func decodeAppend(b []byte) (m appended, batches []byte, err error) {
	if len(b) <= appendSize {
		return m, nil, errSize(b, "Append")
	}
	d := fields(b)
	m.session, m.leaderEpoch = d.session(), d.epoch()
	m.base, m.highWatermark, m.logStart = d.offset(), d.offset(), d.offset()
	return m, d, nil
}

// watermark tells a session's high watermark and log start where no Append does. A frame holds one or more.
type watermark struct {
	session       sessionID
	leaderEpoch   kafka.LeaderEpoch
	highWatermark kafka.Offset
	logStart      kafka.Offset
}

func (m watermark) appendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(m.session))
	b = binary.LittleEndian.AppendUint32(b, uint32(m.leaderEpoch))
	b = binary.LittleEndian.AppendUint64(b, uint64(m.highWatermark))
	return binary.LittleEndian.AppendUint64(b, uint64(m.logStart))
}

// checkWatermarks makes nextWatermark safe.
func checkWatermarks(b []byte) error { return several(b, watermarkSize, "Watermark") }

func nextWatermark(b []byte) (m watermark, rest []byte) {
	d := fields(b)
	m.session, m.leaderEpoch = d.session(), d.epoch()
	m.highWatermark, m.logStart = d.offset(), d.offset()
	return m, d
}

// refuse ends a session, or does not begin one. leaderEpoch is the refusing node's.
type refuse struct {
	session     sessionID
	leaderEpoch kafka.LeaderEpoch
	code        int16
	text        string
}

func (m refuse) appendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(m.session))
	b = binary.LittleEndian.AppendUint32(b, uint32(m.leaderEpoch))
	b = binary.LittleEndian.AppendUint16(b, uint16(m.code))
	return append(b, m.text[:min(len(m.text), refuseTextMax)]...)
}

func decodeRefuse(b []byte) (m refuse, err error) {
	if len(b) < refuseSize || len(b) > refuseSize+refuseTextMax {
		return m, errSize(b, "Refuse")
	}
	d := fields(b)
	m.session, m.leaderEpoch = d.session(), d.epoch()
	m.code = int16(d.u16())
	m.text = string(d)
	return m, nil
}

// move sends a partition to the other connection: the follower follows anew there.
type move struct {
	session sessionID
	to      peer.Kind
}

func (m move) appendTo(b []byte) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(m.session)), byte(m.to))
}

func decodeMove(b []byte) (m move, err error) {
	d, err := exactly(b, moveSize, "Move")
	if err != nil {
		return m, err
	}
	m.session, m.to = d.session(), peer.Kind(d.bytes(1)[0])
	if m.to != peer.Hot && m.to != peer.CatchUp {
		return m, fmt.Errorf("a frame Move to a connection of kind %d", m.to)
	}
	return m, nil
}

// stretch is an Append of a log that compaction left gaps in, or took deletions from: it says where it begins, which its
// batches, if there are any, do not tell.
type stretch struct {
	session       sessionID
	leaderEpoch   kafka.LeaderEpoch
	highWatermark kafka.Offset
	logStart      kafka.Offset
	log.Stretch
}

func (m stretch) appendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(m.session))
	b = binary.LittleEndian.AppendUint32(b, uint32(m.leaderEpoch))
	b = binary.LittleEndian.AppendUint64(b, uint64(m.From))
	b = binary.LittleEndian.AppendUint64(b, uint64(m.Next))
	b = binary.LittleEndian.AppendUint64(b, uint64(m.highWatermark))
	b = binary.LittleEndian.AppendUint64(b, uint64(m.logStart))
	b = binary.LittleEndian.AppendUint64(b, uint64(m.Deletes))
	return append(appendEpochs(b, m.Epochs), m.Batches...)
}

// decodeStretch returns batches that point into b.
func decodeStretch(b []byte) (m stretch, err error) {
	if len(b) < stretchSize {
		return m, errSize(b, "Stretch")
	}
	d := fields(b)
	m.session, m.leaderEpoch = d.session(), d.epoch()
	m.From, m.Next = d.offset(), d.offset()
	m.highWatermark, m.logStart = d.offset(), d.offset()
	m.Deletes = d.offset()
	var ok bool
	if m.Epochs, ok = d.epochs(); !ok || m.From < 0 || m.Next <= m.From || m.Deletes < 0 {
		return m, fmt.Errorf("a frame Stretch of %d bytes with impossible values: from %d to %d, deletions %d", len(b), m.From, m.Next, m.Deletes)
	}
	m.Batches = d
	return m, nil
}

func exactly(b []byte, size int, name string) (fields, error) {
	if len(b) != size {
		return nil, errSize(b, name)
	}
	return b, nil
}

func several(b []byte, size int, name string) error {
	if len(b) == 0 || len(b)%size != 0 {
		return errSize(b, name)
	}
	return nil
}

func errSize(b []byte, name string) error {
	return fmt.Errorf("a frame %s of %d bytes", name, len(b))
}

// fields reads fixed fields from bytes whose length was checked.
type fields []byte

func (d *fields) bytes(n int) []byte {
	b := (*d)[:n]
	*d = (*d)[n:]
	return b
}

// epochs reads a count and so many epochs; false if there are fewer.
func (d *fields) epochs() (epochs []log.EpochOffset, ok bool) {
	n := int64(d.u32())
	if n > epochsMax || n*12 > int64(len(*d)) {
		return nil, false
	}
	for range n {
		epochs = append(epochs, log.EpochOffset{Epoch: d.epoch(), Offset: d.offset()})
	}
	return epochs, true
}

func (d *fields) u16() uint16              { return binary.LittleEndian.Uint16(d.bytes(2)) }
func (d *fields) u32() uint32              { return binary.LittleEndian.Uint32(d.bytes(4)) }
func (d *fields) u64() uint64              { return binary.LittleEndian.Uint64(d.bytes(8)) }
func (d *fields) session() sessionID       { return sessionID(d.u64()) }
func (d *fields) epoch() kafka.LeaderEpoch { return kafka.LeaderEpoch(int32(d.u32())) }
func (d *fields) offset() kafka.Offset     { return kafka.Offset(d.u64()) }
