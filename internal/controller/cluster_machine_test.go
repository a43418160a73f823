package controller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/vfs"
)

// fleet is the machines of a cluster in one process.
type fleet struct {
	t        testing.TB
	seed     uint64
	net      *memNet
	voters   []VoterAddress
	machines []*machine
	tick     time.Duration
	snapshot int64         // SnapshotBytes
	sync     time.Duration // that the disk takes for each
	life     LifecycleOptions
	// serve is what a process does once its controller is open; nil for process.serve.
	serve func(p *process, c *Controller, directory [16]byte) error

	mu       sync.Mutex
	clusters map[string]bool // that any node belonged to
}

// machine is one node through all its processes and disks.
type machine struct {
	f       *fleet
	id      kafka.BrokerID
	address string
	voters  []VoterAddress // as configured here
	join    string
	fs      *vfs.Mem
	disks   int
	starts  int
	p       *process // nil while it is off
}

// process is one process of a machine.
type process struct {
	m         *machine
	node      *memNode
	links     *Links
	ctx       context.Context
	cancel    context.CancelFunc
	ended     sync.WaitGroup
	directory [16]byte
	incarnate [16]byte

	mu    sync.Mutex
	c     *Controller // once it is open
	epoch kafka.BrokerEpoch
	ready bool // registered
	err   error
	fatal error
}

func newFleet(t testing.TB, seed uint64, size int) *fleet {
	f := &fleet{t: t, seed: seed, net: newMemNet(seed), tick: 100 * time.Millisecond, snapshot: 64 << 10, clusters: map[string]bool{}}
	for i := range size {
		f.voters = append(f.voters, VoterAddress{ID: kafka.BrokerID(i + 1), Address: fmt.Sprintf("node%d:9291", i+1)})
	}
	for _, v := range f.voters {
		f.add(v.ID, f.voters, "")
	}
	return f
}

func (f *fleet) add(id kafka.BrokerID, voters []VoterAddress, join string) *machine {
	m := &machine{f: f, id: id, address: fmt.Sprintf("node%d:9291", id), voters: voters, join: join, fs: vfs.NewMem(0)}
	f.machines = append(f.machines, m)
	return m
}

// disk is the machine's, as slow as it is.
func (m *machine) disk() vfs.FS {
	if m.f.sync == 0 {
		return m.fs
	}
	slow := vfs.NewFault(m.fs, clock.System{})
	slow.Add(vfs.Rule{Op: vfs.OpSync, Delay: m.f.sync})
	return slow
}

// wipe gives the machine an empty disk.
func (m *machine) wipe() {
	m.fs = vfs.NewMem(0)
	m.disks++
}

const identityFile = "/data/node"

// identity reads the directory's ID and cluster, and makes them anew on an empty disk.
func (m *machine) identity() (directory [16]byte, clusterID string, err error) {
	f, err := m.fs.Open(identityFile)
	if errors.Is(err, fs.ErrNotExist) {
		directory = directoryOf(m.f.seed, m.id, m.disks)
		if err = m.fs.MkdirAll("/data"); err == nil {
			err = m.fs.SyncDir("/")
		}
		if err == nil {
			err = m.setIdentity(directory, "")
		}
		return directory, "", err
	}
	if err != nil {
		return directory, "", err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return directory, "", err
	}
	b := make([]byte, size)
	if _, err = f.ReadAt(b, 0); err != nil {
		return directory, "", err
	}
	return [16]byte(b[:16]), string(b[16:]), nil
}

func (m *machine) setIdentity(directory [16]byte, clusterID string) error {
	_ = m.fs.Remove(identityFile + ".new")
	f, err := m.fs.Create(identityFile + ".new")
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err = f.WriteAt(append(directory[:], clusterID...), 0); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = m.fs.Rename(identityFile+".new", identityFile); err != nil {
		return err
	}
	return m.fs.SyncDir("/data")
}

// start begins a process and returns at once.
func (m *machine) start() *process {
	m.starts++
	p := &process{m: m}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	m.p = p
	p.ended.Go(func() {
		if err := p.run(); err != nil {
			p.mu.Lock()
			p.err = err
			p.mu.Unlock()
		}
	})
	return p
}

func (p *process) run() error {
	m, f := p.m, p.m.f
	directory, clusterID, err := m.identity()
	if err != nil {
		return err
	}
	p.directory = directory
	p.incarnate = directoryOf(f.seed+1, m.id, m.starts)
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("CHRONIK_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", m.id)
	}
	self := peerIdentity(m, p, clusterID)
	p.mu.Lock()
	p.node = f.net.join(self)
	p.links = NewLinks(LinksOptions{Peers: p.node, Logger: log})
	p.mu.Unlock()
	p.node.listen()
	disk := m.disk()
	start, err := Bootstrap(p.ctx, BootstrapOptions{Links: p.links, FS: disk, Dir: "/data/metadata", WALFileBytes: 64 << 10, ClusterID: clusterID,
		Voters: m.voters, Join: m.join, Logger: log, SetClusterID: func(id string) error { return m.setIdentity(directory, id) }})
	if err != nil {
		return err
	}
	if _, clusterID, err = m.identity(); err != nil {
		return err
	}
	c, err := Open(Options{FS: disk, Dir: "/data/metadata", NodeID: m.id, Directory: directory, ClusterID: clusterID, Joined: clusterID != "",
		Lifecycle: f.life, LastHeard: p.node.LastHeard,
		ClusterAddress: m.address, Transport: p.links, Start: start, tick: f.tick, SnapshotBytes: f.snapshot, entriesKept: 20, WALFileBytes: 64 << 10, EventsRetained: 16,
		Logger: log, Fatal: func(err error) {
			p.mu.Lock()
			p.fatal = err
			p.mu.Unlock()
		}})
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.c = c
	p.mu.Unlock()
	if f.serve != nil {
		return f.serve(p, c, directory)
	}
	return p.serve(c, directory)
}

// serve registers and then says that it is alive.
func (p *process) serve(c *Controller, directory [16]byte) error {
	m := p.m
	for {
		ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
		epoch, err := c.RegisterBroker(ctx, metadata.RegisterBroker{ID: m.id, Incarnation: p.incarnate, Directory: directory, ClusterAddress: m.address})
		cancel()
		if err == nil {
			if err := m.setIdentity(directory, c.Image().ClusterID()); err != nil {
				return err
			}
			m.f.mu.Lock()
			m.f.clusters[c.Image().ClusterID()] = true
			m.f.mu.Unlock()
			p.mu.Lock()
			p.epoch, p.ready = epoch, true
			p.mu.Unlock()
			break
		}
		if !p.sleep(50 * time.Millisecond) {
			return nil
		}
	}
	for wait := m.f.tick / 10; p.sleep(wait); wait = 5 * m.f.tick {
		ctx, cancel := context.WithTimeout(p.ctx, time.Second)
		_, _ = c.Heartbeat(ctx, metadata.Heartbeat{Broker: m.id, Epoch: p.epoch, Incarnation: p.incarnate, Applied: c.Image().Offset(), Ready: true})
		cancel()
	}
	return nil
}

func (p *process) sleep(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-p.ctx.Done():
		return false
	}
}

// controller is the process's, nil until it is open.
func (m *machine) controller() *Controller {
	if m.p == nil {
		return nil
	}
	m.p.mu.Lock()
	defer m.p.mu.Unlock()
	return m.p.c
}

func (m *machine) registered() bool {
	if m.p == nil {
		return false
	}
	m.p.mu.Lock()
	defer m.p.mu.Unlock()
	return m.p.ready
}

// kill ends the process at once; power takes what was not synced, too.
func (m *machine) kill(power *rand.Rand) {
	p := m.p
	m.p = nil
	m.crash(p, power)
}

// crash is a kill of the process that was taken off the machine.
func (m *machine) crash(p *process, power *rand.Rand) {
	p.mu.Lock()
	node := p.node
	p.mu.Unlock()
	if node != nil {
		node.die()
	}
	old := m.fs
	if power != nil {
		m.fs = old.PowerLoss(power)
	} else {
		m.fs = old.Kill()
	}
	p.end()
}

// stop ends the process in order.
func (m *machine) stop() error {
	p := m.p
	m.p = nil
	p.cancel()
	p.ended.Wait()
	err := p.close()
	if p.node != nil {
		p.node.die()
	}
	return err
}

func (p *process) end() {
	p.cancel()
	p.ended.Wait()
	_ = p.close()
}

func (p *process) close() error {
	p.mu.Lock()
	c, links := p.c, p.links
	p.mu.Unlock()
	if c != nil {
		return c.Close()
	}
	if links != nil {
		links.Detach()
	}
	return nil
}

// died tells whether the machine's disk has failed it, as KillAfter makes it.
func (m *machine) died() bool {
	select {
	case <-m.fs.Died():
		return true
	default:
		return false
	}
}

func (f *fleet) startAll() {
	for _, m := range f.machines {
		m.start()
	}
}

// close ends everything.
func (f *fleet) close() {
	for _, m := range f.machines {
		if m.p != nil {
			m.kill(nil)
		}
	}
	f.net.under.Wait()
}

// eventually waits until a condition holds.
func (f *fleet) eventually(what string, within time.Duration, holds func() bool) {
	f.t.Helper()
	for end := time.Now().Add(within); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("seed %d: after %v: not %s\n%s", f.seed, within, what, f.state())
		}
	}
}

func (f *fleet) state() string {
	var b bytes.Buffer
	for _, m := range f.machines {
		fmt.Fprintf(&b, "node %d: ", m.id)
		if m.p == nil {
			fmt.Fprintln(&b, "off")
			continue
		}
		m.p.mu.Lock()
		fmt.Fprintf(&b, "registered %v, error %v, fatal %v", m.p.ready, m.p.err, m.p.fatal)
		c := m.p.c
		m.p.mu.Unlock()
		if c != nil {
			img := c.Image()
			fmt.Fprintf(&b, ", controller %d, offset %d, cluster %s, voters %v", c.Controller(), img.Offset(), img.ClusterID(), ids(img.Voters()))
			for broker := range img.Brokers() {
				fmt.Fprintf(&b, ", %d fenced %v", broker.ID, broker.Fenced)
			}
		}
		fmt.Fprintln(&b)
	}
	return b.String()
}

func ids(voters []metadata.Voter) []kafka.BrokerID {
	var list []kafka.BrokerID
	for _, v := range voters {
		list = append(list, v.ID)
	}
	return list
}

// formed waits until all machines are registered in one cluster.
func (f *fleet) formed() {
	f.t.Helper()
	f.eventually("all nodes in the cluster", time.Minute, func() bool {
		for _, m := range f.machines {
			if !m.registered() {
				return false
			}
			if b := m.controller().Image().Broker(m.id); b == nil || b.Fenced {
				return false
			}
		}
		return true
	})
	f.oneCluster()
}

func (f *fleet) oneCluster() {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.clusters) > 1 {
		f.t.Fatalf("seed %d: there are %d clusters: %v", f.seed, len(f.clusters), f.clusters)
	}
}

// converged waits until all nodes have equal images.
func (f *fleet) converged() {
	f.t.Helper()
	f.eventually("at one offset", time.Minute, func() bool {
		var first *metadata.Image
		for _, m := range f.machines {
			c := m.controller()
			if c == nil {
				return false
			}
			img := c.Image()
			if first == nil {
				first = img
			}
			if img.Offset() != first.Offset() {
				return false
			}
			if !bytes.Equal(img.EncodeSnapshot(), first.EncodeSnapshot()) {
				f.t.Fatalf("seed %d: the images of offset %d differ", f.seed, img.Offset())
			}
		}
		return true
	})
}

// create makes a topic at a machine.
func (m *machine) create(name string, within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return m.controller().CreateTopics(ctx, []metadata.CreateTopic{{Name: name, Partitions: 1, ReplicationFactor: 1}}, false)[0].Err
}

// leader waits for a machine that leads.
func (f *fleet) leader() *machine {
	f.t.Helper()
	var leader *machine
	f.eventually("led", time.Minute, func() bool {
		for _, m := range f.machines {
			if c := m.controller(); c != nil && c.Controller() == m.id && !f.net.cut[m.id] {
				leader = m
				return true
			}
		}
		return false
	})
	return leader
}
