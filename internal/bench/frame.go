package bench

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"chronik/internal/record"
)

// The versions that the raw driver speaks: the last before flexible encoding, so that frames can be patched in place.
const (
	produceVersion = 8
	fetchVersion   = 11
)

// makeBatch builds a batch of o.BatchSize records whose values are random text: codecs find something to do in them, and
// no two connections send the same bytes. Where the topic is compacted each record of a batch has a key of its own, the
// connection's.
func makeBatch(o *Options, codecs *record.Codecs, seed uint64) ([]byte, error) {
	rng := rand.New(rand.NewPCG(seed, 1))
	b := record.NewBuilder()
	b.Codec = o.Codec
	now := time.Now().UnixMilli()
	value := make([]byte, o.RecordBytes)
	for n := range o.BatchSize {
		for i := range value {
			value[i] = " etaoinshrdlucmf"[rng.Uint32()&15]
		}
		var key []byte
		if o.keys {
			key = fmt.Appendf(nil, "%x-%d", seed, n)
		}
		b.Add(now, key, value)
	}
	batch, err := b.AppendTo(nil, codecs)
	if err != nil {
		return nil, fmt.Errorf("bench: build a batch: %w", err)
	}
	return batch, nil
}

// header appends a frame's size (patched by sized), and a request header v1 with an empty client ID.
func header(dst []byte, key, version int16) []byte {
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(key))
	dst = binary.BigEndian.AppendUint16(dst, uint16(version))
	dst = append(dst, 0, 0, 0, 0) // correlation ID
	return append(dst, 0, 0)
}

func sized(frame []byte) []byte {
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	return frame
}

func appendString(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

// produceFrame is a whole Produce request for one batch, and where in it the partition's number stands.
func produceFrame(topic string, partition int32, acks int16, batch []byte) (frame []byte, partitionAt int) {
	f := header(nil, 0, produceVersion)
	f = append(f, 0xff, 0xff) // no transactional ID
	f = binary.BigEndian.AppendUint16(f, uint16(acks))
	f = binary.BigEndian.AppendUint32(f, 30_000)
	f = binary.BigEndian.AppendUint32(f, 1)
	f = appendString(f, topic)
	f = binary.BigEndian.AppendUint32(f, 1)
	partitionAt = len(f)
	f = binary.BigEndian.AppendUint32(f, uint32(partition))
	f = binary.BigEndian.AppendUint32(f, uint32(len(batch)))
	return sized(append(f, batch...)), partitionAt
}

// fetchFrame is a whole Fetch request for one partition; setOffset patches where it starts.
func fetchFrame(topic string, partition, maxBytes int32) (frame []byte, setOffset func(int64)) {
	f := header(nil, 1, fetchVersion)
	f = binary.BigEndian.AppendUint32(f, 0xffffffff) // a consumer
	f = binary.BigEndian.AppendUint32(f, 500)        // max wait
	f = binary.BigEndian.AppendUint32(f, 1)          // min bytes
	f = binary.BigEndian.AppendUint32(f, uint32(maxBytes))
	f = append(f, 0)                                 // read uncommitted
	f = binary.BigEndian.AppendUint32(f, 0)          // no session
	f = binary.BigEndian.AppendUint32(f, 0xffffffff) // and none to be made
	f = binary.BigEndian.AppendUint32(f, 1)
	f = appendString(f, topic)
	f = binary.BigEndian.AppendUint32(f, 1)
	f = binary.BigEndian.AppendUint32(f, uint32(partition))
	f = binary.BigEndian.AppendUint32(f, 0xffffffff) // any leader epoch
	at := len(f)
	f = binary.BigEndian.AppendUint64(f, 0)
	f = binary.BigEndian.AppendUint64(f, ^uint64(0)) // log start is for followers
	f = binary.BigEndian.AppendUint32(f, uint32(maxBytes))
	f = binary.BigEndian.AppendUint32(f, 0) // nothing forgotten
	f = appendString(f, "")
	return sized(f), func(offset int64) { binary.BigEndian.PutUint64(f[at:], uint64(offset)) }
}

// readFrame reads one response into buf, which grows as needed.
func readFrame(r *bufio.Reader, buf []byte) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return buf, err
	}
	n := int(binary.BigEndian.Uint32(size[:]))
	if n > 1<<30 {
		return buf, fmt.Errorf("a response claims %d bytes", n)
	}
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	_, err := io.ReadFull(r, buf)
	return buf, err
}

// produceError is the error of a Produce response of one partition.
func produceError(response []byte, topic string) error {
	at := 4 + 4 + 2 + len(topic) + 4 + 4
	if len(response) < at+10 {
		return fmt.Errorf("a Produce response of %d bytes is too short", len(response))
	}
	return kerr.ErrorForCode(int16(binary.BigEndian.Uint16(response[at:])))
}

// fetched are the records of a Fetch response of one partition.
func fetched(response []byte, topic string) (records []byte, highWatermark int64, err error) {
	at := 4 + 4
	if len(response) < at+2+4+4+2+len(topic)+4+4+2+24+4 {
		return nil, 0, fmt.Errorf("a Fetch response of %d bytes is too short", len(response))
	}
	if err := kerr.ErrorForCode(int16(binary.BigEndian.Uint16(response[at:]))); err != nil {
		return nil, 0, err
	}
	at += 2 + 4 + 4 + 2 + len(topic) + 4 + 4
	if err := kerr.ErrorForCode(int16(binary.BigEndian.Uint16(response[at:]))); err != nil {
		return nil, 0, err
	}
	highWatermark = int64(binary.BigEndian.Uint64(response[at+2:]))
	at += 2 + 24
	if aborted := int32(binary.BigEndian.Uint32(response[at:])); aborted > 0 {
		at += 16 * int(aborted)
	}
	at += 4 + 4
	if len(response) < at+4 {
		return nil, 0, fmt.Errorf("a Fetch response of %d bytes is too short", len(response))
	}
	return response[at+4:], highWatermark, nil
}
