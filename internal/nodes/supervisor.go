package nodes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	restartSoon = 300 * time.Millisecond // after a node died that had served
	restartMost = 8 * time.Second        // after one that did not, again and again
	// stopMax is for a node that does not look at its own shutdown.max.ms.
	stopMax = time.Minute
)

// exitUsage is what a node exits with whose configuration is wrong: another start would be no better.
const exitUsage = 2

// Supervisor runs nodes, and runs those again that die. The callbacks come from several goroutines and must not block
// for long.
type Supervisor struct {
	Binary    string
	Nodes     []Node
	NoRestart bool
	Changed   func(Status)                        // a node's state is another
	Line      func(id int, line string, err bool) // a node printed a line

	mu struct {
		sync.Mutex
		status map[int]Status
	}
}

// State is what a node is about.
type State string

// The states.
const (
	Starting   State = "starting"
	Serving    State = "serves"
	Restarting State = "restarts"
	Down       State = "down"
	Stopping   State = "stops"
	Stopped    State = "stopped"
)

// Status is a node's state.
type Status struct {
	Node     Node
	State    State
	Pid      int           // of Starting, Serving and Stopping
	Since    time.Time     // of the state
	Why      string        // of Restarting, Down and Stopped: how the process ended
	After    time.Duration // of Restarting
	Code     int           // the exit code of the process that ended last; -1 if it was killed
	Restarts int
}

// Status is that of all nodes now, by ID.
func (s *Supervisor) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Status
	for _, n := range s.Nodes {
		all = append(all, s.mu.status[n.ID])
	}
	return all
}

func (s *Supervisor) set(st Status) {
	st.Since = time.Now()
	s.mu.Lock()
	s.mu.status[st.Node.ID] = st
	s.mu.Unlock()
	if s.Changed != nil {
		s.Changed(st)
	}
}

// ErrAllDown is Run's error where every node is down and none is to be restarted.
var ErrAllDown = errors.New("all nodes are down")

// Run starts all nodes and returns once all are gone: stopped because ctx ended, killed because kill was closed, or down
// for good. A node whose configuration is refused stops the others too: its error says why.
func (s *Supervisor) Run(ctx context.Context, kill <-chan struct{}) error {
	s.mu.Lock()
	s.mu.status = map[int]Status{}
	s.mu.Unlock()
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(s.Nodes))
	var group sync.WaitGroup
	for i, n := range s.Nodes {
		group.Go(func() {
			errs[i] = s.keep(run, kill, n)
			if errs[i] != nil && !errors.Is(errs[i], ErrAllDown) {
				cancel()
			}
		})
	}
	group.Wait()
	errs = slices.DeleteFunc(errs, func(err error) bool { return errors.Is(err, ErrAllDown) })
	if err := errors.Join(errs...); err != nil || ctx.Err() != nil {
		return err
	}
	return ErrAllDown
}

// keep runs one node until run ends or it is down for good.
func (s *Supervisor) keep(run context.Context, kill <-chan struct{}, n Node) error {
	st := Status{Node: n}
	pause := restartSoon
	for run.Err() == nil {
		p, err := Start(Command{Binary: s.Binary, Node: n, Orphan: syscall.SIGTERM, Line: func(line string, stderr bool) {
			if s.Line != nil {
				s.Line(n.ID, line, stderr)
			}
		}})
		if err != nil {
			return err
		}
		st.State, st.Pid, st.Why = Starting, p.Pid(), ""
		s.set(st)
		select {
		case <-p.Serves():
			st.State = Serving
			s.set(st)
		case <-p.Ended():
		case <-run.Done():
		}
		select {
		case <-p.Ended():
		case <-run.Done():
			return s.end(p, st, kill)
		}
		st.Pid, st.Code, st.Why = 0, p.ExitCode(), p.Outcome()
		if st.Code == exitUsage {
			st.State = Down
			s.set(st)
			return fmt.Errorf("node %d: %s", n.ID, p.lastWords())
		}
		if s.NoRestart {
			st.State = Down
			s.set(st)
			return ErrAllDown
		}
		if closed(p.Serves()) {
			pause = restartSoon
		}
		st.State, st.After = Restarting, pause
		s.set(st)
		st.Restarts++
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-run.Done():
		}
		timer.Stop()
		pause = min(2*pause, restartMost)
	}
	st.State = Stopped
	s.set(st)
	return nil
}

// end stops a node's process: it gets SIGTERM (and SIGCONT, for one that was frozen), then SIGKILL if it takes too long or
// kill is closed.
func (s *Supervisor) end(p *Process, st Status, kill <-chan struct{}) error {
	st.State = Stopping
	s.set(st)
	p.Signal(syscall.SIGTERM)
	p.Signal(syscall.SIGCONT)
	timer := time.NewTimer(stopMax)
	defer timer.Stop()
	select {
	case <-p.Ended():
	case <-kill:
		p.Kill()
	case <-timer.C:
		p.Kill()
	}
	st.State, st.Pid, st.Code, st.Why = Stopped, 0, p.ExitCode(), p.Outcome()
	s.set(st)
	return nil
}
