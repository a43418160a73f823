package cli

import (
	"encoding/base64"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// jsonRecord is a record as produce reads it and consume prints it, a line each. Bytes that are not UTF-8 text go into
// the *_base64 fields; a null key or value is null.
type jsonRecord struct {
	Topic       string       `json:"topic,omitempty"`
	Partition   int32        `json:"partition"`
	Offset      int64        `json:"offset"`
	Timestamp   int64        `json:"timestamp"` // ms since 1970
	Key         *string      `json:"key"`
	KeyBase64   string       `json:"key_base64,omitempty"`
	Value       *string      `json:"value"`
	ValueBase64 string       `json:"value_base64,omitempty"`
	Headers     []jsonHeader `json:"headers,omitempty"`
}

type jsonHeader struct {
	Name        string  `json:"name"`
	Value       *string `json:"value"`
	ValueBase64 string  `json:"value_base64,omitempty"`
}

func text(b []byte) (*string, string) {
	if b == nil {
		return nil, ""
	}
	if !utf8.Valid(b) {
		return nil, base64.StdEncoding.EncodeToString(b)
	}
	s := string(b)
	return &s, ""
}

func bytesOf(s *string, b64 string) []byte {
	if s != nil {
		return []byte(*s)
	}
	if b, err := base64.StdEncoding.DecodeString(b64); err == nil && len(b) > 0 {
		return b
	}
	return nil
}

func toJSON(r *kgo.Record) jsonRecord {
	j := jsonRecord{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli()}
	j.Key, j.KeyBase64 = text(r.Key)
	j.Value, j.ValueBase64 = text(r.Value)
	for _, h := range r.Headers {
		v, b64 := text(h.Value)
		j.Headers = append(j.Headers, jsonHeader{h.Key, v, b64})
	}
	return j
}

// record is what to produce: topic and offset are the destination's business.
func (j jsonRecord) record() *kgo.Record {
	r := &kgo.Record{Key: bytesOf(j.Key, j.KeyBase64), Value: bytesOf(j.Value, j.ValueBase64), Partition: j.Partition}
	if j.Timestamp > 0 {
		r.Timestamp = time.UnixMilli(j.Timestamp)
	}
	for _, h := range j.Headers {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Name, Value: bytesOf(h.Value, h.ValueBase64)})
	}
	return r
}
