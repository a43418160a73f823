package api

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/record"
	"chronik/internal/replica"
)

// Produce (key 0). Advertised from version 0, because old librdkafka drops compression otherwise (KAFKA-18659), served
// from 3, the first with record batches.
//
//	3   transactional ID
//	5   log start offset
//	7   zstd
//	8   errors of single records (KIP-467)
//	9   flexible
//	10  leader hints (KIP-951)
//	11, 12  errors and rules of transactions (KIP-890)
//	13  topic IDs (KIP-516)
//
// The append happens here, on the read side, so that a connection's requests are stored in the order in which they came;
// the acknowledgement is awaited on the write side. What this node may merely not know yet is appended there too, see
// produce_late.go.
func (h *Handlers) produce(_ context.Context, r *Request) Reply {
	p := r.produce
	if p == nil {
		p = &produce{}
		p.readyFunc, p.replyFunc = p.ready, p.reply
		r.produce = p
	}
	p.start(h, r)
	if r.Conn != nil && r.Conn.late.Load() > 0 {
		p.behind = true
	} else {
		p.appendAll()
	}
	p.queue()
	r.Ready = p.readyFunc
	return p.replyFunc
}

// produce is one Produce request on its way. It is used again with its Request.
type produce struct {
	h        *Handlers
	r        *Request
	req      *kmsg.ProduceRequest
	resp     kmsg.ProduceResponse
	deadline time.Time
	waits    []produceWait
	late     []latePartition // that this node may merely not know yet
	behind   bool            // nothing is appended yet: an earlier request of the connection comes first
	failed   bool

	// Room for the usual request, of one partition; method values, which are garbage if made each time.
	oneTopic     [1]kmsg.ProduceResponseTopic
	onePartition [1]kmsg.ProduceResponseTopicPartition
	oneWait      [1]produceWait
	readyFunc    func() bool
	replyFunc    Reply
}

func (p *produce) start(h *Handlers, r *Request) {
	p.h, p.r, p.req = h, r, r.Body.(*kmsg.ProduceRequest)
	p.resp = kmsg.ProduceResponse{Version: p.req.Version}
	p.deadline = h.Clock.Now().Add(time.Duration(max(0, p.req.TimeoutMillis)) * time.Millisecond)
	p.waits, p.late, p.behind, p.failed = p.oneWait[:0], nil, false, false
}

// clear lets go of everything but the room: it points into frames and partitions.
func (p *produce) clear() { *p = produce{readyFunc: p.readyFunc, replyFunc: p.replyFunc} }

// produceWait is an append whose acknowledgement is awaited.
type produceWait struct {
	answer    *kmsg.ProduceResponseTopicPartition
	partition *replica.Partition
	appended  replica.Appended
}

func (p *produce) appendAll() {
	p.resp.Topics = p.oneTopic[:]
	if n := len(p.req.Topics); n != 1 {
		p.resp.Topics = make([]kmsg.ProduceResponseTopic, n)
	}
	refused := p.refusal()
	image := p.h.Store.Image()
	for i := range p.req.Topics {
		t, out := &p.req.Topics[i], &p.resp.Topics[i]
		*out = kmsg.ProduceResponseTopic{Topic: t.Topic, TopicID: t.TopicID, Partitions: p.onePartition[:]}
		if n := len(t.Partitions); n != 1 || len(p.req.Topics) != 1 {
			out.Partitions = make([]kmsg.ProduceResponseTopicPartition, n)
		}
		topic, err := p.topic(image, t)
		if refused != nil {
			err = refused
		}
		for j := range t.Partitions {
			in, answer := &t.Partitions[j], &out.Partitions[j]
			*answer = kmsg.ProduceResponseTopicPartition{Partition: in.Partition, BaseOffset: -1, LogAppendTime: -1, LogStartOffset: -1}
			answer.CurrentLeader.Default()
			if err == nil {
				err = p.append(topic, in, answer)
			}
			if err == nil {
				continue
			}
			p.fail(answer, err)
			if p.perhapsLate(topic, answer) {
				p.late = append(p.late, latePartition{i, j})
			}
		}
	}
}

// refusal is what keeps the request as a whole from being tried. Transactions are not served yet; a client takes the
// error as final, where UNSUPPORTED_VERSION and its like make some of them try for ever.
func (p *produce) refusal() error {
	for i := range p.req.Topics {
		for j := range p.req.Topics[i].Partitions {
			if b := p.req.Topics[i].Partitions[j].Records; len(b) >= record.HeaderSize && record.Batch(b).Magic() == 2 && record.Batch(b).Transactional() {
				return kafka.ErrTransactionalIDAuthorizationFailed.With("transactions are not supported by this version of chronik")
			}
		}
	}
	return nil
}

func (p *produce) topic(image *metadata.Image, t *kmsg.ProduceRequestTopic) (*metadata.Topic, error) {
	if p.req.Version >= 13 {
		if topic := image.TopicByID(t.TopicID); topic != nil {
			return topic, nil
		}
		return nil, kafka.ErrUnknownTopicID
	}
	if topic := image.Topic(t.Topic); topic != nil {
		return topic, nil
	}
	return nil, kafka.ErrUnknownTopicOrPartition
}

// adminClientID may write to internal topics: Kafka's own tools call themselves that.
const adminClientID = "__admin_client"

// append appends to one partition; the error is for the answer, but for one that the partition itself gave.
func (p *produce) append(topic *metadata.Topic, in *kmsg.ProduceRequestTopicPartition, answer *kmsg.ProduceResponseTopicPartition) error {
	switch {
	case topic.Partitions.At(in.Partition) == nil:
		return kafka.ErrUnknownTopicOrPartition
	case p.req.Acks < -1 || p.req.Acks > 1:
		return kafka.ErrInvalidRequiredAcks.With("acks=%d; it must be -1 (all), 1 or 0", p.req.Acks)
	case topic.Internal && p.r.ClientID != adminClientID:
		return kafka.ErrInvalidTopic.With("topic %s is internal: clients may not write to it", topic.Name)
	}
	partition, err := p.h.Replicas.Partition(kafka.TopicPartition{Topic: topic.ID, Partition: in.Partition})
	if err != nil {
		return err
	}
	appended, err := partition.Append(replica.AppendRequest{
		Batches:     in.Records,
		Acks:        replica.Acks(p.req.Acks),
		Origin:      record.FromClient,
		Version:     p.req.Version,
		LeaderEpoch: kafka.NoLeaderEpoch,
	})
	if err != nil {
		p.refused(partition, in, answer, err)
		return err
	}
	answer.BaseOffset, answer.LogAppendTime = int64(appended.BaseOffset), appended.AppendTime
	answer.LogStartOffset = int64(appended.LogStart)
	if p.req.Acks != 0 {
		p.waits = append(p.waits, produceWait{answer, partition, appended})
	}
	return nil
}

// withoutLogStart are the errors of an append that Kafka answers without the log's start.
var withoutLogStart = []int16{
	kafka.ErrNotLeaderOrFollower.Code, kafka.ErrUnknownTopicOrPartition.Code, kafka.ErrMessageTooLarge.Code,
	kafka.ErrRecordListTooLarge.Code, kafka.ErrCorruptMessage.Code, kafka.ErrKafkaStorageError.Code,
}

// refused adds to the answer for a partition that did not take the append what its error alone does not tell.
func (p *produce) refused(partition *replica.Partition, in *kmsg.ProduceRequestTopicPartition, answer *kmsg.ProduceResponseTopicPartition, err error) {
	switch code := kafka.CodeOf(err); {
	case slices.Contains(withoutLogStart, code), record.CheckForm(in.Records, p.req.Version) != nil:
	default: // a producer compares the log's start with what it had acknowledged
		answer.LogStartOffset = int64(partition.LogStart())
	}
	var invalid *record.ValidationError
	if errors.As(err, &invalid) {
		for _, e := range invalid.Records {
			r := kmsg.NewProduceResponseTopicPartitionErrorRecord()
			r.RelativeOffset, r.ErrorMessage = e.Index, &e.Message
			answer.ErrorRecords = append(answer.ErrorRecords, r)
		}
	}
	if kafka.CodeOf(err) == kafka.ErrUnknownServerError.Code { // the storage reports its own failures
		p.h.Logger.Error("an append failed", "topic", partition.Topic(), "partition", answer.Partition, "client", p.r.ClientID, "error", err)
	}
}

func (p *produce) fail(answer *kmsg.ProduceResponseTopicPartition, err error) {
	p.failed = true
	answer.ErrorCode = kafka.CodeOf(err)
	answer.ErrorMessage = kafka.Message(err)
}

// ready tells whether reply would not wait.
func (p *produce) ready() bool {
	for i := range p.waits {
		if w := &p.waits[i]; !w.partition.Acknowledged(replica.Acks(p.req.Acks), w.appended) {
			return false
		}
	}
	return !p.behind && len(p.late) == 0
}

// reply awaits the acknowledgements.
func (p *produce) reply(ctx context.Context) Response {
	if p.behind || len(p.late) > 0 {
		p.catchUp(ctx)
	}
	if p.req.Acks == 0 { // no answer; an error closes the connection, so that the client looks for the leader again
		return Response{Close: p.failed}
	}
	for i := range p.waits {
		w := &p.waits[i]
		if err := w.partition.Wait(ctx, replica.Acks(p.req.Acks), w.appended, p.deadline); err != nil {
			if ctx.Err() != nil {
				return Response{Close: true}
			}
			p.fail(w.answer, err) // the offsets stay: the records were appended
		}
	}
	if p.failed {
		p.explain()
	}
	return Response{Message: &p.resp}
}

// explain hints at the leaders of what is led elsewhere (KIP-951).
func (p *produce) explain() {
	if p.req.Version < 10 {
		return
	}
	image := p.h.Store.Image()
	for i := range p.resp.Topics {
		t := &p.resp.Topics[i]
		name := t.Topic
		if p.req.Version >= 13 {
			if topic := image.TopicByID(t.TopicID); topic != nil {
				name = topic.Name
			}
		}
		for j := range t.Partitions {
			if answer := &t.Partitions[j]; answer.ErrorCode == kafka.ErrNotLeaderOrFollower.Code {
				p.hint(name, answer)
			}
		}
	}
}

func (p *produce) hint(topic string, answer *kmsg.ProduceResponseTopicPartition) {
	hint, ok := p.h.leaderHint(p.r.Conn, topic, answer.Partition)
	if !ok {
		return
	}
	answer.CurrentLeader.LeaderID, answer.CurrentLeader.LeaderEpoch = int32(hint.node.id), int32(hint.epoch)
	for i := range p.resp.Brokers {
		if p.resp.Brokers[i].NodeID == int32(hint.node.id) {
			return
		}
	}
	b := kmsg.NewProduceResponseBroker()
	b.NodeID, b.Host, b.Port, b.Rack = int32(hint.node.id), hint.node.host, hint.node.port, hint.node.rack
	p.resp.Brokers = append(p.resp.Brokers, b)
}
