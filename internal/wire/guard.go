package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// GuardLimits bound what a request may make of the bytes that it sent.
type GuardLimits struct {
	// MaxDecoded is the most memory that the decoded request may take beside its frame, in bytes.
	MaxDecoded int64
	// Free bytes of decoded memory are granted to every request; beyond them it may take Amplification bytes for every
	// byte of its body. The leanest honest element (a topic's name in Metadata) needs a little over ten.
	Free          int64
	Amplification int64
	// MaxTags bounds the tagged fields of one structure. Kafka defines fewer than ten anywhere.
	MaxTags int64
}

// DefaultGuardLimits are the limits without a configuration.
func DefaultGuardLimits() GuardLimits {
	return GuardLimits{MaxDecoded: 32 << 20, Free: 64 << 10, Amplification: 16, MaxTags: 64}
}

// Cost is what the guard found a request to need once decoded.
type Cost struct {
	Decoded    int64 // bytes that kmsg will allocate for elements, strings and unknown tags, rounded up
	HoldsFrame bool  // the decoded request points into the frame (records, opaque bytes, unknown tags)
	Consumed   int   // bytes of the body that the fields take; what follows is ignored, as Kafka does
}

// ErrNoSchema means that the guard cannot vouch for the request, so nobody may decode it.
var ErrNoSchema = errors.New("no schema for this API key and version")

// Refusal says why the guard refused a request.
type Refusal struct {
	Key, Version int16
	Offset       int // bytes into the body
	Reason       string
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("request refused: %s version %d: %s at byte %d of the body", KeyName(r.Key), r.Version, r.Reason, r.Offset)
}

// What one unknown tag costs kmsg (a map entry), and what the first of a structure costs (the map).
const (
	unknownTagBytes = 96
	tagMapBytes     = 512
)

// Check walks the whole body of a request by its schema and allocates nothing. Lengths and counts that cannot fit
// into the bytes that are there, too many tagged fields, and counts that would make kmsg allocate out of proportion are
// refused with a *[Refusal]; a key or version without a schema with [ErrNoSchema]. A body that passes is one that kmsg
// decodes without an error.
func Check(key, version int16, body []byte, limits *GuardLimits) (Cost, error) {
	p := programOf(key, version)
	if p == nil {
		return Cost{}, ErrNoSchema
	}
	w := walker{buf: body, compact: p.compact, maxTags: limits.MaxTags}
	w.maxDecoded = min(limits.MaxDecoded, limits.Free+limits.Amplification*int64(len(body)))
	if !w.run(p.ops) {
		return Cost{}, &Refusal{Key: key, Version: version, Offset: w.pos, Reason: w.reason}
	}
	return Cost{Decoded: w.decoded, HoldsFrame: p.holdsBytes || w.unknownTags, Consumed: w.pos}, nil
}

// walker is the state of one Check. Every method returns false once the request is refused, with reason set.
type walker struct {
	buf         []byte
	pos         int
	compact     bool
	unknownTags bool
	decoded     int64
	maxDecoded  int64
	maxTags     int64
	reason      string
}

func (w *walker) run(ops []op) bool {
	for i := range ops {
		o := &ops[i]
		ok := false
		switch o.kind {
		case opSkip:
			ok = w.skip(o.size)
		case opString:
			ok = w.text(o.size, false)
		case opNullableString:
			ok = w.text(o.size, true)
		case opBytes:
			ok = w.bytes(false)
		case opNullableBytes:
			ok = w.bytes(true)
		case opArray:
			ok = w.array(o)
		case opOptional:
			ok = w.optional(o)
		case opTags:
			ok = w.tagSection(o.tags)
		}
		if !ok {
			return false
		}
	}
	return true
}

func (w *walker) refuse(reason string) bool {
	w.reason = reason
	return false
}

func (w *walker) left() int64 { return int64(len(w.buf) - w.pos) }

func (w *walker) skip(n int64) bool {
	if n > w.left() {
		return w.refuse("the body ends inside a field")
	}
	w.pos += int(n)
	return true
}

func (w *walker) charge(n int64) bool {
	w.decoded += n
	if w.decoded > w.maxDecoded {
		return w.refuse("decoding would take too much memory")
	}
	return true
}

// length reads a length of the given width (2 or 4 bytes) or its compact form; -1 is null.
func (w *walker) length(width int) (int64, bool) {
	if w.compact {
		n, ok := w.uvarint()
		return n - 1, ok
	}
	if int64(width) > w.left() {
		return 0, w.refuse("the body ends inside a length")
	}
	var n int64
	if width == 2 {
		n = int64(int16(binary.BigEndian.Uint16(w.buf[w.pos:])))
	} else {
		n = int64(int32(binary.BigEndian.Uint32(w.buf[w.pos:])))
	}
	w.pos += width
	return max(n, -1), true
}

func (w *walker) uvarint() (int64, bool) {
	var n uint64
	for i := range 5 {
		if w.left() == 0 {
			return 0, w.refuse("the body ends inside a length")
		}
		b := w.buf[w.pos]
		w.pos++
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			if n > 1<<32-1 {
				break
			}
			return int64(n), true
		}
	}
	return 0, w.refuse("a length takes more than 32 bits")
}

func (w *walker) text(pointer int64, nullable bool) bool {
	n, ok := w.length(2)
	if !ok {
		return false
	}
	if n < 0 {
		return nullable || w.refuse("null where a string must be")
	}
	if n > w.left() {
		return w.refuse("a string is longer than what is left")
	}
	w.pos += int(n)
	return w.charge(n + pointer + 8) // size classes round up
}

func (w *walker) bytes(nullable bool) bool {
	n, ok := w.length(4)
	if !ok {
		return false
	}
	if n < 0 {
		return nullable || w.refuse("null where bytes must be")
	}
	if n > w.left() {
		return w.refuse("bytes are longer than what is left")
	}
	w.pos += int(n)
	return true
}

func (w *walker) array(o *op) bool {
	n, ok := w.length(4)
	if !ok || n <= 0 {
		return ok
	}
	if n > w.left()/o.wire {
		return w.refuse("an array has more elements than the bytes left can hold")
	}
	if !w.charge(n * o.size) {
		return false
	}
	if o.flat {
		return w.skip(n * o.wire)
	}
	for range n {
		if !w.run(o.body) {
			return false
		}
	}
	return true
}

func (w *walker) optional(o *op) bool {
	if w.left() == 0 {
		return w.refuse("the body ends inside a field")
	}
	marker := int8(w.buf[w.pos])
	w.pos++
	switch {
	case marker == -1:
		return true
	case marker < 0:
		return w.refuse("a structure is neither present nor null")
	}
	return w.charge(o.size) && w.run(o.body)
}

func (w *walker) tagSection(known []knownTag) bool {
	n, ok := w.uvarint()
	if !ok || n == 0 {
		return ok
	}
	if n > w.maxTags || n > w.left()/2 {
		return w.refuse("too many tagged fields")
	}
	first := true
	for range n {
		tag, ok := w.uvarint()
		if !ok {
			return false
		}
		size, ok := w.uvarint()
		if !ok {
			return false
		}
		if size > w.left() {
			return w.refuse("a tagged field is longer than what is left")
		}
		if k := find(known, tag); k != nil {
			if !w.knownTag(k, size) {
				return false
			}
			continue
		}
		w.unknownTags = true
		w.pos += int(size)
		cost := int64(unknownTagBytes)
		if first {
			cost += tagMapBytes
			first = false
		}
		if !w.charge(cost) {
			return false
		}
	}
	return true
}

// knownTag walks a tagged field that the schema knows; it must fill its size exactly.
func (w *walker) knownTag(k *knownTag, size int64) bool {
	whole := w.buf
	end := w.pos + int(size)
	w.buf = whole[:end]
	ok := w.run(k.body)
	w.buf = whole
	if ok && w.pos != end {
		return w.refuse("a tagged field is not of the size it says")
	}
	return ok
}

func find(known []knownTag, tag int64) *knownTag {
	for i := range known {
		if int64(known[i].tag) == tag {
			return &known[i]
		}
	}
	return nil
}
