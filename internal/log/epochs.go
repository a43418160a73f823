package log

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"path"
	"slices"
	"sort"

	"chronik/internal/kafka"
)

// epochHistory is where each leader epoch began (KIP-101): epochs and offsets both ascend.
type epochHistory []EpochOffset

// last is the newest entry.
func (h epochHistory) last() EpochOffset {
	if len(h) == 0 {
		return EpochOffset{Epoch: kafka.NoLeaderEpoch, Offset: kafka.NoOffset}
	}
	return h[len(h)-1]
}

// assign notes that epoch begins at offset. Entries that contradict it go: an epoch that began there without a record is
// replaced. It tells whether anything changed.
func (h *epochHistory) assign(e EpochOffset) bool {
	if last := h.last(); len(*h) > 0 && last.Epoch == e.Epoch && e.Offset >= last.Offset {
		return false
	}
	for n := len(*h); n > 0 && ((*h)[n-1].Epoch >= e.Epoch || (*h)[n-1].Offset >= e.Offset); n-- {
		*h = (*h)[:n-1]
	}
	*h = append(*h, e)
	return true
}

// truncateEnd drops the epochs that begin at or behind end.
func (h *epochHistory) truncateEnd(end kafka.Offset) bool {
	n := sort.Search(len(*h), func(i int) bool { return (*h)[i].Offset >= end })
	changed := n < len(*h)
	*h = (*h)[:n]
	return changed
}

// truncateStart drops the epochs that end at or below start. The one that holds it keeps the offset where it began, so that
// one which begins at the log's end is never mistaken for it; who answers from it bears the log's start in mind.
func (h *epochHistory) truncateStart(start kafka.Offset) bool {
	n := sort.Search(len(*h), func(i int) bool { return (*h)[i].Offset > start })
	if n <= 1 {
		return false
	}
	*h = slices.Clone((*h)[n-1:])
	return true
}

// endOf answers where an epoch ended: the largest epoch not above it and the start of the next, as Kafka's
// OffsetForLeaderEpoch does (KIP-279).
func (h epochHistory) endOf(epoch kafka.LeaderEpoch, logStart, logEnd kafka.Offset) EpochOffset {
	none := EpochOffset{Epoch: kafka.NoLeaderEpoch, Offset: kafka.NoOffset}
	if epoch == kafka.NoLeaderEpoch || len(h) == 0 {
		return none
	}
	if h.last().Epoch == epoch {
		return EpochOffset{Epoch: epoch, Offset: logEnd}
	}
	higher := sort.Search(len(h), func(i int) bool { return h[i].Epoch > epoch })
	switch higher {
	case len(h):
		return none
	case 0: // older than anything known: whoever asks must begin where this log does
		return EpochOffset{Epoch: epoch, Offset: max(h[0].Offset, logStart)}
	}
	return EpochOffset{Epoch: h[higher-1].Epoch, Offset: h[higher].Offset}
}

// at is the epoch in which offset was written.
func (h epochHistory) at(offset kafka.Offset) kafka.LeaderEpoch {
	n := sort.Search(len(h), func(i int) bool { return h[i].Offset > offset })
	if n == 0 {
		return kafka.NoLeaderEpoch
	}
	return h[n-1].Epoch
}

// The file is a header, the entries and a checksum over all of it (docs/format/epochs.md).
const (
	epochsMagic      = "chronEPO"
	epochsVersion    = 1
	epochsHeaderSize = 24
	epochsEntrySize  = 12
)

// encode is the file of a history; the generation tells whether it knows of the last truncation.
func (h epochHistory) encode(generation uint64) []byte {
	b := append(make([]byte, 0, epochsHeaderSize+len(h)*epochsEntrySize+4), epochsMagic...)
	b = binary.BigEndian.AppendUint16(b, epochsVersion)
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(h)))
	b = binary.BigEndian.AppendUint64(b, generation)
	for _, e := range h {
		b = binary.BigEndian.AppendUint32(b, uint32(e.Epoch))
		b = binary.BigEndian.AppendUint64(b, uint64(e.Offset))
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeEpochs(b []byte) (h epochHistory, generation uint64, err error) {
	if err := checkWhole(b, epochsMagic, epochsVersion, epochsHeaderSize); err != nil {
		return nil, 0, err
	}
	n := binary.BigEndian.Uint32(b[12:])
	generation = binary.BigEndian.Uint64(b[16:])
	if int64(len(b)) != epochsHeaderSize+int64(n)*epochsEntrySize+4 {
		return nil, 0, fmt.Errorf("%d entries do not fit its size of %d bytes", n, len(b))
	}
	h = make(epochHistory, 0, n)
	for i := range int(n) {
		p := b[epochsHeaderSize+i*epochsEntrySize:]
		e := EpochOffset{Epoch: kafka.LeaderEpoch(binary.BigEndian.Uint32(p)), Offset: kafka.Offset(binary.BigEndian.Uint64(p[4:]))}
		if last := h.last(); e.Epoch < 0 || e.Offset < 0 || i > 0 && (e.Epoch <= last.Epoch || e.Offset <= last.Offset) {
			return nil, 0, fmt.Errorf("entry %d is out of order", i)
		}
		h = append(h, e)
	}
	return h, generation, nil
}

// checkWhole checks what all small files share: an 8-byte magic, a 2-byte version, and a CRC32C at the end over all
// before it.
func checkWhole(b []byte, magic string, version uint16, header int) error {
	switch {
	case len(b) < header+4:
		return fmt.Errorf("it is cut short: %d bytes", len(b))
	case string(b[:8]) != magic:
		return fmt.Errorf("it does not begin with %q", magic)
	case binary.BigEndian.Uint32(b[len(b)-4:]) != crc32.Checksum(b[:len(b)-4], castagnoli):
		return fmt.Errorf("its checksum does not fit")
	case binary.BigEndian.Uint16(b[8:]) != version:
		return fmt.Errorf("format version %d is not known; this program writes %d", binary.BigEndian.Uint16(b[8:]), version)
	}
	return nil
}

func (l *Log) epochsPath() string { return path.Join(l.o.Dir, epochsName) }

// syncEpochs writes the history out if it changed. A log without a directory has no more than one entry, which the store
// keeps: ten thousand empty partitions have no files. The caller holds the maintenance slot.
func (l *Log) syncEpochs() error {
	l.mu.Lock()
	dirty := l.mu.epochsDirty && l.mu.dirMade
	var b []byte
	if dirty {
		b = l.mu.epochs.encode(l.mu.generation)
		l.mu.epochsDirty = false
	}
	l.mu.Unlock()
	if !dirty {
		return nil
	}
	if err := l.writeWhole(l.epochsPath(), b); err != nil {
		l.mu.Lock()
		l.mu.epochsDirty = true
		l.mu.Unlock()
		return err
	}
	return nil
}

// EndOfEpoch is EndOffsetForEpoch on a history of its own, for models of logs.
func EndOfEpoch(history []EpochOffset, epoch kafka.LeaderEpoch, logStart, logEnd kafka.Offset) EpochOffset {
	return epochHistory(history).endOf(epoch, logStart, logEnd)
}
