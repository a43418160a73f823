package grouplog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// readAssignment reads the record of a member's current assignment (KIP-848, kind 8), which kmsg does not know; nil for a
// tombstone. What the member has to give up and has not released counts as its own. It is written from Kafka's schema, not
// from the code that it checks.
func readAssignment(key, value []byte, topic [16]byte) (group, member string, a *Assignment, err error) {
	k := fields{rest: key[2:]}
	group, member = k.short(), k.short()
	if k.err != nil || len(k.rest) != 0 {
		return "", "", nil, fmt.Errorf("key %q of a member's assignment: %v, %d bytes too many", key, k.err, len(k.rest))
	}
	if value == nil {
		return group, member, nil, nil
	}
	v := fields{rest: value}
	version := v.int16()
	a = &Assignment{Epoch: v.int32(), Since: map[int32]int32{}}
	v.int32() // the epoch before
	v.take(1) // its state
	v.topics(a, topic)
	a.Given = slices.Sorted(slices.Values(a.Partitions))
	v.topics(a, topic) // what it gives up
	slices.Sort(a.Partitions)
	if v.err != nil || version > 1 {
		return group, member, nil, fmt.Errorf("value %q of a member's assignment, version %d: %v", value, version, v.err)
	}
	return group, member, a, nil
}

// fields reads one field after the other; an error stays.
type fields struct {
	rest []byte
	err  error
}

var errShort = errors.New("it ends too soon")

func (f *fields) take(n int) []byte {
	if f.err != nil || n < 0 || n > len(f.rest) {
		f.err = errShort
		return make([]byte, 16)[:max(0, min(n, 16))]
	}
	b := f.rest[:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) int16() int16 { return int16(binary.BigEndian.Uint16(f.take(2))) }
func (f *fields) int32() int32 { return int32(binary.BigEndian.Uint32(f.take(4))) }

func (f *fields) short() string { return string(f.take(int(f.int16()))) }

func (f *fields) uvarint() int {
	v, n := binary.Uvarint(f.rest)
	if n <= 0 || v > 1<<20 {
		f.err = errShort
		return 0
	}
	f.rest = f.rest[n:]
	return int(v)
}

// topics adds the partitions of an array of topics. Tag 0 says since when (KIP-1251).
func (f *fields) topics(a *Assignment, topic [16]byte) {
	for range f.uvarint() - 1 {
		id := [16]byte(f.take(16))
		var partitions []int32
		for range f.uvarint() - 1 {
			partitions = append(partitions, f.int32())
		}
		since := slices.Repeat([]int32{a.Epoch}, len(partitions))
		for range f.uvarint() {
			tag, content := f.uvarint(), fields{}
			content.rest = f.take(f.uvarint())
			if n := 0; tag == 0 {
				for range content.uvarint() - 1 {
					if n < len(since) {
						since[n] = content.int32()
					}
					n++
				}
			}
		}
		if f.err != nil {
			return
		}
		for i, p := range partitions {
			if topic != [16]byte{} && id != topic {
				a.Others = append(a.Others, Other{id, p, since[i]})
				continue
			}
			a.Partitions = append(a.Partitions, p)
			a.Since[p] = since[i]
		}
	}
}

// readMember reads what a member of a consumer group is (kind 5); the client ID is empty for a tombstone.
func readMember(key, value []byte) (group, member, instance, clientID string, err error) {
	k := fields{rest: key[2:]}
	group, member = k.short(), k.short()
	if k.err != nil || value == nil {
		return group, member, "", "", k.err
	}
	v := fields{rest: value}
	v.int16()
	instance = v.compact()
	v.compact() // rack
	clientID = v.compact()
	return group, member, instance, clientID, v.err
}

// readEpoch reads the epoch of a consumer group (kind 3); 0 for a tombstone.
func readEpoch(key, value []byte) (group string, epoch int32, err error) {
	k := fields{rest: key[2:]}
	group = k.short()
	if k.err != nil || value == nil {
		return group, 0, k.err
	}
	v := fields{rest: value}
	v.int16()
	epoch = v.int32()
	return group, epoch, v.err
}

// compact reads a compact string; null is empty.
func (f *fields) compact() string { return string(f.take(max(0, f.uvarint()-1))) }
