package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// MembersOptions of a run that fills one classic group.
type MembersOptions struct {
	Bootstrap []string
	Members   int           // connections, a member each
	Heartbeat time.Duration // between two of a member; 3 s as clients do
	Session   time.Duration // 45 s
	Patience  time.Duration // for each step; 60 s
	Progress  io.Writer
}

// MembersReport is how long a group took until every member had its place.
type MembersReport struct {
	Members     int           `json:"members"`
	Storm       time.Duration `json:"storm_ns"` // from the last of the first JoinGroups, all at once, to stable
	Late        time.Duration `json:"late_ns"`  // from the JoinGroup of one more member to stable
	Leave       time.Duration `json:"leave_ns"` // from the LeaveGroup of one member to stable
	Generations int32         `json:"generations"`
	Verified    string        `json:"verified"`
}

// Members has many members, each on a connection of its own, join one classic group at once, then one more, then one leave, and
// measures how long it takes each time until all have synchronised in one generation, each with an assignment of its own.
func Members(ctx context.Context, o MembersOptions) (*MembersReport, error) {
	setDefault(&o.Members, 1000)
	setDefault(&o.Heartbeat, 3*time.Second)
	setDefault(&o.Session, 45*time.Second)
	setDefault(&o.Patience, time.Minute)
	b := Options{Bootstrap: o.Bootstrap}
	if err := b.Check(); err != nil {
		return nil, err
	}
	t, err := prepare(ctx, &b)
	if err != nil {
		return nil, err
	}
	r, err := fillGroup(ctx, &o, t)
	return r, errors.Join(err, t.close(context.WithoutCancel(ctx)))
}

func fillGroup(ctx context.Context, o *MembersOptions, t *target) (*MembersReport, error) {
	coordinators, err := coordinatorsOf(ctx, t.admin, []string{t.name})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	g := &memberGroup{o: o, group: t.name, topic: t.name, addr: coordinators[t.name], changed: make(chan struct{}, 1), leave: make(chan struct{})}
	g.mu.places = map[int]place{}
	defer func() { // the last thing: every goroutine has ended
		cancel()
		g.running.Wait()
	}()
	for i := range o.Members {
		g.start(ctx, i)
	}
	r := &MembersReport{Members: o.Members}
	for _, step := range []struct {
		name    string
		began   func() time.Time
		members int
		took    *time.Duration
	}{
		{"join", func() time.Time { return time.Time{} }, o.Members, &r.Storm},
		{"one more joins", func() time.Time { g.start(ctx, o.Members); return time.Now() }, o.Members + 1, &r.Late},
		{"one leaves", func() time.Time { now := time.Now(); close(g.leave); return now }, o.Members, &r.Leave},
	} {
		if o.Progress != nil {
			_, _ = fmt.Fprintf(o.Progress, "\r\x1b[Kgroup of %d: %s", o.Members, step.name) // only for the eye
		}
		began := step.began()
		if err := g.await(ctx, step.members, r.Generations+1); err != nil {
			return r, fmt.Errorf("bench members, %s: %w", step.name, err)
		}
		g.mu.Lock()
		if began.IsZero() {
			began = g.mu.lastJoin
		}
		for _, p := range g.mu.places {
			*step.took = max(*step.took, p.since.Sub(began))
			r.Generations = p.generation
		}
		g.mu.Unlock()
	}
	r.Verified = "in each of the last generations every member had an assignment of its own"
	return r, nil
}

// WriteTable prints the report for a person.
func (r *MembersReport) WriteTable(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%d members, all stable: %s after the last of them joined, %s after one more joined, %s after one left; %d generations; %s\n",
		r.Members, short(r.Storm), short(r.Late), short(r.Leave), r.Generations, r.Verified)
	return err
}

// memberGroup is the members and where each of them is.
type memberGroup struct {
	o           *MembersOptions
	group       string
	topic, addr string
	running     sync.WaitGroup
	changed     chan struct{} // signalled, collapsing
	leave       chan struct{} // closed when the one more is to leave

	mu struct {
		sync.Mutex
		places   map[int]place
		lastJoin time.Time // the first JoinGroup of whoever came last
		failed   error
	}
}

// place is what a member was told last.
type place struct {
	generation int32
	assignment string
	since      time.Time
}

func (g *memberGroup) start(ctx context.Context, i int) {
	g.running.Go(func() {
		m := &groupMember{g: g, number: i}
		if i == g.o.Members { // the one more
			m.leave = g.leave
		}
		if err := m.run(ctx); err != nil && ctx.Err() == nil {
			g.mu.Lock()
			if g.mu.failed == nil {
				g.mu.failed = fmt.Errorf("member %d: %w", i, err)
			}
			g.mu.Unlock()
		}
	})
}

// placed notes where a member is; nil for nowhere.
func (g *memberGroup) placed(i int, p *place) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p == nil {
		delete(g.mu.places, i)
	} else {
		g.mu.places[i] = *p
	}
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// await waits until so many members are in one generation, at least the given one, and no two have the same assignment.
func (g *memberGroup) await(ctx context.Context, members int, atLeast int32) error {
	end := time.NewTimer(g.o.Patience)
	defer end.Stop()
	for {
		why := g.lacks(members, atLeast)
		if why == nil {
			return nil
		}
		select {
		case <-g.changed:
		case <-time.After(50 * time.Millisecond):
		case <-end.C:
			return fmt.Errorf("not after %v: %w", g.o.Patience, why)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (g *memberGroup) lacks(members int, atLeast int32) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.failed != nil || len(g.mu.places) != members {
		return errors.Join(fmt.Errorf("%d of %d members have a place", len(g.mu.places), members), g.mu.failed)
	}
	owned, generation := map[string]int{}, int32(-1)
	for i, p := range g.mu.places {
		if generation < 0 {
			generation = p.generation
		}
		if p.generation != generation || p.generation < atLeast {
			return fmt.Errorf("members are in generations %d and %d", p.generation, generation)
		}
		if other, taken := owned[p.assignment]; taken {
			return fmt.Errorf("members %d and %d have the same assignment", i, other)
		}
		owned[p.assignment] = i
	}
	return nil
}

// groupMember is one member on one connection.
type groupMember struct {
	g      *memberGroup
	number int
	leave  <-chan struct{} // nil for those that stay
	id     string
	conn   net.Conn
	in     *bufio.Reader
}

// The last versions before flexible encoding.
var memberVersions = map[int16]int16{int16(kmsg.JoinGroup): 5, int16(kmsg.SyncGroup): 3, int16(kmsg.Heartbeat): 3, int16(kmsg.LeaveGroup): 2}

func (m *groupMember) run(ctx context.Context) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", m.g.addr)
	if err != nil {
		return err
	}
	m.conn, m.in = conn, bufio.NewReaderSize(conn, 512)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	first := true
	for {
		join, err := m.join(first)
		if err != nil {
			return err
		}
		first = false
		if join == nil {
			continue
		}
		stable, err := m.sync(join)
		if err != nil {
			return err
		}
		if !stable {
			continue
		}
		if left, err := m.beat(ctx, join.Generation); left || err != nil {
			return err
		}
	}
}

// join is nil where the member has to try once more.
func (m *groupMember) join(first bool) (*kmsg.JoinGroupResponse, error) {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.ProtocolType = m.g.group, m.id, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = int32(m.g.o.Session.Milliseconds()), int32(m.g.o.Patience.Milliseconds())
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Topics = []string{m.g.topic}
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", meta.AppendTo(nil)
	req.Protocols = []kmsg.JoinGroupRequestProtocol{p}
	if first {
		m.g.mu.Lock()
		m.g.mu.lastJoin = time.Now()
		m.g.mu.Unlock()
	}
	resp := kmsg.NewPtrJoinGroupResponse()
	if err := m.call(req, resp); err != nil {
		return nil, err
	}
	switch err := kerr.ErrorForCode(resp.ErrorCode); {
	case err == nil:
		m.id = resp.MemberID
		return resp, nil
	case errors.Is(err, kerr.MemberIDRequired):
		m.id = resp.MemberID
	case errors.Is(err, kerr.UnknownMemberID):
		m.id = ""
	case kerr.IsRetriable(err), errors.Is(err, kerr.RebalanceInProgress):
		time.Sleep(20 * time.Millisecond)
	default:
		return nil, fmt.Errorf("JoinGroup: %w", err)
	}
	return nil, nil
}

// sync gets the member's assignment; the leader gives each member its ID.
func (m *groupMember) sync(join *kmsg.JoinGroupResponse) (stable bool, err error) {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.MemberID, req.Generation = m.g.group, m.id, join.Generation
	for i := range join.Members {
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID, a.MemberAssignment = join.Members[i].MemberID, []byte(join.Members[i].MemberID)
		req.GroupAssignment = append(req.GroupAssignment, a)
	}
	resp := kmsg.NewPtrSyncGroupResponse()
	if err := m.call(req, resp); err != nil {
		return false, err
	}
	switch err := kerr.ErrorForCode(resp.ErrorCode); {
	case err == nil && string(resp.MemberAssignment) == m.id:
		m.g.placed(m.number, &place{join.Generation, m.id, time.Now()})
		return true, nil
	case err == nil:
		return false, fmt.Errorf("member %s was given the assignment %q", m.id, resp.MemberAssignment)
	case errors.Is(err, kerr.UnknownMemberID):
		m.id = ""
	case kerr.IsRetriable(err), errors.Is(err, kerr.RebalanceInProgress), errors.Is(err, kerr.IllegalGeneration):
	default:
		return false, fmt.Errorf("SyncGroup: %w", err)
	}
	return false, nil
}

// beat sends heartbeats until the member has to join again, or leaves.
func (m *groupMember) beat(ctx context.Context, generation int32) (left bool, err error) {
	timer := time.NewTimer(time.Duration(m.number%97+1) * m.g.o.Heartbeat / 97) // members do not beat in step
	defer timer.Stop()
	for {
		select {
		case <-m.leave:
			return true, m.depart()
		case <-ctx.Done():
			return false, ctx.Err()
		case <-timer.C:
		}
		timer.Reset(m.g.o.Heartbeat)
		req := kmsg.NewPtrHeartbeatRequest()
		req.Group, req.MemberID, req.Generation = m.g.group, m.id, generation
		resp := kmsg.NewPtrHeartbeatResponse()
		if err := m.call(req, resp); err != nil {
			return false, err
		}
		switch err := kerr.ErrorForCode(resp.ErrorCode); {
		case err == nil:
		case errors.Is(err, kerr.UnknownMemberID):
			m.id = ""
			return false, nil
		case errors.Is(err, kerr.RebalanceInProgress), errors.Is(err, kerr.IllegalGeneration):
			return false, nil
		case !kerr.IsRetriable(err):
			return false, fmt.Errorf("send a Heartbeat: %w", err)
		}
	}
}

func (m *groupMember) depart() error {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group, req.MemberID = m.g.group, m.id
	resp := kmsg.NewPtrLeaveGroupResponse()
	err := errors.Join(m.call(req, resp), kerr.ErrorForCode(resp.ErrorCode))
	m.g.placed(m.number, nil)
	return err
}

// call sends a request and reads its answer.
func (m *groupMember) call(req kmsg.Request, resp kmsg.Response) error {
	version := memberVersions[req.Key()]
	req.SetVersion(version)
	resp.SetVersion(version)
	if _, err := m.conn.Write(sized(req.AppendTo(header(nil, req.Key(), version)))); err != nil {
		return err
	}
	buf, err := readFrame(m.in, nil)
	if err != nil {
		return err
	}
	if len(buf) < 4 {
		return fmt.Errorf("a response of %d bytes", len(buf))
	}
	return resp.ReadFrom(buf[4:])
}
