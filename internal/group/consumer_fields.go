package group

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kbin"

	"chronik/internal/group/assign"
	"chronik/internal/kafka"
)

// fields reads a key or a value of a consumer group's record. What goes wrong first is kept.
type fields struct {
	kbin.Reader
	err error
}

var errShort = errors.New("the record is cut off, or longer than its fields")

func fieldsOf(b []byte) *fields { return &fields{Reader: kbin.Reader{Src: b}} }

// valueOf begins to read a value; other versions than 0 are not known.
func valueOf(b []byte) *fields {
	f := fieldsOf(b)
	if version := f.Int16(); version != 0 && f.Ok() {
		f.err = fmt.Errorf("value of version %d", version)
	}
	return f
}

// done says whether everything could be read.
func (f *fields) done() error {
	switch {
	case f.err != nil:
		return f.err
	case !f.Ok(), len(f.Src) > 0:
		return errShort
	}
	return nil
}

// tags reads tagged fields; those that read, which may be nil, does not know are passed over.
func (f *fields) tags(read func(number uint32, content *fields)) {
	for n := f.Uvarint(); n > 0 && f.Ok(); n-- {
		number, size := f.Uvarint(), f.Uvarint()
		content := fieldsOf(f.Span(int(size)))
		if !f.Ok() || read == nil {
			continue
		}
		read(number, content)
		if f.err == nil && (content.err != nil || !content.Ok()) {
			f.err = errShort
		}
	}
}

// items reads an array. The lengths of arrays are bounded by the bytes that are left.
func (f *fields) items(read func()) {
	for n := f.CompactArrayLen(); n > 0 && f.Ok() && f.err == nil; n-- {
		read()
	}
}

func (f *fields) strings() (out []string) {
	f.items(func() { out = append(out, f.CompactString()) })
	return out
}

func (f *fields) ints() (out []int32) {
	f.items(func() { out = append(out, f.Int32()) })
	return out
}

func (f *fields) assignment() (out assign.Assignment) {
	f.items(func() {
		out = append(out, assign.TopicPartitions{Topic: kafka.TopicID(f.Uuid()), Partitions: f.ints()})
		f.tags(nil)
	})
	return normalized(out)
}

// held reads partitions with the epochs in which they were given; where the record does not say, it was in this one.
func (f *fields) held(epoch int32) held {
	var out held
	f.items(func() {
		t := heldTopic{topic: kafka.TopicID(f.Uuid()), partitions: f.ints()}
		f.tags(func(number uint32, content *fields) {
			if number == tagEpochs {
				t.epochs = content.ints()
			}
		})
		out = append(out, t)
	})
	plain := make(assign.Assignment, 0, len(out))
	epochs := map[kafka.TopicPartition]int32{}
	for _, t := range out {
		plain = append(plain, assign.TopicPartitions{Topic: t.topic, Partitions: t.partitions})
		for i, p := range t.partitions {
			if len(t.epochs) == len(t.partitions) {
				epochs[kafka.TopicPartition{Topic: t.topic, Partition: p}] = t.epochs[i]
			}
		}
	}
	h := heldAt(normalized(plain), epoch)
	for i := range h {
		for j, p := range h[i].partitions {
			if e, ok := epochs[kafka.TopicPartition{Topic: h[i].topic, Partition: p}]; ok {
				h[i].epochs[j] = e
			}
		}
	}
	return h
}
