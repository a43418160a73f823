package sim

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"

	"chronik/internal/vfs"
)

// faultKind is an index into faultKinds.
type faultKind int

const (
	faultKill faultKind = iota
	faultKillAll
	faultPower
	faultPowerAll
	faultKillThenPower
	faultTerminate
	faultWipe
	faultPause
	faultIsolate
	faultIsolateAll
	faultOneWay
	faultClients
	faultRefuse
	faultReset
	faultSlowLink
	faultSlowDisk
	faultStall
	faultSyncError
	faultReadError
	faultFull
	faultJump
	faultCorrupt
	faultOneByOne
)

func (k faultKind) String() string { return faultKinds[k].name }

// faultKinds: how often each is drawn, and what it does. begin returns what ends it, nil for nothing.
var faultKinds = [...]struct {
	name   string
	weight int
	begin  func(m *nemesis, f fault, rng *rand.Rand) (end func())
}{
	faultKill:          {"kill", 10, (*nemesis).kill},
	faultKillAll:       {"kill all", 2, (*nemesis).killAll},
	faultPower:         {"power loss", 8, (*nemesis).power},
	faultPowerAll:      {"power loss of all", 2, (*nemesis).powerAll},
	faultKillThenPower: {"kill, then power loss", 3, (*nemesis).killThenPower},
	faultTerminate:     {"terminate", 4, (*nemesis).terminate},
	faultWipe:          {"new disk", 1, (*nemesis).wipe},
	faultPause:         {"pause", 6, (*nemesis).pause},
	faultIsolate:       {"isolate from nodes", 5, (*nemesis).isolate},
	faultIsolateAll:    {"isolate from all", 3, (*nemesis).isolateAll},
	faultOneWay:        {"one-way cut", 6, (*nemesis).oneWay},
	faultClients:       {"cut from clients", 2, (*nemesis).clients},
	faultRefuse:        {"alive but refuses", 4, (*nemesis).refuse},
	faultReset:         {"reset connections", 4, (*nemesis).reset},
	faultSlowLink:      {"slow link", 3, (*nemesis).slowLink},
	faultSlowDisk:      {"slow disk", 4, (*nemesis).slowDisk},
	faultStall:         {"fsync stalls", 3, (*nemesis).slowDisk},
	faultSyncError:     {"fsync fails", 3, (*nemesis).syncError},
	faultReadError:     {"a read fails", 1, (*nemesis).readError},
	faultFull:          {"disk full", 2, (*nemesis).full},
	faultJump:          {"clock jumps", 3, (*nemesis).jump},
	faultCorrupt:       {"bit flip", 3, (*nemesis).corrupt},
	faultOneByOne:      {"one after the other", 5, (*nemesis).oneByOne},
}

// nemesis carries out a plan's faults.
type nemesis struct {
	*cluster
	running sync.WaitGroup
	done    struct {
		sync.Mutex
		faults []fault // at when they really began
	}
}

// digest is of the plan and of what became of it.
func (m *nemesis) digest() uint64 {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%+v", *m.plan)
	m.done.Lock()
	defer m.done.Unlock()
	slices.SortFunc(m.done.faults, func(a, b fault) int { return cmp.Compare(a.String(), b.String()) }) // some begin in one instant
	_, _ = fmt.Fprintf(h, "%v", m.done.faults)
	return h.Sum64()
}

// run carries out the plan; it returns when the last fault has been undone.
func (m *nemesis) run() {
	began := time.Now()
	for i, f := range m.plan.faults {
		m.running.Go(func() {
			time.Sleep(f.at - time.Since(began))
			rng := rand.New(rand.NewPCG(m.plan.seed, uint64(i)+1000))
			carried := f
			carried.at = time.Since(began)
			m.done.Lock()
			m.done.faults = append(m.done.faults, carried)
			m.done.Unlock()
			m.trace.note("nemesis: %s n%d (n%d, %v) for %v", f.kind, f.node, f.other, f.amount, f.lasts)
			end := faultKinds[f.kind].begin(m, f, rng)
			time.Sleep(f.lasts)
			if end != nil {
				m.trace.note("nemesis: end of %s n%d (n%d)", f.kind, f.node, f.other)
				end()
			}
		})
	}
	m.running.Wait()
}

func (m *nemesis) node(f fault) *node { return m.nodes[f.node-1] }
func (m *nemesis) with(f fault) *node { return m.nodes[f.other-1] }

func (m *nemesis) each(do func(n *node)) {
	var all sync.WaitGroup
	for _, n := range m.nodes {
		all.Go(func() { do(n) })
	}
	all.Wait()
}

func (m *nemesis) kill(f fault, _ *rand.Rand) func() {
	m.node(f).crash(nil, false)
	return m.node(f).start
}

func (m *nemesis) killAll(fault, *rand.Rand) func() {
	m.each(func(n *node) { n.crash(nil, false) })
	return func() { m.each((*node).start) }
}

func (m *nemesis) power(f fault, rng *rand.Rand) func() {
	m.node(f).crash(rng, true)
	return m.node(f).start
}

func (m *nemesis) powerAll(_ fault, rng *rand.Rand) func() {
	seed := rng.Uint64()
	m.each(func(n *node) { n.crash(rand.New(rand.NewPCG(seed, uint64(n.id))), true) })
	return func() { m.each((*node).start) }
}

func (m *nemesis) killThenPower(f fault, rng *rand.Rand) func() {
	m.node(f).crash(nil, false)
	return func() {
		m.node(f).crash(rng, true)
		m.node(f).start()
	}
}

func (m *nemesis) terminate(f fault, _ *rand.Rand) func() {
	m.node(f).stop(10 * time.Second)
	return m.node(f).start
}

// wipe gives the node another, empty disk.
func (m *nemesis) wipe(f fault, _ *rand.Rand) func() {
	m.node(f).replaceDisk()
	return m.node(f).start
}

func (m *nemesis) pause(f fault, _ *rand.Rand) func() {
	m.node(f).gate.set(true)
	return func() { m.node(f).gate.set(false) }
}

func (m *nemesis) isolate(f fault, _ *rand.Rand) func() {
	for _, n := range m.nodes {
		if n.id != f.node {
			m.net.Isolate(m.node(f).ip, n.ip)
		}
	}
	return func() { m.heal(f.node) }
}

func (m *nemesis) isolateAll(f fault, rng *rand.Rand) func() {
	m.isolate(f, rng)
	return m.clients(f, rng)
}

// heal ends all cuts of a node.
func (m *nemesis) heal(id int) {
	ip := nodeIP(id)
	for _, n := range m.nodes {
		m.net.Heal(ip, n.ip)
		m.net.Heal(n.ip, ip)
	}
	for _, other := range clientIPs() {
		m.net.Heal(ip, other)
		m.net.Heal(other, ip)
	}
}

func (m *nemesis) oneWay(f fault, _ *rand.Rand) func() {
	m.net.Cut(m.node(f).ip, m.with(f).ip)
	return func() { m.net.Heal(m.node(f).ip, m.with(f).ip) }
}

func (m *nemesis) clients(f fault, _ *rand.Rand) func() {
	m.net.Isolate(m.node(f).ip, clientIPs()...)
	return func() { m.heal(f.node) }
}

// refuse makes others believe that a live node died.
func (m *nemesis) refuse(f fault, _ *rand.Rand) func() {
	host := m.net.Host(m.node(f).ip)
	host.RefuseDials(true)
	for _, n := range m.nodes {
		m.net.Reset(m.node(f).ip, n.ip)
	}
	return func() { host.RefuseDials(false) }
}

func (m *nemesis) reset(f fault, _ *rand.Rand) func() {
	m.net.Reset(m.node(f).ip, m.with(f).ip)
	for _, ip := range clientIPs() {
		m.net.Reset(m.node(f).ip, ip)
	}
	return nil
}

func (m *nemesis) slowLink(f fault, _ *rand.Rand) func() {
	m.net.Slow(m.node(f).ip, m.with(f).ip, f.amount)
	return func() { m.net.Slow(m.node(f).ip, m.with(f).ip, 0) }
}

// rule breaks calls of the process that runs now.
func (m *nemesis) rule(f fault, r vfs.Rule) func() {
	inc := m.node(f).running()
	if inc == nil {
		return nil
	}
	return inc.faults.Add(r)
}

func (m *nemesis) slowDisk(f fault, _ *rand.Rand) func() {
	return m.rule(f, vfs.Rule{Op: vfs.OpSync | vfs.OpSyncDir, Delay: f.amount})
}

// exitLimit is how long a node may run on after an fsync that failed.
const exitLimit = 5 * time.Second

func (m *nemesis) syncError(f fault, _ *rand.Rand) func() {
	inc := m.node(f).running()
	return m.rule(f, vfs.Rule{Path: "*.wal", Op: vfs.OpSync, Err: syscall.EIO, Times: 1, Hook: func(vfs.Operation, string) {
		m.later(exitLimit, func() {
			if m.node(f).running() == inc {
				m.fail("invariant 20: %s still runs %v after an fsync that failed", inc, exitLimit)
			}
		})
	}})
}

func (m *nemesis) readError(f fault, _ *rand.Rand) func() {
	return m.rule(f, vfs.Rule{Path: ".log", Op: vfs.OpRead, Err: syscall.EIO, Times: 1})
}

// full leaves hardly any room on the disk.
func (m *nemesis) full(f fault, _ *rand.Rand) func() {
	inc := m.node(f).running()
	if inc == nil {
		return nil
	}
	inc.disk.SetCapacity(inc.disk.Used() + 8<<10)
	return func() { m.node(f).roomAgain() }
}

func (m *nemesis) jump(f fault, _ *rand.Rand) func() {
	m.node(f).clock.jump(f.amount)
	return nil
}

// corrupt flips a bit of a segment on the disk of a node, which may be running or not.
func (m *nemesis) corrupt(f fault, rng *rand.Rand) func() {
	m.node(f).corrupt(rng)
	return nil
}

// oneByOne kills most nodes, each some time after the one before, and brings back first who went first: the last that was
// in sync is the last to return.
func (m *nemesis) oneByOne(f fault, rng *rand.Rand) func() {
	order := rng.Perm(m.plan.nodes)[:m.plan.nodes/2+1]
	for _, i := range order {
		m.nodes[i].crash(nil, false)
		time.Sleep(f.amount)
	}
	return func() {
		for _, i := range order {
			m.nodes[i].start()
			time.Sleep(f.amount)
		}
	}
}

// healAll undoes whatever is broken, and starts what does not run.
func (m *nemesis) healAll() {
	m.trace.note("everything heals")
	m.net.HealAll()
	m.each(func(n *node) {
		n.gate.set(false)
		n.roomAgain()
		if inc := n.running(); inc != nil {
			inc.faults.Clear()
		}
		n.start()
	})
}
