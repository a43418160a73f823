package data

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/record"
	"chronik/test/oracle/pair"
)

// Talk is about records, at every version that both serve.
func Talk(p *pair.Side) {
	p.Ordered = true
	s := &side{p}
	s.produces()
	s.fetches()
	s.goneTopics()
	s.listOffsets()
	s.deleteRecords()
	s.producerIDs()
	s.leaderEpochs()
}

type side struct{ *pair.Side }

// now is the time of every record, so that both sides get the same bytes.
var now = time.Now().UnixMilli()

var codecs record.Codecs

// create makes a topic and waits until it can be used; the answer is not compared.
func (s *side) create(name string, partitions int32, configs ...string) {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 10_000
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, partitions, 1
	for i := 0; i < len(configs); i += 2 {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = configs[i], &configs[i+1]
		t.Configs = append(t.Configs, c)
	}
	req.Topics = append(req.Topics, t)
	said := len(s.Said)
	resp := pair.Call[*kmsg.CreateTopicsResponse](s.Side, 7, req)
	s.Said = s.Said[:said]
	if resp == nil || len(resp.Topics) != 1 || resp.Topics[0].ErrorCode != 0 {
		s.T.Fatalf("%s: create %s: %+v", s.Name, name, resp)
	}
	s.Topics[name] = resp.Topics[0].TopicID
	time.Sleep(s.Eventually)
}

// remove deletes a topic; from now on its ID is that of "NAME before".
func (s *side) remove(name string) {
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TimeoutMillis = 10_000
	t := kmsg.NewDeleteTopicsRequestTopic()
	t.Topic = &name
	req.Topics = append(req.Topics, t)
	pair.Call[*kmsg.DeleteTopicsResponse](s.Side, 6, req)
	s.Said = s.Said[:len(s.Said)-1]
	s.Topics[name+before] = s.Topics[name]
	delete(s.Topics, name)
	time.Sleep(2 * s.Eventually)
}

// before marks a topic that was removed.
const before = " before"

// topicID is that of a topic that exists or existed, and else one that does not.
func (s *side) topicID(name string) [16]byte {
	for _, name := range []string{name, name + before} {
		if id, ok := s.Topics[name]; ok {
			return id
		}
	}
	return [16]byte{7, 7}
}

// view rewrites fields of the last answer that are random or bytes into what can be compared.
func (s *side) view() {
	if last := s.Last(); last != nil {
		last.Body = view(last.Body)
	}
}

func view(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, field := range v {
			switch n, number := field.(float64); {
			case k == "SessionID" && n != 0:
				v[k] = "some"
			case k == "LogAppendTime" && n > 0:
				v[k] = "some"
			case k == "RecordBatches" && field != nil:
				v[k] = batches(field.(string))
			case k == "ErrorRecords" || !number:
				v[k] = view(field)
			}
		}
	case []any:
		for i := range v {
			v[i] = view(v[i])
		}
	}
	return v
}

// batches tells each stored batch; what the server itself made (append time, recompression) has a CRC of its own.
func batches(encoded string) []string {
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return []string{err.Error()}
	}
	out := []string{}
	for len(raw) > 0 {
		b, rest, err := record.Next(raw)
		if err != nil {
			return append(out, fmt.Sprintf("and %d bytes", len(raw)))
		}
		crc := fmt.Sprintf("%08x", binary.BigEndian.Uint32(b[17:]))
		if b.Codec() != record.None {
			crc = "apart"
		}
		out = append(out, fmt.Sprintf("%d+%d crc %s", b.BaseOffset(), b.Count(), crc))
		raw = rest
	}
	return out
}

func batch(edit func(b *record.Builder), values ...string) []byte {
	b := record.NewBuilder()
	if edit != nil {
		edit(b)
	}
	for _, v := range values {
		b.Add(now, nil, []byte(v))
	}
	out, err := b.AppendTo(nil, &codecs)
	if err != nil {
		panic(err)
	}
	return out
}

// changed is two records whose bytes are changed under a good CRC.
func changed(edit func(b []byte)) []byte {
	b := batch(nil, "a", "b")
	edit(b)
	binary.BigEndian.PutUint32(b[17:], record.Batch(b).ComputeCRC())
	return b
}
