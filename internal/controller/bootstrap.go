package controller

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/vfs"
)

// VoterAddress is one of the nodes that form a cluster, as configured.
type VoterAddress struct {
	ID      kafka.BrokerID
	Address string // host:port of its port for other nodes
}

// BootstrapOptions of [Bootstrap].
type BootstrapOptions struct {
	Links *Links
	FS    vfs.FS
	Dir   string // of the metadata WAL
	// WALFileBytes as in Options.
	WALFileBytes int64
	// ClusterID is the one in the data directory; empty if the directory has never belonged to a cluster.
	ClusterID string
	// Voters is the list that all nodes share; empty on one that joins.
	Voters []VoterAddress
	// Join is the address of any member.
	Join string
	// SetClusterID makes the cluster's ID durable in the data directory. It comes after the metadata and before this node
	// votes: metadata that are missing beside it were lost.
	SetClusterID func(id string) error
	Clock        clock.Clock
	Logger       *slog.Logger
}

// Start is what Bootstrap found, for Open.
type Start struct {
	join   bool // this node has no metadata and gets them from others
	formed bool // this node has just formed the cluster
	// clusterID is that of the cluster to join; metadata of another are refused.
	clusterID string
}

// Joins tells that this node gets its metadata from others: it has none until it has registered, and no barrier ends
// before that.
func (s Start) Joins() bool { return s.join }

// Bootstrap finds out which cluster this node belongs to, before Open, and returns when it is known. Where other nodes have
// to be waited for, the log says which, and so does the error once ctx ends.
//
//   - A node with metadata has nothing to find out.
//   - A node that names no other forms a cluster of itself (Open does).
//   - An empty node that finds a member joins its cluster; if the cluster was formed with this very data directory as one of
//     its voters, it takes its place as one, having never voted.
//   - An empty node of the list of voters forms the cluster only if it has the lowest ID and all the others answer that
//     they are empty, with the same list. Each of them makes the beginning durable first, the lowest last.
//
// docs/decisions/2026-11-22-forming-a-cluster.md tells why no two clusters come of one list.
func Bootstrap(ctx context.Context, o BootstrapOptions) (Start, error) {
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Voters = slices.SortedFunc(slices.Values(o.Voters), func(a, b VoterAddress) int { return cmp.Compare(a.ID, b.ID) })
	b := newBootstrap(o)
	o.Links.begin(b)
	defer b.end()
	if o.ClusterID != "" {
		o.Links.o.Peers.SetClusterID(o.ClusterID)
		return Start{}, nil
	}
	r, err := readMetadata(&b.journal)
	switch {
	case err != nil:
		return Start{}, err
	case r.image != nil: // the process died before it could note the cluster's ID
		return Start{}, b.belong(r.image.ClusterID())
	}
	b.mustJoin = r.joining
	if len(b.targets) == 0 {
		if b.mustJoin {
			return Start{}, fmt.Errorf("this node was joining a cluster when it stopped, and has no metadata yet: give it cluster.join " +
				"with the address of a member, or move its data directory away")
		}
		return Start{}, nil
	}
	return b.run(ctx)
}

// target is a node to ask.
type target struct {
	id      kafka.BrokerID // NoLeader where any broker may answer
	address string
}

func (t target) String() string {
	if t.id == kafka.NoLeader {
		return t.address
	}
	return fmt.Sprintf("broker %d at %s", t.id, t.address)
}

// voterList is the list as nodes compare it.
func voterList(voters []VoterAddress) string {
	var list []string
	for _, v := range voters {
		list = append(list, fmt.Sprintf("%d@%s", v.ID, v.Address))
	}
	return strings.Join(list, ",")
}

func newBootstrap(o BootstrapOptions) *bootstrap {
	self := o.Links.self
	b := &bootstrap{
		o:       o,
		inbox:   newInbox(),
		over:    make(chan struct{}),
		self:    metadata.Voter{ID: self.Broker, Directory: self.Directory, Address: self.Address},
		list:    voterList(o.Voters),
		journal: Options{FS: o.FS, Dir: o.Dir, WALFileBytes: o.WALFileBytes, Clock: o.Clock, Logger: o.Logger},
		asked:   map[kafka.BrokerID][16]byte{},
	}
	b.journal.setDefaults()
	for i, v := range o.Voters {
		if v.ID == self.Broker {
			b.voter = true
			b.lowest = i == 0
			b.self.Address = v.Address
			continue
		}
		b.targets = append(b.targets, target{v.ID, v.Address})
	}
	if o.Join != "" {
		b.targets = append(b.targets, target{kafka.NoLeader, o.Join})
	}
	return b
}

// begin makes the bootstrapping answer what other nodes ask.
func (l *Links) begin(b *bootstrap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.bootstrap = b
	for _, v := range b.o.Voters {
		l.mu.routes.override[v.ID] = v.Address
	}
}

const (
	answerTimeout = time.Second           // for one node's answer
	roundSoon     = 5 * time.Millisecond  // before the next round of questions when there is news
	roundMin      = 25 * time.Millisecond // between two rounds of questions, doubled up to roundMax
	roundMax      = 400 * time.Millisecond
	waitingLog    = 3 * time.Second // between two lines that say the same
	waitingWarn   = 3 * time.Second // from which on a person should see them
)
