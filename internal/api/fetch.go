package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/replica"
)

// Fetch (key 1).
//
//	4   isolation level, aborted transactions
//	5   log start offset
//	7   sessions (KIP-227)
//	9   current leader epoch (KIP-320)
//	10  zstd
//	11  rack, preferred read replica (KIP-392, see read_replica.go); from here on followers answer too
//	12  flexible; last fetched epoch, diverging epoch
//	13  topic IDs (KIP-516)
//	15  replica state instead of replica ID (KIP-903)
//	16  endpoints of the leaders hinted at (KIP-951)
//	17  directory ID of a follower (KIP-853)
//	18  high watermark of a follower (KIP-1166)
//
// All of it runs on the write side: a session's requests take their turn there, and waiting for data must not keep the
// connection's next requests from getting their order.
func (h *Handlers) fetch(_ context.Context, r *Request) Reply {
	m := r.Body.(*kmsg.FetchRequest)
	return func(ctx context.Context) Response {
		req, err := newFetchRequest(m, h.fetchEntries.get())
		f := &fetch{h: h, conn: r.Conn, req: req, config: h.Config.Load()}
		if err != nil {
			return f.encode(kafka.CodeOf(err), noSession)
		}
		return f.run(ctx)
	}
}

// fetch is one Fetch request being answered.
type fetch struct {
	h       *Handlers
	conn    *Conn
	req     *fetchRequest
	config  *config.Config
	session *fetchSession // of an incremental fetch
	create  bool          // a session is to be made
	entries []fetchEntry
	nodes   []nodeEndpoint
	readers readReplicas // nearer replicas to point the client at
	sure    surely
}

func (f *fetch) run(ctx context.Context) Response {
	if err := f.begin(); err != nil {
		return f.encode(kafka.CodeOf(err), noSession)
	}
	f.readers = f.h.readReplicas(f.conn, f.req)
	f.resolve()
	if !f.read(ctx) {
		releaseRecords(f.entries)
		return Response{Close: true}
	}
	f.hints()
	switch {
	case f.session != nil:
		if err := f.h.fetchSessions.finish(f.session, f.req, f.entries); err != nil {
			releaseRecords(f.entries)
			f.entries = nil
			return f.encode(kafka.CodeOf(err), f.session.id)
		}
		return f.encode(0, f.session.id)
	case f.create:
		return f.encode(0, f.h.fetchSessions.create(f.req, f.entries, f.sessionLimits(), f.h.Clock.Now()))
	}
	return f.encode(0, noSession)
}

func (f *fetch) sessionLimits() sessionLimits {
	return sessionLimits{f.config.FetchSessionsMax, f.config.FetchSessionPartitionsMax}
}

// begin finds out which partitions the request is about: those that it names, or those of its session.
func (f *fetch) begin() error {
	switch f.req.sessionEpoch {
	case initialSessionEpoch, finalSessionEpoch:
		if f.req.sessionID != noSession {
			f.h.fetchSessions.drop(f.req.sessionID)
		}
		f.create = f.req.sessionEpoch == initialSessionEpoch
		f.entries = f.req.entries
		return nil
	}
	f.entries = f.h.fetchEntries.get()
	s, err := f.h.fetchSessions.resume(f.req, f.sessionLimits(), f.h.Clock.Now(), func(p *sessionPartition) {
		f.entries = append(f.entries, fetchEntry{key: p.key, topic: p.topic, fetchParams: p.fetchParams})
	})
	if s == nil && err == nil { // the session was left empty and is closed
		f.entries = f.req.entries
	}
	f.session = s
	return err
}

// resolve finds the partitions of all entries.
func (f *fetch) resolve() {
	image := f.h.Store.Image()
	for i := range f.entries {
		e := &f.entries[i]
		id, err := e.resolve(image, f.req.topicIDs)
		if kafka.CodeOf(err) == kafka.ErrInconsistentTopicID.Code { // the topic exists: this counts as read
			e.partition, e.refused = nil, false
			e.fail(err)
			continue
		}
		if err != nil {
			e.refuse(err)
			continue
		}
		e.refused = false
		e.clear()
		if e.partition, err = f.h.Replicas.Partition(id); err != nil {
			e.fail(err)
		}
	}
}

// late tells whether some error may be gone once this node has taken in what is committed.
func (f *fetch) late() bool {
	for i := range f.entries {
		if e := &f.entries[i]; e.code != 0 && f.h.perhapsLate(e.code, e.topic, e.key.partition) {
			return true
		}
	}
	return false
}

// catchUp makes sure that the metadata are up to date before this node says that something does not exist. Where that
// cannot be had, the client is told to look for the leader again: consumers take LEADER_NOT_AVAILABLE and its like for a bug.
func (f *fetch) catchUp(ctx context.Context) {
	unsure := f.sure.ask(ctx, f.h)
	f.resolve()
	for i := range f.entries {
		if e := &f.entries[i]; unsure != nil && unknown(e.code) {
			e.code = kafka.ErrNotLeaderOrFollower.Code
		}
	}
}

// read reads until there is enough, something failed, or the time is up; false if the connection ended meanwhile.
func (f *fetch) read(ctx context.Context) bool {
	maxBytes := min(f.req.maxBytes, int(f.config.FetchMaxBytes))
	minBytes := min(f.req.minBytes, maxBytes)
	wait := min(f.req.maxWait, f.config.FetchMaxWait)
	got := f.readOnce(maxBytes)
	if f.late() {
		if f.catchUp(ctx); ctx.Err() != nil {
			return false
		}
		got = f.readOnce(maxBytes)
	}
	if got >= minBytes || wait <= 0 || f.ended() {
		return true
	}
	timer := f.h.Clock.NewTimer(wait)
	defer timer.Stop()
	signal := make(chan struct{}, 1)
	for i := range f.entries {
		if p := f.entries[i].partition; p != nil {
			p.Watch(signal)
			defer p.Unwatch(signal)
		}
	}
	for { // registered; now look again, then wait
		if f.readOnce(maxBytes) >= minBytes || f.ended() {
			return true
		}
		select {
		case <-signal:
		case <-timer.C():
			f.readOnce(maxBytes)
			return true
		case <-ctx.Done():
			return false
		}
	}
}

// ended tells whether waiting would be wrong: an error, a diverging epoch, a nearer replica, or nothing to wait for.
func (f *fetch) ended() bool {
	waiting := false
	for i := range f.entries {
		e := &f.entries[i]
		if e.refused {
			continue
		}
		if e.code != 0 || e.diverging != nil || e.readReplica != kafka.NoLeader {
			return true
		}
		waiting = true
	}
	return !waiting
}

// readOnce reads all partitions, in order, up to maxBytes in all, and returns how many bytes there are. The first batch
// found is returned even where it is larger than any limit, so that a consumer always gets on.
func (f *fetch) readOnce(maxBytes int) int {
	left, first, total := max(0, maxBytes), true, 0
	for i := range f.entries {
		e := &f.entries[i]
		if e.refused || e.partition == nil {
			continue
		}
		e.clear()
		f.readEntry(e, min(int(e.maxBytes), left), first)
		if e.size > 0 {
			first = false
			total += e.size
			left = max(0, left-e.size)
		}
	}
	return total
}

func (f *fetch) readEntry(e *fetchEntry, maxBytes int, first bool) {
	if f.req.replicaID >= 0 { // replicas of chronik do not use this API, so whoever this is, it is none of them
		if e.leaderEpochAsked != kafka.NoLeaderEpoch {
			e.fail(kafka.ErrUnknownLeaderEpoch)
		} else {
			e.fail(kafka.ErrNotLeaderOrFollower)
		}
		return
	}
	if f.req.version < 10 && e.partition.Config().CompressionType == config.CompressionZstd {
		e.fail(kafka.ErrUnsupportedCompressionType)
		return
	}
	if id := f.readers.choose(e); id != kafka.NoLeader {
		f.pointAt(e, id)
		return
	}
	res, err := e.partition.Fetch(replica.FetchRequest{
		From:             e.from,
		MaxBytes:         maxBytes,
		MinOneBatch:      first,
		Isolation:        f.req.isolation,
		LeaderEpoch:      e.leaderEpochAsked,
		LastFetchedEpoch: e.lastFetchedEpoch,
		AnyReplica:       f.req.version >= 11,
	})
	if err != nil {
		e.fail(err)
		switch e.code {
		case kafka.ErrUnknownServerError.Code, kafka.ErrKafkaStorageError.Code, kafka.ErrCorruptMessage.Code:
			f.h.Logger.Error("a fetch failed", "topic", e.topic, "partition", e.key.partition, "offset", e.from, "error", err)
		}
		return
	}
	e.highWatermark, e.lastStable, e.logStart = res.HighWatermark, res.LastStable, res.LogStart
	e.diverging, e.aborted = res.Diverging, res.Aborted
	e.withAborted = f.req.isolation == replica.ReadCommitted
	e.records, e.size = res.Records, res.Records.Len()
}

// hints tells who leads, and where that node listens, to clients that asked the wrong one or in an old epoch (KIP-951).
func (f *fetch) hints() {
	if f.req.version < 16 {
		return
	}
	for i := range f.entries {
		e := &f.entries[i]
		if e.code != kafka.ErrNotLeaderOrFollower.Code && e.code != kafka.ErrFencedLeaderEpoch.Code {
			continue
		}
		hint, ok := f.h.leaderHint(f.conn, e.topic, e.key.partition)
		if !ok {
			continue
		}
		e.leaderHint, e.leaderEpoch = hint.node.id, hint.epoch
		f.nodes = addNode(f.nodes, hint.node)
	}
}

func (f *fetch) encode(code int16, sessionID int32) Response {
	entries := f.entries
	if code != 0 {
		entries = nil
	}
	p, err := (&fetchResponse{version: f.req.version, code: code, sessionID: sessionID, entries: entries, nodes: f.nodes}).encode(&f.h.fetchEntries)
	if err != nil {
		f.h.Logger.Error("records could not be read for a fetch; closing the connection", "error", err)
		releaseRecords(f.entries)
		return Response{Close: true}
	}
	return Response{Payload: p}
}
