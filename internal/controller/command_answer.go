package controller

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// encodeAnswer is an answer on its way back.
func encodeAnswer(a Answer) ([]byte, error) {
	m := &pb.Answer{Offset: int64(a.Offset)}
	m.ErrorCode, m.ErrorText = errorMessage(a.Err)
	switch v := a.Value.(type) {
	case nil:
	case []metadata.CreateTopicResult:
		m.Value = &pb.Answer_CreateTopics{CreateTopics: createTopicsAnswer(v)}
	case kafka.ProducerID:
		m.Value = &pb.Answer_ProducerId{ProducerId: int64(v)}
	case kafka.BrokerEpoch:
		m.Value = &pb.Answer_BrokerEpoch{BrokerEpoch: int64(v)}
	case kafka.PartitionEpoch:
		m.Value = &pb.Answer_PartitionEpoch{PartitionEpoch: int32(v)}
	case metadata.HeartbeatAnswer:
		m.Value = &pb.Answer_Heartbeat{Heartbeat: &pb.HeartbeatAnswer{Fenced: v.Fenced, MayShutDown: v.MayShutDown, Term: v.Term,
			LeaseNs: int64(v.Lease), Offset: int64(v.Offset)}}
	case []metadata.BrokerStatus:
		m.Value = &pb.Answer_Brokers{Brokers: brokersAnswer(v)}
	default:
		return nil, fmt.Errorf("an answer %T is not sent", v)
	}
	return proto.Marshal(m)
}

// errorMessage is an error as code and text; no error becomes a success.
func errorMessage(err error) (code int32, text string) {
	if err == nil {
		return 0, ""
	}
	var e *kafka.Error
	if errors.As(err, &e) && e.Code != 0 {
		return int32(e.Code), valid(e.Msg)
	}
	return int32(kafka.ErrUnknownServerError.Code), valid(err.Error())
}

func errorOf(code int32, text string) error {
	if code == 0 {
		return nil
	}
	sentinel := kafka.ErrUnknownServerError
	if code == int32(int16(code)) {
		if e, ok := kafka.ByCode(int16(code)).(*kafka.Error); ok {
			sentinel = e
		}
	}
	return &kafka.Error{Code: sentinel.Code, Name: sentinel.Name, Msg: text}
}

func createTopicsAnswer(results []metadata.CreateTopicResult) *pb.CreateTopicsAnswer {
	m := &pb.CreateTopicsAnswer{}
	for _, r := range results {
		t := &pb.CreateTopicsAnswer_Topic{}
		t.ErrorCode, t.ErrorText = errorMessage(r.Err)
		if r.Topic != nil {
			t.Topic, t.Partitions = metadata.TopicMessages(r.Topic)
		}
		m.Topics = append(m.Topics, t)
	}
	return m
}

func brokersAnswer(brokers []metadata.BrokerStatus) *pb.DescribeBrokersAnswer {
	m := &pb.DescribeBrokersAnswer{}
	for _, b := range brokers {
		m.Brokers = append(m.Brokers, &pb.DescribeBrokersAnswer_Broker{Id: int32(b.ID), Epoch: int64(b.Epoch), SilenceNs: int64(b.Silence),
			Fenced: b.Fenced, InControlledShutdown: b.InControlledShutdown, Slow: b.Slow, SinceMs: b.Since.UnixMilli(), Reason: valid(b.Reason),
			Ready: b.Ready, Applied: int64(b.Applied), SyncAgeNs: int64(b.SyncAge), Damaged: partitionNames(b.Damaged)})
	}
	return m
}

// decodeAnswer reads what encodeAnswer wrote.
func decodeAnswer(data []byte) (Answer, error) {
	m := &pb.Answer{}
	if err := proto.Unmarshal(data, m); err != nil {
		return Answer{}, fmt.Errorf("an answer of %d bytes: %w", len(data), err)
	}
	a := Answer{Offset: metadata.Offset(m.GetOffset()), Err: errorOf(m.GetErrorCode(), m.GetErrorText())}
	var err error
	switch v := m.GetValue().(type) {
	case *pb.Answer_CreateTopics:
		a.Value, err = createTopicResultsOf(v.CreateTopics)
	case *pb.Answer_ProducerId:
		a.Value = kafka.ProducerID(v.ProducerId)
	case *pb.Answer_BrokerEpoch:
		a.Value = kafka.BrokerEpoch(v.BrokerEpoch)
	case *pb.Answer_PartitionEpoch:
		a.Value = kafka.PartitionEpoch(v.PartitionEpoch)
	case *pb.Answer_Heartbeat:
		a.Value = metadata.HeartbeatAnswer{Fenced: v.Heartbeat.GetFenced(), MayShutDown: v.Heartbeat.GetMayShutDown(), Term: v.Heartbeat.GetTerm(),
			Lease: time.Duration(v.Heartbeat.GetLeaseNs()), Offset: metadata.Offset(v.Heartbeat.GetOffset())}
	case *pb.Answer_Brokers:
		a.Value, err = brokerStatusOf(v.Brokers)
	}
	if err != nil {
		return Answer{}, fmt.Errorf("an answer: %w", err)
	}
	return a, nil
}

func createTopicResultsOf(m *pb.CreateTopicsAnswer) ([]metadata.CreateTopicResult, error) {
	results := []metadata.CreateTopicResult{}
	for _, t := range m.GetTopics() {
		r := metadata.CreateTopicResult{Err: errorOf(t.GetErrorCode(), t.GetErrorText())}
		if t.GetTopic() != nil {
			var err error
			if r.Topic, err = metadata.TopicOf(t.GetTopic(), t.GetPartitions()); err != nil {
				return nil, err
			}
		}
		results = append(results, r)
	}
	return results, nil
}

func brokerStatusOf(m *pb.DescribeBrokersAnswer) ([]metadata.BrokerStatus, error) {
	brokers := []metadata.BrokerStatus{}
	for _, b := range m.GetBrokers() {
		damaged, err := partitionsNamed(b.GetDamaged())
		if err != nil {
			return nil, err
		}
		brokers = append(brokers, metadata.BrokerStatus{ID: kafka.BrokerID(b.GetId()), Epoch: kafka.BrokerEpoch(b.GetEpoch()),
			Silence: time.Duration(b.GetSilenceNs()), Fenced: b.GetFenced(), InControlledShutdown: b.GetInControlledShutdown(), Slow: b.GetSlow(),
			Since: time.UnixMilli(b.GetSinceMs()).UTC(), Reason: b.GetReason(), Ready: b.GetReady(), Applied: metadata.Offset(b.GetApplied()),
			SyncAge: time.Duration(b.GetSyncAgeNs()), Damaged: damaged})
	}
	return brokers, nil
}
