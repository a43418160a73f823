package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// commitVersion is the last of OffsetCommit before flexible encoding, so that a frame can be patched in place.
const commitVersion = 7

// Commit commits offsets of o.Groups groups over o.Connections sockets, each to the coordinator of its group, and reports rates
// and the latency of each request. A request commits o.BatchSize partitions; a record of the report is one of them. The
// commits are those of consumers without a membership. At the end every group's offsets are asked for: the last that was
// acknowledged must be there.
func Commit(ctx context.Context, o Options) (*Report, error) {
	o.Partitions = max(o.Partitions, int32(o.BatchSize))
	if err := o.Check(); err != nil {
		return nil, err
	}
	setDefault(&o.Groups, o.Connections)
	o.Driver, o.RecordBytes = DriverRaw, 0
	t, err := prepare(ctx, &o)
	if err != nil {
		return nil, err
	}
	r, err := commitTo(ctx, &o, t)
	return r, errors.Join(err, t.close(context.WithoutCancel(ctx)))
}

func commitTo(ctx context.Context, o *Options, t *target) (*Report, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	groups := make([]string, o.Groups)
	for i := range groups {
		groups[i] = fmt.Sprintf("%s-%d", t.name, i)
	}
	coordinators, err := coordinatorsOf(ctx, t.admin, groups)
	if err != nil {
		return nil, err
	}
	phase, m := &phases{}, &meter{}
	workers := make([]*committer, o.Connections)
	for i := range workers {
		addr := coordinators[groups[i%len(groups)]]
		workers[i] = &committer{o: o, topic: t.name, addr: addr, phase: phase, meter: m}
		// Connections of one group write offsets that the others cannot have written.
		workers[i].next = int64(i/len(groups)) << 40
	}
	spreadGroups(workers, groups, coordinators)
	var running sync.WaitGroup
	errs := make([]error, len(workers))
	for i, w := range workers {
		running.Go(func() { errs[i] = w.run(ctx) })
	}
	go progress(ctx, o.Progress, "commit", m)
	elapsed := phase.run(ctx, o.Warmup, o.Duration, nil)
	running.Wait()
	r := newReport("commit", o)
	var h histogram
	for _, w := range workers {
		h.merge(&w.hist)
	}
	r.count(m)
	r.finish(elapsed, &h)
	if err := errors.Join(errs...); err != nil || !o.Verify {
		return r, err
	}
	return r, verifyCommits(ctx, o, t, workers, r)
}

// spreadGroups gives each connection the group that it was made for, and shares the rest among those to the right broker.
func spreadGroups(workers []*committer, groups []string, coordinators map[string]string) {
	byAddr := map[string][]*committer{}
	for i, w := range workers {
		byAddr[w.addr] = append(byAddr[w.addr], w)
		w.take(groups[i%len(groups)])
	}
	turn := 0
	for _, g := range groups[min(len(workers), len(groups)):] {
		// Of a broker that no connection goes to there are no groups in the report.
		if of := byAddr[coordinators[g]]; len(of) > 0 {
			of[turn%len(of)].take(g)
			turn++
		}
	}
}

// coordinatorsOf finds who coordinates each group; it waits until all can be had.
func coordinatorsOf(ctx context.Context, admin *kadm.Client, groups []string) (map[string]string, error) {
	var last error
	for range 200 {
		addrs := make(map[string]string, len(groups))
		found := admin.FindGroupCoordinators(ctx, groups...)
		last = nil
		for _, c := range found {
			if c.Err != nil {
				last = fmt.Errorf("bench: coordinator of group %s: %w", c.Name, c.Err)
				continue
			}
			addrs[c.Name] = net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))
		}
		if last == nil && len(addrs) == len(groups) {
			return addrs, nil
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return nil, last
}

// committer is one connection: a commit after the other, each with the next offset, for its groups in turn.
type committer struct {
	o      *Options
	topic  string
	addr   string
	groups []committing
	next   int64 // offset to commit
	phase  *phases
	meter  *meter
	hist   histogram
}

// committing is one group of a committer.
type committing struct {
	group string
	frame []byte
	at    int   // of the first offset in frame
	step  int   // from one to the next
	acked int64 // the last that was acknowledged; 0 for none
}

func (w *committer) take(group string) {
	frame, at, step := commitFrame(group, w.topic, w.o.BatchSize)
	w.groups = append(w.groups, committing{group: group, frame: frame, at: at, step: step})
}

// commitFrame is a whole OffsetCommit of partitions 0 to n-1; the first offset stands at at, the others step apart.
func commitFrame(group, topic string, n int) (frame []byte, at, step int) {
	f := header(nil, int16(kmsg.OffsetCommit), commitVersion)
	f = appendString(f, group)
	f = binary.BigEndian.AppendUint32(f, 0xffffffff) // no generation,
	f = appendString(f, "")                          // no member
	f = append(f, 0xff, 0xff)                        // and no instance
	f = binary.BigEndian.AppendUint32(f, 1)
	f = appendString(f, topic)
	f = binary.BigEndian.AppendUint32(f, uint32(n))
	at = len(f) + 4
	for p := range n {
		f = binary.BigEndian.AppendUint32(f, uint32(p))
		f = binary.BigEndian.AppendUint64(f, 0)          // patched
		f = binary.BigEndian.AppendUint32(f, 0xffffffff) // no leader epoch
		f = append(f, 0, 0)                              // no metadata
	}
	return sized(f), at, 18
}

// commitError is the first error of an OffsetCommit response of one topic.
func commitError(response []byte, topic string) error {
	at := 4 + 4 + 4 + 2 + len(topic)
	if len(response) < at+4 {
		return fmt.Errorf("an OffsetCommit response of %d bytes is too short", len(response))
	}
	n := int(binary.BigEndian.Uint32(response[at:]))
	at += 4
	if len(response) != at+6*n {
		return fmt.Errorf("an OffsetCommit response of %d bytes for %d partitions", len(response), n)
	}
	for p := range n {
		if err := kerr.ErrorForCode(int16(binary.BigEndian.Uint16(response[at+6*p+4:]))); err != nil {
			return err
		}
	}
	return nil
}

func (w *committer) run(ctx context.Context) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", w.addr)
	if err != nil {
		return fmt.Errorf("bench: connect to the coordinator at %s: %w", w.addr, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	in := bufio.NewReaderSize(conn, 4096)
	var buf []byte
	for turn := 0; !w.phase.stop.Load(); turn++ {
		g := &w.groups[turn%len(w.groups)]
		w.next++
		for p := range w.o.BatchSize {
			binary.BigEndian.PutUint64(g.frame[g.at+p*g.step:], uint64(w.next))
		}
		began := time.Now()
		if _, err := conn.Write(g.frame); err != nil {
			return fmt.Errorf("bench: write to %s: %w", w.addr, err)
		}
		if buf, err = readFrame(in, buf); err != nil {
			return fmt.Errorf("bench: read from %s: %w", w.addr, err)
		}
		w.answered(g, began, buf)
	}
	return nil
}

func (w *committer) answered(g *committing, began time.Time, response []byte) {
	if err := commitError(response, w.topic); err != nil {
		if w.phase.measuring.Load() || !kerr.IsRetriable(err) {
			w.meter.fail(err)
		} else {
			time.Sleep(time.Millisecond) // the coordinator is being loaded
		}
		return
	}
	g.acked = w.next
	if !w.phase.measuring.Load() || began.Before(w.phase.began) {
		return
	}
	w.hist.add(time.Since(began))
	w.meter.requests.Add(1)
	w.meter.records.Add(int64(w.o.BatchSize))
	w.meter.bytes.Add(int64(len(g.frame)))
}

// verifyCommits asks for what every group has: the last that one of its connections was told of, on each partition, unless a
// commit failed, which may have come through all the same.
func verifyCommits(ctx context.Context, o *Options, t *target, workers []*committer, r *Report) error {
	byGroup := map[string][]int64{}
	for _, w := range workers {
		for i := range w.groups {
			if g := &w.groups[i]; g.acked != 0 {
				byGroup[g.group] = append(byGroup[g.group], g.acked)
			}
		}
	}
	for group, acked := range byGroup {
		offsets, err := t.admin.FetchOffsets(ctx, group)
		if err != nil {
			return fmt.Errorf("bench: offsets of group %s: %w", group, err)
		}
		for p := range o.BatchSize {
			have, ok := offsets.Lookup(t.name, int32(p))
			if !ok || !slices.Contains(acked, have.At) && r.Errors == 0 {
				return fmt.Errorf("bench: group %s has offset %d of %s/%d, which no connection was told last", group, have.At, t.name, p)
			}
		}
	}
	r.Verified = fmt.Sprintf("the last offset of each partition, of %d groups", len(byGroup))
	return nil
}
