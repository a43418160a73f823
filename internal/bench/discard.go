package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Discard is a broker that acknowledges every Produce at once and forgets it: what a producing client can do at most on
// this machine. Every topic exists,
// with Partitions partitions, and is empty.
type Discard struct {
	Partitions int32

	listener net.Listener
	host     string
	port     int32
	offsets  sync.Map // topic ID and partition -> *atomic.Int64
	conns    sync.WaitGroup
}

// Listen opens the broker's address.
func (d *Discard) Listen(addr string) (net.Addr, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("bench discard: %w", err)
	}
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return nil, fmt.Errorf("bench discard: %w", err)
	}
	p, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("bench discard: port %s: %w", port, err)
	}
	d.listener, d.host, d.port = l, host, int32(p)
	setDefault(&d.Partitions, 1)
	return l.Addr(), nil
}

// Serve answers until ctx ends.
func (d *Discard) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = d.listener.Close() })
	defer stop()
	defer d.conns.Wait()
	for {
		conn, err := d.listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("bench discard: %w", err)
		}
		d.conns.Go(func() {
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			defer func() { _ = conn.Close() }()
			_ = d.serve(conn) // whatever ends a connection ends it for the client too
		})
	}
}

var errDiscardRequest = errors.New("bench discard: a request that this broker does not know")

// serve answers the requests of one connection in order.
func (d *Discard) serve(conn net.Conn) error {
	in := bufio.NewReaderSize(conn, 256<<10)
	var buf, out []byte
	for {
		var err error
		if buf, err = readFrame(in, buf); err != nil {
			return err
		}
		if len(buf) < 10 {
			return errDiscardRequest
		}
		key, version := int16(binary.BigEndian.Uint16(buf)), int16(binary.BigEndian.Uint16(buf[2:]))
		body := buf[10+max(0, int(int16(binary.BigEndian.Uint16(buf[8:])))):]
		req := kmsg.RequestForKey(key)
		if req == nil {
			return errDiscardRequest
		}
		req.SetVersion(version)
		if req.IsFlexible() {
			body = body[1:] // no tags: clients send none
		}
		resp, err := d.answer(req, version, body)
		if err != nil {
			return err
		}
		if resp == nil {
			continue
		}
		out = append(out[:0], 0, 0, 0, 0)
		out = append(out, buf[4:8]...)
		if resp.IsFlexible() && key != 18 {
			out = append(out, 0)
		}
		out = resp.AppendTo(out)
		binary.BigEndian.PutUint32(out, uint32(len(out)-4))
		if _, err := conn.Write(out); err != nil {
			return err
		}
	}
}

func (d *Discard) answer(req kmsg.Request, version int16, body []byte) (kmsg.Response, error) {
	if err := req.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("bench discard: %w", err)
	}
	switch req := req.(type) {
	case *kmsg.ApiVersionsRequest:
		resp := req.ResponseKind().(*kmsg.ApiVersionsResponse)
		for _, k := range [][3]int16{{0, 3, 12}, {2, 1, 5}, {3, 4, 12}, {18, 0, 3}, {19, 2, 4}, {20, 1, 3}, {22, 0, 4}} {
			item := kmsg.NewApiVersionsResponseApiKey()
			item.ApiKey, item.MinVersion, item.MaxVersion = k[0], k[1], k[2]
			resp.ApiKeys = append(resp.ApiKeys, item)
		}
		return resp, nil
	case *kmsg.MetadataRequest:
		return d.metadata(req), nil
	case *kmsg.InitProducerIDRequest:
		resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
		resp.ProducerID, resp.ProducerEpoch = 1, 0
		return resp, nil
	case *kmsg.CreateTopicsRequest:
		resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
		for _, t := range req.Topics {
			created := kmsg.NewCreateTopicsResponseTopic()
			created.Topic = t.Topic
			resp.Topics = append(resp.Topics, created)
		}
		return resp, nil
	case *kmsg.DeleteTopicsRequest:
		resp := req.ResponseKind().(*kmsg.DeleteTopicsResponse)
		for _, name := range req.TopicNames {
			deleted := kmsg.NewDeleteTopicsResponseTopic()
			deleted.Topic = &name
			resp.Topics = append(resp.Topics, deleted)
		}
		return resp, nil
	case *kmsg.ListOffsetsRequest:
		return listNothing(req), nil
	case *kmsg.ProduceRequest:
		if req.Acks == 0 {
			return nil, nil
		}
		return d.produce(req), nil
	}
	return nil, errDiscardRequest
}

// listNothing says that every partition is empty.
func listNothing(req *kmsg.ListOffsetsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
	for _, t := range req.Topics {
		out := kmsg.NewListOffsetsResponseTopic()
		out.Topic = t.Topic
		for _, asked := range t.Partitions {
			p := kmsg.NewListOffsetsResponseTopicPartition()
			p.Partition, p.Offset = asked.Partition, 0
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

func (d *Discard) metadata(req *kmsg.MetadataRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.MetadataResponse)
	b := kmsg.NewMetadataResponseBroker()
	b.NodeID, b.Host, b.Port = 1, d.host, d.port
	resp.Brokers, resp.ControllerID = append(resp.Brokers, b), 1
	for _, asked := range req.Topics {
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic = asked.Topic
		if asked.Topic != nil {
			copy(topic.TopicID[:], *asked.Topic)
		}
		topic.TopicID[0] |= 1
		for p := range d.Partitions {
			part := kmsg.NewMetadataResponseTopicPartition()
			part.Partition, part.Leader, part.LeaderEpoch, part.Replicas, part.ISR = p, 1, 0, []int32{1}, []int32{1}
			topic.Partitions = append(topic.Partitions, part)
		}
		resp.Topics = append(resp.Topics, topic)
	}
	return resp
}

type discardPartition struct {
	topic     string
	partition int32
}

func (d *Discard) produce(req *kmsg.ProduceRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ProduceResponse)
	for i := range req.Topics {
		t := &req.Topics[i]
		out := kmsg.NewProduceResponseTopic()
		out.Topic, out.TopicID = t.Topic, t.TopicID
		for j := range t.Partitions {
			p := kmsg.NewProduceResponseTopicPartition()
			p.Partition = t.Partitions[j].Partition
			next, _ := d.offsets.LoadOrStore(discardPartition{t.Topic, p.Partition}, &atomic.Int64{})
			count := int64(0)
			if records := t.Partitions[j].Records; len(records) >= 61 {
				count = int64(binary.BigEndian.Uint32(records[57:]))
			}
			p.BaseOffset = next.(*atomic.Int64).Add(count) - count
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}
