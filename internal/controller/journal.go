package controller

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	raftpb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"chronik/internal/wal"
)

// journal is where the loop makes things durable: the metadata WAL, or memory in tests of others. Payloads become
// durable in the order of write; the journal reports how many are.
type journal interface {
	// write hands over a payload, which may be reused afterwards. It returns the payload's position. An error is final.
	write(payload []byte) (wal.LSN, error)
	// release tells that nothing before the position is needed any more.
	release(position wal.LSN)
	// syncAge is how long the sync that runs takes already; 0 if none runs. Any goroutine may ask.
	syncAge() time.Duration
	close() error
}

// The kinds of payloads, after a byte with the version of their format; docs/format/metadata-wal.md has them.
const (
	payloadVersion = 1

	payloadAppend        = 1 // hard state and entries, as Raft handed them out together
	payloadSnapshotBegin = 2
	payloadSnapshotChunk = 3
	payloadSnapshotEnd   = 4
)

var errPayload = errors.New("damaged metadata WAL payload")

// appendAppend encodes what one MsgStorageAppend asks for. Of the entries, one that is not there in full replaces what the
// log had from its index on.
func appendAppend(dst []byte, hardState *raftpb.HardState, entries []*raftpb.Entry) ([]byte, error) {
	dst = append(dst, payloadVersion, payloadAppend)
	var err error
	if dst, err = appendMessage(dst, hardState); err != nil {
		return nil, err
	}
	dst = binary.AppendUvarint(dst, uint64(len(entries)))
	for _, e := range entries {
		if dst, err = appendMessage(dst, e); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

func appendMessage(dst []byte, m proto.Message) ([]byte, error) {
	dst = binary.AppendUvarint(dst, uint64(proto.Size(m)))
	dst, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(dst, m)
	if err != nil {
		return nil, fmt.Errorf("encode for the metadata WAL: %w", err)
	}
	return dst, nil
}

// snapshotInstalled is the flag of a snapshot that another node sent: it replaces all entries before it. One that this
// node made keeps those above its index.
const snapshotInstalled = 1

// appendSnapshotBegin announces a snapshot, whose chunks and end follow; appends may stand in between. The hard state
// is the newest one, so that nothing before this payload is needed but entries above the index.
func appendSnapshotBegin(dst []byte, flags uint64, meta *raftpb.SnapshotMetadata, hardState *raftpb.HardState) ([]byte, error) {
	dst = append(dst, payloadVersion, payloadSnapshotBegin)
	dst = binary.AppendUvarint(dst, flags)
	dst, err := appendMessage(dst, meta)
	if err != nil {
		return nil, err
	}
	return appendMessage(dst, hardState)
}

func appendSnapshotChunk(dst []byte, index uint64, chunk []byte) []byte {
	dst = append(dst, payloadVersion, payloadSnapshotChunk)
	dst = binary.AppendUvarint(dst, index)
	return append(dst, chunk...)
}

func appendSnapshotEnd(dst []byte, index uint64) []byte {
	dst = append(dst, payloadVersion, payloadSnapshotEnd)
	return binary.AppendUvarint(dst, index)
}

// payloadReader reads a payload from the front; the first error stays.
type payloadReader struct {
	rest []byte
	err  error
}

func (r *payloadReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: "+format, append([]any{errPayload}, args...)...)
	}
	r.rest = nil
}

func (r *payloadReader) kind() byte {
	if len(r.rest) < 2 {
		r.fail("it has %d bytes", len(r.rest))
		return 0
	}
	version, kind := r.rest[0], r.rest[1]
	r.rest = r.rest[2:]
	if version != payloadVersion {
		r.fail("format version %d, this chronik reads version %d", version, payloadVersion)
	}
	return kind
}

func (r *payloadReader) uvarint() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.fail("a number is cut off")
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *payloadReader) message(m proto.Message) {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.fail("a message of %d bytes is cut off after %d", n, len(r.rest))
		return
	}
	if err := proto.Unmarshal(r.rest[:n], m); err != nil {
		r.fail("%w", err)
		return
	}
	r.rest = r.rest[n:]
}

// end is the first error, also where something is left over.
func (r *payloadReader) end() error {
	if len(r.rest) > 0 {
		r.fail("%d bytes too many", len(r.rest))
	}
	return r.err
}
