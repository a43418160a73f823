package wire

import (
	"encoding/binary"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fill sets every exported field of a kmsg structure to something random, with arrays of up to four elements.
func fill(r *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if r.IntN(3) == 0 {
			v.SetZero()
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		fill(r, v.Elem())
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[kmsg.Tags]() {
			tags := v.Addr().Interface().(*kmsg.Tags)
			for range r.IntN(3) {
				tags.Set(uint32(50+r.IntN(1000)), []byte(text(r)))
			}
			return
		}
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; name != "Version" || v.Field(i).Kind() != reflect.Int16 {
				fill(r, v.Field(i))
			}
		}
	case reflect.Slice:
		if r.IntN(6) == 0 {
			v.SetZero() // null where it is allowed
			return
		}
		n := r.IntN(5)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(r, v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(r, v.Index(i))
		}
	case reflect.String:
		v.SetString(text(r))
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(r.Uint64()) >> r.IntN(64))
	case reflect.Uint8, reflect.Uint32:
		v.SetUint(r.Uint64() & 0x7f)
	case reflect.Float64:
		v.SetFloat(r.Float64())
	}
}

func text(r *rand.Rand) string { return strings.Repeat("x", r.IntN(200)) }

func randomRequest(r *rand.Rand, key, version int16) kmsg.Request {
	req := kmsg.RequestForKey(key)
	req.SetVersion(version)
	fill(r, reflect.ValueOf(req).Elem())
	return req
}

// generous lets honest random messages of any shape pass, so that only structure decides.
var generous = &GuardLimits{MaxDecoded: 1 << 30, Free: 1 << 30, Amplification: 1, MaxTags: 64}

func TestTheTableIsWhatKmsgEncodes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range schemas {
		s := &schemas[i]
		req := kmsg.RequestForKey(s.key)
		if got := req.MaxVersion(); got != s.max {
			t.Errorf("%s: the table ends at version %d, kmsg at %d", s.name, s.max, got)
		}
		if got := kmsg.NameForKey(s.key); !strings.EqualFold(got, s.name) {
			t.Errorf("key %d is %s here and %s in kmsg", s.key, s.name, got)
		}
		for version := s.min; version <= s.max; version++ {
			req.SetVersion(version)
			if got := Flexible(s.key, version); got != req.IsFlexible() {
				t.Errorf("%s version %d: flexible is %v here", s.name, version, got)
			}
			for range 300 {
				body := randomRequest(r, s.key, version).AppendTo(nil)
				cost, err := Check(s.key, version, body, generous)
				if err != nil {
					t.Fatalf("%s version %d: %v\n%x", s.name, version, err, body)
				}
				if cost.Consumed != len(body) {
					t.Fatalf("%s version %d: walked %d of %d bytes\n%x", s.name, version, cost.Consumed, len(body), body)
				}
			}
		}
	}
}

// Every prefix of a message is refused: no field is missing from the table's end.
func TestATruncatedBodyIsRefused(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for i := range schemas {
		s := &schemas[i]
		for version := s.min; version <= s.max; version++ {
			body := randomRequest(r, s.key, version).AppendTo(nil)
			for n := range body {
				if _, err := Check(s.key, version, body[:n:n], generous); err == nil {
					t.Fatalf("%s version %d: %d of %d bytes pass", s.name, version, n, len(body))
				}
			}
		}
	}
}

// What the guard lets through, kmsg decodes without an error and within the memory that the guard foretold.
func TestWhatPassesDecodesWithinItsCost(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	limits := DefaultGuardLimits()
	rounds := 40
	if testing.Short() {
		rounds = 5
	}
	passed := 0
	for i := range schemas {
		s := &schemas[i]
		for version := s.min; version <= s.max; version++ {
			for range rounds {
				body := randomRequest(r, s.key, version).AppendTo(nil)
				mutate(r, body)
				if decodesWithinCost(t, s.key, version, body, &limits) {
					passed++
				}
			}
		}
	}
	if passed < 100 {
		t.Fatalf("only %d mutated messages passed the guard: the test shows nothing", passed)
	}
}

func mutate(r *rand.Rand, body []byte) {
	for range 1 + r.IntN(4) {
		if len(body) == 0 {
			return
		}
		at := r.IntN(len(body))
		switch r.IntN(4) {
		case 0:
			body[at] = byte(r.Uint32())
		case 1:
			body[at] = 0xff
		case 2:
			if at+4 <= len(body) {
				binary.BigEndian.PutUint32(body[at:], 1<<31-1)
			}
		case 3:
			body[at] ^= 1 << r.IntN(8)
		}
	}
}

func decodesWithinCost(t *testing.T, key, version int16, body []byte, limits *GuardLimits) bool {
	t.Helper()
	cost, err := Check(key, version, body, limits)
	if err != nil {
		return false
	}
	req := kmsg.RequestForKey(key)
	req.SetVersion(version)
	if err := req.ReadFrom(body); err != nil {
		t.Fatalf("%s version %d passed the guard, but: %v\n%x", KeyName(key), version, err, body)
	}
	if size := decodedSize(reflect.ValueOf(req).Elem()); size > cost.Decoded {
		t.Fatalf("%s version %d: decoded to %d bytes, the guard said %d\n%x", KeyName(key), version, size, cost.Decoded, body)
	}
	return true
}

// decodedSize is what hangs on a decoded structure: elements and strings, not byte slices (they point into the frame).
func decodedSize(v reflect.Value) int64 {
	var n int64
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			n = int64(v.Type().Elem().Size()) + decodedSize(v.Elem())
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[kmsg.Tags]() {
			return int64(v.Addr().Interface().(*kmsg.Tags).Len()) * 40
		}
		for i := range v.NumField() {
			n += decodedSize(v.Field(i))
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return 0
		}
		n = int64(v.Len()) * int64(v.Type().Elem().Size())
		for i := range v.Len() {
			n += decodedSize(v.Index(i))
		}
	case reflect.String:
		n = int64(v.Len())
	}
	return n
}

func TestHostileCountsAreRefusedWithoutMemory(t *testing.T) {
	limits := DefaultGuardLimits()
	body := func(count ...byte) []byte { return append(count, make([]byte, 64)...) }
	tests := []struct {
		name         string
		key, version int16
		body         []byte
		reason       string
	}{
		{"2^31 topics", 3, 1, body(0x7f, 0xff, 0xff, 0xff), "more elements"},
		{"2^31 topics, compact", 3, 9, body(0xff, 0xff, 0xff, 0xff, 0x07), "more elements"},
		{"2^32 topics, compact", 3, 9, body(0xff, 0xff, 0xff, 0xff, 0x0f), "more elements"},
		{"a count of 35 bits", 3, 9, body(0xff, 0xff, 0xff, 0xff, 0x7f), "32 bits"},
		{"2^26 tagged fields", 60, 0, body(0, 0x80, 0x80, 0x80, 0x20), "tagged fields"},
		{"2^32 tagged fields", 18, 3, body(1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f), "tagged fields"},
		{"a tag of 2^31 bytes", 60, 0, body(0, 1, 9, 0xff, 0xff, 0xff, 0xff, 0x07), "longer than what is left"},
		{"a string of 2^15 bytes", 12, 0, body(0x7f, 0xff), "longer than what is left"},
		{"a null group", 12, 0, body(0xff, 0xff), "null"},
		{"records of 2^31 bytes", 0, 3, append([]byte{0xff, 0xff, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 'a', 0, 0, 0, 1, 0, 0, 0, 0,
			0x7f, 0xff, 0xff, 0xff}, make([]byte, 99)...), "longer than what is left"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Check(tt.key, tt.version, tt.body, &limits)
			if err == nil || !strings.Contains(err.Error(), tt.reason) {
				t.Fatalf("got %v, want a refusal for %q", err, tt.reason)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range 100 {
				_, _ = Check(tt.key, tt.version, tt.body, &limits)
			}
			runtime.ReadMemStats(&after)
			if n := (after.TotalAlloc - before.TotalAlloc) / 100; n > 1<<10 {
				t.Fatalf("the refusal allocates %d bytes", n)
			}
		})
	}
}

// A frame full of the leanest elements is honest by its counts, and would still make kmsg allocate a multiple of it.
func TestAmplificationIsRefused(t *testing.T) {
	limits := DefaultGuardLimits()
	for _, tt := range []struct {
		name         string
		key, version int16
		element      []byte
	}{
		{"empty topic names", 3, 1, []byte{0, 0}},
		{"empty groups with null topics", 9, 8, []byte{1, 0, 0}},
		{"topics of null partitions", 0, 9, []byte{1, 0, 0}},
	} {
		body := []byte{}
		if tt.key == 0 {
			body = append(body, 0, 0, 1, 0, 0, 0, 0)
		}
		n := 1 << 20
		if Flexible(tt.key, tt.version) {
			body = binary.AppendUvarint(body, uint64(n+1))
		} else {
			body = binary.BigEndian.AppendUint32(body, uint32(n))
		}
		for range n {
			body = append(body, tt.element...)
		}
		body = append(body, 0, 0, 0)
		if _, err := Check(tt.key, tt.version, body, &limits); err == nil || !strings.Contains(err.Error(), "memory") {
			t.Errorf("%s: %d bytes pass: %v", tt.name, len(body), err)
		}
		if _, err := Check(tt.key, tt.version, body, generous); err != nil {
			t.Errorf("%s: the message is not what the test means: %v", tt.name, err)
		}
	}
}

// The limits leave room for what honest clients send: 10,000 topics of short names, a fetch of 20,000 partitions.
func TestHonestLargeRequestsPass(t *testing.T) {
	limits := DefaultGuardLimits()
	metadata := kmsg.NewPtrMetadataRequest()
	for range 10_000 {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = kmsg.StringPtr("t1234")
		metadata.Topics = append(metadata.Topics, topic)
	}
	fetch := kmsg.NewPtrFetchRequest()
	topic := kmsg.NewFetchRequestTopic()
	topic.Partitions = make([]kmsg.FetchRequestTopicPartition, 20_000)
	fetch.Topics = append(fetch.Topics, topic)
	for _, req := range []kmsg.Request{metadata, fetch} {
		for version := int16(4); version <= req.MaxVersion(); version++ {
			req.SetVersion(version)
			if _, err := Check(req.Key(), version, req.AppendTo(nil), &limits); err != nil {
				t.Errorf("%s version %d: %v", KeyName(req.Key()), version, err)
			}
		}
	}
}

func TestCheckAllocatesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	limits := DefaultGuardLimits()
	body := randomRequest(r, 0, 9).AppendTo(nil)
	if n := testing.AllocsPerRun(100, func() { _, _ = Check(0, 9, body, &limits) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func FuzzCheck(f *testing.F) {
	r := rand.New(rand.NewPCG(9, 10))
	for i := range schemas {
		s := &schemas[i]
		for version := s.min; version <= s.max; version++ {
			f.Add(s.key, version, randomRequest(r, s.key, version).AppendTo(nil))
		}
	}
	limits := DefaultGuardLimits()
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		decodesWithinCost(t, key, version, body, &limits)
	})
}

func BenchmarkCheckProduce(b *testing.B) {
	req := kmsg.NewPtrProduceRequest()
	topic, partition := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	topic.Topic, partition.Records = "benchmark", make([]byte, 1100)
	topic.Partitions = append(topic.Partitions, partition)
	req.Topics = append(req.Topics, topic)
	req.SetVersion(9)
	body := req.AppendTo(nil)
	limits := DefaultGuardLimits()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Check(0, 9, body, &limits); err != nil {
			b.Fatal(err)
		}
	}
}
