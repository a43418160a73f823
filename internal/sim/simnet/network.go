package simnet

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// Options of a [Network].
type Options struct {
	Seed uint64
	// A segment takes between DelayMin and DelayMax; one in SlowOneIn takes up to SlowMax. Zero values: 50 µs to 500 µs,
	// none slow.
	DelayMin, DelayMax time.Duration
	SlowOneIn          uint64
	SlowMax            time.Duration
	// Window is how many bytes may be under way in one direction of a connection; 256 KiB by default.
	Window int
}

// Network connects hosts.
type Network struct {
	opts Options
	mu   sync.Mutex

	hosts   map[string]*Host
	cuts    map[link]bool
	slow    map[link]time.Duration // added to each segment
	dials   map[link]uint64        // so far
	pipes   map[uint64]*pipe       // that are not over, by number
	last    uint64                 // pipe
	changed sync.Cond              // a host, a cut
	digest  uint64
	carried int64
}

// link is a direction between two hosts.
type link struct{ from, to string }

// New makes a network without hosts.
func New(opts Options) *Network {
	if opts.DelayMin == 0 && opts.DelayMax == 0 {
		opts.DelayMin, opts.DelayMax = 50*time.Microsecond, 500*time.Microsecond
	}
	if opts.Window == 0 {
		opts.Window = 256 << 10
	}
	n := &Network{opts: opts, hosts: map[string]*Host{}, cuts: map[link]bool{}, slow: map[link]time.Duration{},
		dials: map[link]uint64{}, pipes: map[uint64]*pipe{}}
	n.changed.L = &n.mu
	return n
}

// Host is a machine with an IP address. It is powered off until Boot.
type Host struct {
	net     *Network
	ip      string
	on      bool
	refuses bool
	ports   map[int]*listener
	nextOut int // the next port for a connection that is dialled
}

// Host returns the host of an IP address, which is made if need be.
func (n *Network) Host(ip string) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hostLocked(ip)
}

func (n *Network) hostLocked(ip string) *Host {
	h := n.hosts[ip]
	if h == nil {
		h = &Host{net: n, ip: ip, ports: map[int]*listener{}, nextOut: 40000}
		n.hosts[ip] = h
	}
	return h
}

// Boot turns the host on, if it is off, and starts a process on it. Connections from before a loss of power are reset at
// peers that use them.
func (h *Host) Boot() *Process {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.on = true
	for _, p := range h.net.sortedPipes() {
		if p.to == h && p.lost && len(p.segments) > 0 {
			p.segments, p.queued = nil, 0
			p.back.lost = false
			p.back.resetLocked(false) // the sender repeats what was never acknowledged
		}
	}
	h.net.changed.Broadcast()
	return &Process{host: h, conns: map[*conn]struct{}{}, listeners: map[*listener]struct{}{}}
}

// RefuseDials makes the host answer dials as if nobody listened, although processes live. What is connected stays.
func (h *Host) RefuseDials(refuse bool) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.refuses = refuse
}

// Cut stops everything from one host to another; nothing is lost, it waits. Both directions need two cuts.
func (n *Network) Cut(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cuts[link{from, to}] = true
	n.changed.Broadcast()
}

// Isolate cuts both directions between a host and others.
func (n *Network) Isolate(ip string, others ...string) {
	for _, other := range others {
		n.Cut(ip, other)
		n.Cut(other, ip)
	}
}

// Heal ends a cut. What waited arrives one delay later.
func (n *Network) Heal(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.healLocked(link{from, to})
}

func (n *Network) healLocked(l link) {
	if !n.cuts[l] {
		return
	}
	delete(n.cuts, l)
	now := time.Now()
	for _, p := range n.sortedPipes() {
		if p.from.ip == l.from && p.to.ip == l.to {
			p.postponeLocked(now.Add(n.opts.DelayMax))
		}
		if p.from.ip == l.to && p.to.ip == l.from { // acknowledgements pass again
			p.unacked = 0
			p.writable.Broadcast()
		}
	}
	n.changed.Broadcast()
}

// HealAll ends all cuts, delays and refusals.
func (n *Network) HealAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range slices.SortedFunc(maps.Keys(n.cuts), compareLinks) {
		n.healLocked(l)
	}
	clear(n.slow)
	for _, h := range n.hosts {
		h.refuses = false
	}
}

// Slow adds a delay to every segment of a direction; 0 ends it.
func (n *Network) Slow(from, to string, delay time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.slow[link{from, to}] = delay
}

// Reset resets the connections between two hosts; those in the middle of a message too.
func (n *Network) Reset(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.sortedPipes() {
		if p.from.ip == a && p.to.ip == b || p.from.ip == b && p.to.ip == a {
			p.resetLocked(true)
		}
	}
}

// Digest covers every segment that was delivered: its link, content and time. Two runs of one seed that agree in it have
// seen the same network.
func (n *Network) Digest() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.digest
}

// Carried is how many bytes were delivered.
func (n *Network) Carried() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.carried
}

func (n *Network) sortedPipes() []*pipe {
	pipes := make([]*pipe, 0, len(n.pipes))
	for _, id := range slices.Sorted(maps.Keys(n.pipes)) {
		pipes = append(pipes, n.pipes[id])
	}
	return pipes
}

func compareLinks(a, b link) int {
	return slices.Compare([]string{a.from, a.to}, []string{b.from, b.to})
}

// hash mixes numbers: the source of all randomness here.
func hash(values ...uint64) uint64 {
	h := uint64(0x9e3779b97f4a7c15)
	for _, v := range values {
		h ^= v
		h ^= h >> 30
		h *= 0xbf58476d1ce4e5b9
		h ^= h >> 27
		h *= 0x94d049bb133111eb
		h ^= h >> 31
	}
	return h
}

func hashString(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}
