package group

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

// script drives one machine by commands, single-threaded, on a clock of its own.
type script struct {
	t       *testing.T
	m       *Machine
	timers  *coordinator.Timers
	now     time.Time
	ids     int
	limits  Limits
	topics  *fakeTopics
	written []coordinator.Record
	waiting []waiting
	out     strings.Builder
}

type waiting struct {
	name string
	done func() (string, bool)
}

func newScript(t *testing.T) *script {
	s := &script{t: t, now: time.UnixMilli(1_000_000).UTC(), limits: Limits{
		MinSessionTimeout: 6 * time.Second, MaxSessionTimeout: 30 * time.Minute, MaxSize: 100,
		InitialRebalanceDelay: 3 * time.Second, OffsetMetadataMax: 20, RecordMaxBytes: 1 << 20,
	}}
	s.fresh()
	return s
}

func (s *script) fresh() {
	s.timers = coordinator.NewTimers()
	s.m = New(func() Limits { return s.limits }, func() string { s.ids++; return strconv.Itoa(s.ids) }, slog.New(slog.DiscardHandler))
	s.m.SetTopics(func() Topics {
		if s.topics == nil {
			return noTopics{}
		}
		return s.topics
	})
}

// do runs one operation as a shard would, and tells the records and the answers that it made.
func (s *script) do(op func(tx *coordinator.Tx)) {
	tx := coordinator.NewTx(s.now, s.timers)
	op(tx)
	for _, rec := range tx.Take() {
		s.written = append(s.written, rec)
		fmt.Fprintf(&s.out, "write %s\n", printRecord(rec))
	}
	s.waiting = slices.DeleteFunc(s.waiting, func(w waiting) bool {
		text, done := w.done()
		if done {
			fmt.Fprintf(&s.out, "%s: %s\n", w.name, text)
		}
		return done
	})
}

func printRecord(rec coordinator.Record) string {
	if isConsumerRecord(rec) {
		return printConsumerRecord(rec)
	}
	switch binary.BigEndian.Uint16(rec.Key) {
	case groupKeyVersion:
		k, v := kmsg.NewGroupMetadataKey(), kmsg.NewGroupMetadataValue()
		if err := k.ReadFrom(rec.Key); err != nil {
			return err.Error()
		}
		if rec.Value == nil {
			return "group " + k.Group + " tombstone"
		}
		if err := v.ReadFrom(rec.Value); err != nil {
			return err.Error()
		}
		out := fmt.Sprintf("group %s v%d type=%q gen=%d protocol=%s leader=%s since=%d", k.Group, v.Version, v.ProtocolType,
			v.Generation, str(v.Protocol), str(v.Leader), v.CurrentStateTimestamp)
		for _, m := range v.Members {
			out += fmt.Sprintf("\n  %s instance=%s client=%s%s session=%d rebalance=%d assignment=%s", m.MemberID,
				str(m.InstanceID), m.ClientID, m.ClientHost, m.SessionTimeoutMillis, m.RebalanceTimeoutMillis, printAssigned(m.Assignment))
		}
		return out
	default:
		k, v := kmsg.NewOffsetCommitKey(), kmsg.NewOffsetCommitValue()
		if err := k.ReadFrom(rec.Key); err != nil {
			return err.Error()
		}
		name := fmt.Sprintf("offset %s %s-%d", k.Group, k.Topic, k.Partition)
		if rec.Value == nil {
			return name + " tombstone"
		}
		if err := v.ReadFrom(rec.Value); err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%s v%d offset=%d epoch=%d metadata=%q at=%d expires=%d id=%d", name, v.Version, v.Offset,
			v.LeaderEpoch, v.Metadata, v.CommitTimestamp, v.ExpireTimestamp, v.TopicID[0])
	}
}

func str(s *string) string {
	if s == nil {
		return "-"
	}
	return *s
}

func errName(code int16) string {
	if code == 0 {
		return "ok"
	}
	return kafka.ByCode(code).Error()
}

func printJoin(r *kmsg.JoinGroupResponse) string {
	out := fmt.Sprintf("%s member=%s", errName(r.ErrorCode), r.MemberID)
	if r.ErrorCode != 0 {
		return out
	}
	out += fmt.Sprintf(" gen=%d protocol=%s type=%s leader=%s", r.Generation, str(r.Protocol), str(r.ProtocolType), r.LeaderID)
	if r.SkipAssignment {
		out += " skip"
	}
	for _, m := range r.Members {
		out += fmt.Sprintf(" [%s %s %d bytes]", m.MemberID, str(m.InstanceID), len(m.ProtocolMetadata))
	}
	return out
}

func park[R any](s *script, name string, p *coordinator.Promise[R], print func(R) string) {
	s.waiting = append(s.waiting, waiting{name, func() (string, bool) {
		if !p.Done() {
			return "", false
		}
		v, err := p.Wait(context.Background())
		if err != nil {
			return err.Error(), true
		}
		return print(v), true
	}})
}

// subscription is a consumer's, version 1 with one byte of user data so that the prefix is what counts.
func subscription(topics []string) []byte {
	b := binary.BigEndian.AppendUint16(nil, 1)
	b = binary.BigEndian.AppendUint32(b, uint32(len(topics)))
	for _, t := range topics {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(t))), t...)
	}
	return append(b, 0, 0, 0, 1, 'u')
}

type args struct{ *datadriven.TestData }

func (a args) str(key, def string) string {
	for _, c := range a.CmdArgs {
		if c.Key == key {
			return strings.Join(c.Vals, ",")
		}
	}
	return def
}

func (a args) vals(key string) []string {
	for _, c := range a.CmdArgs {
		if c.Key == key {
			return c.Vals
		}
	}
	return nil
}

func (a args) opt(key string) *string {
	for _, c := range a.CmdArgs {
		if c.Key == key {
			v := strings.Join(c.Vals, ",")
			return &v
		}
	}
	return nil
}

func (a args) num(key string, def int) int {
	n, err := strconv.Atoi(a.str(key, strconv.Itoa(def)))
	if err != nil {
		a.Fatalf(nil, "%s: %v", key, err)
	}
	return n
}

func (s *script) run(d *datadriven.TestData) string {
	s.out.Reset()
	a := args{d}
	group := a.str("group", "g")
	switch d.Cmd {
	case "join":
		s.join(a, group)
	case "sync":
		s.sync(a, group)
	case "heartbeat":
		r := kmsg.NewPtrHeartbeatRequest()
		r.Group, r.MemberID, r.Generation, r.InstanceID = group, a.str("member", ""), int32(a.num("gen", 1)), a.opt("instance")
		s.do(func(tx *coordinator.Tx) { s.result(s.m.Heartbeat(tx, r)) })
	case "leave":
		s.leave(a, group)
	case "commit":
		s.commit(a, group)
	case "fetch":
		s.fetch(a, group)
	case "delete-offsets":
		s.do(func(tx *coordinator.Tx) {
			codes, err := s.m.DeleteOffsets(tx, group, fetchTopics(a.vals("topics")))
			s.codes(codes, err)
		})
	case "delete":
		s.do(func(tx *coordinator.Tx) { s.result(s.m.Delete(tx, group)) })
	case "topic-deleted":
		s.do(func(tx *coordinator.Tx) { s.m.TopicDeleted(tx, a.str("topic", ""), topicID(a.num("id", 0))) })
	case "describe":
		s.describe(s.m.Describe(group, int16(a.num("v", 6))))
	case "list":
		for _, g := range s.m.List(a.vals("states"), a.vals("types")) {
			fmt.Fprintf(&s.out, "%s type=%q %s %s\n", g.Group, g.ProtocolType, g.GroupState, g.GroupType)
		}
	case "advance":
		d, err := time.ParseDuration(a.CmdArgs[0].Key)
		if err != nil {
			return err.Error()
		}
		s.advance(d)
	case "history":
		for _, r := range s.m.History(group) {
			fmt.Fprintf(&s.out, "%s gen=%d %s: member=%s client=%q reason=%q took=%v\n", r.Time.Format("04:05"), r.Epoch, r.Cause, r.Member, r.Client, r.Reason, r.Took)
		}
	case "restart":
		s.restart()
	case "limits":
		s.limits.MaxSize = a.num("size", s.limits.MaxSize)
		s.limits.RecordMaxBytes = a.num("record", s.limits.RecordMaxBytes)
		s.limits.OffsetsRetention = time.Duration(a.num("retention", 0)) * time.Second
		s.limits.OffsetsRetentionCheck = time.Duration(a.num("check", 0)) * time.Second
	default:
		if !s.runConsumer(d, group) {
			return "unknown command " + d.Cmd
		}
	}
	return s.out.String()
}

func (s *script) result(err error) {
	if err == nil {
		s.out.WriteString("ok\n")
	} else {
		fmt.Fprintln(&s.out, err)
	}
}

func (s *script) codes(codes [][]int16, err error) {
	if err != nil {
		s.result(err)
		return
	}
	for _, row := range codes {
		for _, c := range row {
			fmt.Fprintf(&s.out, "%s ", errName(c))
		}
	}
	s.out.WriteString("\n")
}

func (s *script) join(a args, group string) {
	r := kmsg.NewPtrJoinGroupRequest()
	r.Version = int16(a.num("v", 9))
	r.Group, r.MemberID, r.InstanceID = group, a.str("member", ""), a.opt("instance")
	r.ProtocolType = a.str("type", "consumer")
	r.SessionTimeoutMillis, r.RebalanceTimeoutMillis = int32(a.num("session", 10000)), int32(a.num("rebalance", 60000))
	protocols := a.vals("protocols")
	if protocols == nil {
		protocols = []string{"range:t"}
	}
	for _, p := range protocols {
		name, topics, _ := strings.Cut(p, ":")
		row := kmsg.NewJoinGroupRequestProtocol()
		row.Name, row.Metadata = name, subscription(strings.Split(topics, "+"))
		if a.HasArg("owned") {
			row.Metadata = ownedSubscription(strings.Split(topics, "+"), a.vals("owned"))
		}
		r.Protocols = append(r.Protocols, row)
	}
	req := &JoinRequest{JoinGroupRequest: r, ClientID: a.str("client", "c"), ClientHost: "/h"}
	req.Prepare()
	p := coordinator.NewPromise[*kmsg.JoinGroupResponse]()
	park(s, a.str("as", "join"), p, printJoin)
	s.do(func(tx *coordinator.Tx) { s.m.Join(tx, req, p) })
}

func (s *script) sync(a args, group string) {
	r := kmsg.NewPtrSyncGroupRequest()
	r.Version = int16(a.num("v", 5))
	r.Group, r.MemberID, r.InstanceID, r.Generation = group, a.str("member", ""), a.opt("instance"), int32(a.num("gen", 1))
	typ, protocol := a.str("type", "consumer"), a.str("protocol", "range")
	r.ProtocolType, r.Protocol = &typ, &protocol
	for _, x := range a.vals("assign") {
		row := kmsg.NewSyncGroupRequestGroupAssignment()
		id, what, _ := strings.Cut(x, ":")
		row.MemberID, row.MemberAssignment = id, assignmentBytes(what)
		r.GroupAssignment = append(r.GroupAssignment, row)
	}
	req := &SyncRequest{SyncGroupRequest: r}
	req.Prepare()
	p := coordinator.NewPromise[*kmsg.SyncGroupResponse]()
	park(s, a.str("as", "sync"), p, func(r *kmsg.SyncGroupResponse) string {
		return errName(r.ErrorCode) + " " + printAssigned(r.MemberAssignment)
	})
	s.do(func(tx *coordinator.Tx) { s.m.Sync(tx, req, p) })
}

func (s *script) leave(a args, group string) {
	r := kmsg.NewPtrLeaveGroupRequest()
	r.Version, r.Group, r.MemberID = int16(a.num("v", 5)), group, a.str("member", "")
	for _, x := range a.vals("members") { // id or id/instance
		row := kmsg.NewLeaveGroupRequestMember()
		id, instance, static := strings.Cut(x, "/")
		row.MemberID = id
		if static {
			row.InstanceID = &instance
		}
		r.Members = append(r.Members, row)
	}
	s.do(func(tx *coordinator.Tx) {
		rows, err := s.m.Leave(tx, r)
		if err != nil {
			s.result(err)
		}
		for _, row := range rows {
			fmt.Fprintf(&s.out, "%s %s: %s\n", row.MemberID, str(row.InstanceID), errName(row.ErrorCode))
		}
	})
}

func topicID(n int) (id kafka.TopicID) { id[0] = byte(n); return id }

// commit offsets=(t-0@100,t-1@7)
func (s *script) commit(a args, group string) {
	r := &Commit{
		Group: group, Version: int16(a.num("v", 9)), Generation: int32(a.num("gen", -1)), MemberID: a.str("member", ""),
		InstanceID: a.opt("instance"), RetentionMillis: int64(a.num("retention", -1)),
	}
	for _, x := range a.vals("offsets") {
		tp, offset, _ := strings.Cut(x, "@")
		topic, partition, _ := strings.Cut(tp, "-")
		row := kmsg.NewOffsetCommitRequestTopicPartition()
		n, _ := strconv.Atoi(partition)
		o, _ := strconv.Atoi(offset)
		row.Partition, row.Offset, row.LeaderEpoch, row.Metadata = int32(n), int64(o), int32(a.num("epoch", -1)), a.opt("metadata")
		r.Topics = append(r.Topics, CommitTopic{
			Name: topic, ID: topicID(a.num("id", 0)), Partitions: []kmsg.OffsetCommitRequestTopicPartition{row},
		})
	}
	s.do(func(tx *coordinator.Tx) { s.codes(s.m.Commit(tx, r)) })
}

func fetchTopics(tps []string) []FetchTopic {
	var out []FetchTopic
	for _, x := range tps {
		topic, partition, _ := strings.Cut(x, "-")
		n, _ := strconv.Atoi(partition)
		out = append(out, FetchTopic{Name: topic, Partitions: []int32{int32(n)}})
	}
	return out
}

func (s *script) fetch(a args, group string) {
	topics := fetchTopics(a.vals("topics"))
	for i := range topics {
		topics[i].ID = topicID(a.num("id", 0))
	}
	for _, t := range s.m.Fetch(group, topics) {
		for _, p := range t.Partitions {
			fmt.Fprintf(&s.out, "%s-%d offset=%d epoch=%d metadata=%q\n", t.Name, p.Partition, p.Offset, p.LeaderEpoch, p.Metadata)
		}
	}
}

func (s *script) describe(g kmsg.DescribeGroupsResponseGroup) {
	fmt.Fprintf(&s.out, "%s %s type=%q protocol=%q %s\n", errName(g.ErrorCode), g.State, g.ProtocolType, g.Protocol, str(g.ErrorMessage))
	for _, m := range g.Members {
		fmt.Fprintf(&s.out, "  %s instance=%s %s%s metadata=%d bytes assignment=%q\n", m.MemberID, str(m.InstanceID), m.ClientID,
			m.ClientHost, len(m.ProtocolMetadata), m.MemberAssignment)
	}
}

func (s *script) advance(d time.Duration) {
	end := s.now.Add(d)
	start := s.now
	for {
		next, ok := s.timers.Next()
		if !ok || next.After(end) {
			break
		}
		s.now = next
		op := s.timers.Due(s.now)
		before := s.out.Len()
		s.do(op)
		if text := s.out.String()[before:]; text != "" {
			rest := s.out.String()[:before]
			s.out.Reset()
			fmt.Fprintf(&s.out, "%safter %v\n%s", rest, s.now.Sub(start), text)
		}
	}
	s.now = end
}

// restart fails what waits and replays the log into a new machine.
func (s *script) restart() {
	s.m.Unloaded(kafka.ErrNotCoordinator)
	s.do(func(*coordinator.Tx) {})
	s.fresh()
	for i, rec := range s.written {
		err := s.m.Replay(coordinator.Replayed{Record: rec, Offset: kafka.Offset(i), ProducerID: kafka.NoProducerID})
		if err != nil {
			fmt.Fprintln(&s.out, err)
		}
	}
	s.do(s.m.Loaded)
}

func TestMachine(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := newScript(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.run(d) })
	})
}
