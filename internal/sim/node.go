package sim

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"time"

	"chronik/internal/broker"
	"chronik/internal/clock"
	"chronik/internal/config"
	"chronik/internal/metadata"
	"chronik/internal/sim/simnet"
	"chronik/internal/vfs"
)

const (
	kafkaPort, clusterPort = 9092, 9291
	dataDir                = "/data"
	// closeLimit is how long a node may take to end once everything it stands on is gone.
	closeLimit = time.Minute
)

// node is a machine: a disk, a place in the network, a clock, and the process that runs on it, if one does.
type node struct {
	cluster *cluster
	id      int
	ip      string
	cfg     *config.Config
	gate    *gate
	clock   *nodeClock

	turn   chan struct{} // holds one token; who has it starts or ends processes. A mutex would stop fake time.
	disk   *vfs.Mem      // what the next process sees; of who has the turn
	starts int           // likewise
	mu     struct {
		sync.Mutex
		run *incarnation // nil while none runs
	}
}

// incarnation is one process of a node.
type incarnation struct {
	node    *node
	number  int
	disk    *vfs.Mem
	faults  *vfs.Fault
	process *simnet.Process
	broker  *broker.Broker
	cancel  context.CancelFunc
	started chan struct{} // closed when Start has returned
	err     error         // of Start; read it after started
}

func (inc *incarnation) String() string { return fmt.Sprintf("n%d.%d", inc.node.id, inc.number) }

func (n *node) lock() (unlock func()) {
	<-n.turn
	return func() { n.turn <- struct{}{} }
}

// start starts a process; nothing happens if one runs.
func (n *node) start() {
	defer n.lock()()
	if n.running() != nil || n.cluster.ended() {
		return
	}
	n.starts++
	inc := &incarnation{node: n, number: n.starts, disk: n.disk, started: make(chan struct{})}
	inc.process = n.cluster.net.Host(n.ip).Boot()
	slow := vfs.NewFault(n.disk, clock.System{})
	slow.Add(vfs.Rule{Op: vfs.OpSync | vfs.OpSyncDir, Delay: n.cluster.plan.syncTime[n.id-1]})
	inc.faults = vfs.NewFault(slow, clock.System{})
	gated := vfs.NewFault(inc.faults, clock.System{})
	gated.Add(vfs.Rule{Hook: func(vfs.Operation, string) { n.gate.wait() }})
	s := sockets{n.gate, inc.process}
	inc.broker = broker.New(n.cfg, broker.Deps{
		FS: gated, Clock: n.clock, Version: "sim", Listen: s.listen, Dial: s.dial,
		Logger: slog.New(n.cluster.trace.handler(inc.String())), Fatal: inc.fatal,
	})
	ctx, cancel := context.WithCancel(context.Background())
	inc.cancel = cancel
	n.setRunning(inc)
	n.cluster.trace.note("%s starts", inc)
	go func() {
		defer close(inc.started)
		if inc.err = inc.broker.Start(ctx); inc.err != nil {
			n.cluster.trace.note("%s: start: %v", inc, inc.err)
			n.cluster.later(0, inc.exit)
		} else {
			n.cluster.trace.note("%s serves", inc)
		}
	}()
}

// fatal is called by a node that can go on no longer; its process exits, and a supervisor starts another.
func (inc *incarnation) fatal(err error) {
	inc.node.cluster.trace.note("%s: fatal: %v", inc, err)
	inc.node.cluster.later(0, inc.exit)
}

func (inc *incarnation) exit() {
	n := inc.node
	unlock := n.lock()
	if n.running() == inc {
		n.crashLocked(nil, false)
		n.cluster.later(time.Second, n.start)
	}
	unlock()
}

func (n *node) running() *incarnation {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.run
}

func (n *node) setRunning(inc *incarnation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.run = inc
}

// crash kills the process, and with power turns the machine off, which loses unsynced writes as rng draws. It returns
// when every goroutine of the process has ended.
func (n *node) crash(rng *rand.Rand, power bool) {
	defer n.lock()()
	n.crashLocked(rng, power)
}

func (n *node) crashLocked(rng *rand.Rand, power bool) {
	inc := n.running()
	n.setRunning(nil)
	if inc == nil {
		if power {
			n.cluster.trace.note("n%d loses power while it is down", n.id)
			n.disk = n.disk.PowerLoss(rng)
		}
		return
	}
	if power {
		n.cluster.trace.note("%s loses power", inc)
		n.disk = inc.disk.PowerLoss(rng)
		inc.process.PowerOff()
	} else {
		n.cluster.trace.note("%s is killed", inc)
		n.disk = inc.disk.Kill()
		inc.process.Kill()
	}
	inc.end(0)
}

// stop ends the process as a signal to terminate does.
func (n *node) stop(limit time.Duration) {
	defer n.lock()()
	inc := n.running()
	if inc == nil {
		return
	}
	n.cluster.trace.note("%s is told to stop", inc)
	inc.end(limit)
	n.setRunning(nil)
	n.disk = inc.disk.Kill()
	inc.process.Kill()
}

func (n *node) replaceDisk() {
	defer n.lock()()
	n.crashLocked(nil, false)
	n.disk = vfs.NewMem(0)
}

// corrupt flips a bit somewhere in a segment.
func (n *node) corrupt(rng *rand.Rand) {
	defer n.lock()()
	disk := n.disk
	if inc := n.running(); inc != nil {
		disk = inc.disk
	}
	var segments []string
	dirs, _ := disk.ReadDir(path.Join(dataDir, "partitions"))
	for _, dir := range dirs {
		names, _ := disk.ReadDir(path.Join(dataDir, "partitions", dir))
		for _, name := range names {
			file := path.Join(dataDir, "partitions", dir, name)
			if info, err := disk.Stat(file); err == nil && info.Size > 0 && strings.HasSuffix(name, ".log") {
				segments = append(segments, file)
			}
		}
	}
	if len(segments) == 0 {
		return
	}
	file := segments[rng.IntN(len(segments))]
	info, _ := disk.Stat(file)
	at := rng.Int64N(info.Size)
	n.cluster.trace.note("n%d: byte %d of %d of %s is flipped: %v", n.id, at, info.Size, file, disk.Corrupt(file, at, 1<<rng.IntN(8)))
}

func (n *node) roomAgain() {
	defer n.lock()()
	if inc := n.running(); inc != nil {
		inc.disk.SetCapacity(0)
	}
	n.disk.SetCapacity(0)
}

// end waits until the incarnation's goroutines have ended; what it stands on may be gone already.
func (inc *incarnation) end(limit time.Duration) {
	n := inc.node
	n.gate.set(false)
	inc.faults.Clear()
	inc.cancel()
	stuck := time.AfterFunc(closeLimit, func() {
		n.cluster.fail("%s has not ended %v after its end", inc, closeLimit)
	})
	<-inc.started
	if inc.err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		err := inc.broker.Close(ctx)
		cancel()
		if err != nil && limit > 0 {
			n.cluster.trace.note("%s: close: %v", inc, err)
		}
	}
	stuck.Stop()
	n.cluster.trace.note("%s has ended", inc)
}

// image is what the node knows of the metadata; nil while it does not serve.
func (n *node) image() *metadata.Image {
	inc := n.running()
	if inc == nil {
		return nil
	}
	select {
	case <-inc.started:
		if inc.err == nil {
			return inc.broker.Image()
		}
	default:
	}
	return nil
}
