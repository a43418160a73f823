package stream

import (
	"bytes"
	"testing"

	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/peer"
	"chronik/internal/replica"
)

// FuzzFrames: no body makes a decoder panic or allocate more than it is long, and what decodes encodes to the same bytes.
func FuzzFrames(f *testing.F) {
	f.Add(frameFollow, follow{session: 1, id: partitionID(3), leaderEpoch: 2, logEnd: 10, lastEpoch: -1, brokerEpoch: 7}.appendTo(nil))
	f.Add(frameStop, appendStop(nil, 9))
	f.Add(frameAck, ack{1, 2, 3, 4}.appendTo(ack{5, 6, 7, 8}.appendTo(nil)))
	f.Add(frameTruncate, truncate{1, 2, replica.EpochEnd{Epoch: 1, End: 5}}.appendTo(nil))
	f.Add(frameReset, reset{1, 2, replica.Reset{Offset: 5, Epochs: []log.EpochOffset{{Epoch: 1, Offset: 2}}, Producers: []byte("p")}}.appendTo(nil))
	head := make([]byte, appendSize)
	appended{1, 2, 3, 4, 5}.put(head)
	f.Add(frameAppend, append(head, "batches"...))
	f.Add(frameWatermark, watermark{1, 2, 3, 4}.appendTo(nil))
	f.Add(frameRefuse, refuse{1, 2, kafka.ErrNotLeaderOrFollower.Code, "text"}.appendTo(nil))
	f.Add(frameMove, move{1, peer.CatchUp}.appendTo(nil))
	f.Add(frameStretch, stretch{1, 2, 3, 4, log.Stretch{From: 5, Next: 9, Epochs: []log.EpochOffset{{Epoch: 1, Offset: 6}}, Deletes: 7, Batches: []byte("batches")}}.appendTo(nil))
	f.Fuzz(func(t *testing.T, typ byte, b []byte) {
		if again, err := recode(typ, b); err == nil && !bytes.Equal(again, b) {
			t.Fatalf("frame %d: %x became %x", typ, b, again)
		}
	})
}

func recode(typ byte, b []byte) ([]byte, error) {
	switch typ {
	case frameFollow:
		m, err := decodeFollow(b)
		return m.appendTo(nil), err
	case frameStop:
		m, err := decodeStop(b)
		return appendStop(nil, m), err
	case frameAck:
		if err := checkAcks(b); err != nil {
			return nil, err
		}
		var out []byte
		for rest := b; len(rest) > 0; {
			var m ack
			m, rest = nextAck(rest)
			out = m.appendTo(out)
		}
		return out, nil
	case frameTruncate:
		m, err := decodeTruncate(b)
		return m.appendTo(nil), err
	case frameReset:
		m, err := decodeReset(b)
		return m.appendTo(nil), err
	case frameAppend:
		m, batches, err := decodeAppend(b)
		if err != nil {
			return nil, err
		}
		head := make([]byte, appendSize)
		m.put(head)
		return append(head, batches...), nil
	case frameStretch:
		m, err := decodeStretch(b)
		return m.appendTo(nil), err
	case frameWatermark:
		if err := checkWatermarks(b); err != nil {
			return nil, err
		}
		var out []byte
		for rest := b; len(rest) > 0; {
			var m watermark
			m, rest = nextWatermark(rest)
			out = m.appendTo(out)
		}
		return out, nil
	case frameRefuse:
		m, err := decodeRefuse(b)
		return m.appendTo(nil), err
	case frameMove:
		m, err := decodeMove(b)
		return m.appendTo(nil), err
	}
	return b, nil
}
