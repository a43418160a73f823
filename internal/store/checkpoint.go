package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path"

	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/vfs"
	"chronik/internal/wal"
)

// checkpoint is the content of the file "checkpoint" (docs/format/checkpoint.md): where replay starts, and the synced
// state of every partition.
type checkpoint struct {
	clean      bool    // made by a clean shutdown: nothing is to be replayed, unless the WAL goes on behind it
	from       wal.LSN // the first record to replay
	partitions []checkpointEntry
}

type checkpointEntry struct {
	id kafka.TopicPartition
	partitionState
}

const (
	checkpointMagic     = 0x54504b434e524843 // "CHRNCKPT"
	checkpointVersion   = 1
	checkpointHeadSize  = 8 + 4 + 4 + 8 + 8
	checkpointEntrySize = 16 + 4 + 8 + stateSize + 4 + 8
)

func (c *checkpoint) encode() []byte {
	b := make([]byte, 0, checkpointHeadSize+len(c.partitions)*checkpointEntrySize+4)
	b = binary.LittleEndian.AppendUint64(b, checkpointMagic)
	b = binary.LittleEndian.AppendUint32(b, checkpointVersion)
	flags := uint32(0)
	if c.clean {
		flags = 1
	}
	b = binary.LittleEndian.AppendUint32(b, flags)
	b = binary.LittleEndian.AppendUint64(b, uint64(c.from))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(c.partitions)))
	for i := range c.partitions {
		e := &c.partitions[i]
		b = append(b, e.id.Topic[:]...)
		b = binary.LittleEndian.AppendUint32(b, uint32(e.id.Partition))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.created))
		b = appendState(b, e.synced)
		b = binary.LittleEndian.AppendUint32(b, uint32(e.epoch.Epoch))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.epoch.Offset))
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeCheckpoint(b []byte) (*checkpoint, error) {
	if len(b) < checkpointHeadSize+4 || binary.LittleEndian.Uint64(b) != checkpointMagic {
		return nil, errors.New("it is not a chronik checkpoint")
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, errors.New("its checksum is wrong: the file is damaged")
	}
	d := decoder{b: body[8:]}
	if v := d.u32(); v != checkpointVersion {
		return nil, fmt.Errorf("format version %d, this program reads version %d", v, checkpointVersion)
	}
	c := &checkpoint{clean: d.u32() == 1, from: wal.LSN(d.u64())}
	n := d.u64()
	if n > uint64(len(d.b)/checkpointEntrySize) || c.from == 0 {
		return nil, errors.New("its counts are impossible: the file is damaged")
	}
	c.partitions = make([]checkpointEntry, n)
	for i := range c.partitions {
		e := &c.partitions[i]
		copy(e.id.Topic[:], d.take(16))
		e.id.Partition = int32(d.u32())
		e.created = wal.LSN(d.u64())
		e.synced = d.state()
		e.epoch = log.EpochOffset{Epoch: kafka.LeaderEpoch(d.u32()), Offset: kafka.Offset(d.u64())}
	}
	if d.bad || len(d.b) > 0 {
		return nil, errors.New("its entries are impossible: the file is damaged")
	}
	return c, nil
}

func readCheckpoint(fsys vfs.FS, dir string) (*checkpoint, error) {
	name := path.Join(dir, checkpointName)
	b, err := readFile(fsys, name)
	if err != nil {
		return nil, err
	}
	c, err := decodeCheckpoint(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}
