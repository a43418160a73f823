package wire

import (
	"fmt"
	"math"
)

// A schema is what the guard knows of a request: its fields in wire order with the versions that carry them. It is
// written once per API key in schema_table.go and compiled to one program per version.
type schema struct {
	key      int16
	name     string
	min, max int16 // versions that the table describes
	flexible int16 // first version with compact lengths and tagged fields (KIP-482); never if beyond max
	fields   []field
	programs []program // by version - min
}

type fieldKind uint8

const (
	fixedField         fieldKind = iota // size bytes
	stringField                         // not null
	nullableField                       // string or null
	bytesField                          // not null
	nullableBytesField                  // bytes or null
	structsField                        // array of structures, or null
	valuesField                         // array of primitives, or null
	optionalField                       // a structure or null
	inlineField                         // a structure
	tagField                            // a known tagged field
)

type field struct {
	kind       fieldKind
	size       int64 // fixedField: bytes on the wire; arrays, optionals: bytes of one decoded element; strings: of a pointer to one
	since, til int16
	tag        uint32
	fields     []field
}

func fixed(n int64) field { return field{kind: fixedField, size: n, til: math.MaxInt16} }

// from and to limit a field to the versions that carry it, both inclusive.
func (f field) from(v int16) field { f.since = v; return f }
func (f field) to(v int16) field   { f.til = v; return f }

func (f field) in(version int16) bool { return f.since <= version && version <= f.til }

type opKind uint8

const (
	opSkip opKind = iota
	opString
	opNullableString
	opBytes
	opNullableBytes
	opArray
	opOptional
	opTags
)

// op is one step of a program.
type op struct {
	kind opKind
	size int64 // as in field
	body []op
	wire int64 // opArray: the fewest bytes that one element takes on the wire
	flat bool  // opArray: elements are exactly wire bytes, nothing inside them can lie
	tags []knownTag
}

type knownTag struct {
	tag  uint32
	body []op
}

type program struct {
	ops        []op
	compact    bool
	holdsBytes bool // the decoded request has fields that point into the frame
}

func (s *schema) compile() {
	s.programs = make([]program, s.max-s.min+1)
	for v := s.min; v <= s.max; v++ {
		p := &s.programs[v-s.min]
		p.compact = v >= s.flexible
		p.ops = compileStruct(s.fields, v, p)
	}
}

// compileStruct keeps the fields that the version has, joins neighbours of fixed size and, in a flexible version, ends
// with the tagged fields.
func compileStruct(fields []field, version int16, p *program) []op {
	var ops []op
	var tags []knownTag
	for _, f := range fields {
		if !f.in(version) {
			continue
		}
		if f.kind == tagField {
			tags = append(tags, knownTag{f.tag, compileFields(f.fields, version, p)})
			continue
		}
		ops = appendField(ops, f, version, p)
	}
	if p.compact {
		ops = append(ops, op{kind: opTags, tags: tags})
	}
	return ops
}

func compileFields(fields []field, version int16, p *program) []op {
	var ops []op
	for _, f := range fields {
		ops = appendField(ops, f, version, p)
	}
	return ops
}

func appendField(ops []op, f field, version int16, p *program) []op {
	switch f.kind {
	case fixedField:
		if n := len(ops); n > 0 && ops[n-1].kind == opSkip {
			ops[n-1].size += f.size
			return ops
		}
		return append(ops, op{kind: opSkip, size: f.size})
	case stringField:
		return append(ops, op{kind: opString, size: f.size})
	case nullableField:
		return append(ops, op{kind: opNullableString, size: f.size})
	case bytesField:
		p.holdsBytes = true
		return append(ops, op{kind: opBytes})
	case nullableBytesField:
		p.holdsBytes = true
		return append(ops, op{kind: opNullableBytes})
	case structsField, valuesField:
		a := op{kind: opArray, size: f.size}
		if f.kind == structsField {
			a.body = compileStruct(f.fields, version, p)
		} else {
			a.body = compileFields(f.fields, version, p)
		}
		a.wire = fewestBytes(a.body, p.compact)
		a.flat = len(a.body) == 1 && a.body[0].kind == opSkip
		return append(ops, a)
	case inlineField:
		return append(ops, compileStruct(f.fields, version, p)...)
	case optionalField:
		return append(ops, op{kind: opOptional, size: f.size, body: compileStruct(f.fields, version, p)})
	}
	panic(fmt.Sprintf("wire: field kind %d has no program", f.kind))
}

// fewestBytes is the least that the program can take on the wire: what a count is held against before anything of
// that size is allocated.
func fewestBytes(ops []op, compact bool) int64 {
	var n int64
	for _, o := range ops {
		switch o.kind {
		case opSkip:
			n += o.size
		case opString, opNullableString:
			n += lengthBytes(compact, 2)
		case opBytes, opNullableBytes, opArray:
			n += lengthBytes(compact, 4)
		case opOptional, opTags:
			n++
		}
	}
	return n
}

func lengthBytes(compact bool, plain int64) int64 {
	if compact {
		return 1
	}
	return plain
}
