package group

import (
	"context"
	"log/slog"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/group/regex"
)

// Limits are what the configuration says about groups; they may change while groups live.
type Limits struct {
	MinSessionTimeout     time.Duration
	MaxSessionTimeout     time.Duration
	InitialRebalanceDelay time.Duration
	MaxSize               int           // members of one group
	OffsetsRetention      time.Duration // how long unused offsets are kept
	OffsetsRetentionCheck time.Duration // how often they are looked at; 0 for never
	OffsetMetadataMax     int           // UTF-16 units, as Java counts, of a committed offset's metadata
	RecordMaxBytes        int           // of one record of the log: what the topic's max.message.bytes leaves
	// Consumer are the limits of one consumer group (KIP-848); nil stands for Kafka's defaults.
	Consumer func(group string) ConsumerLimits
}

// ConsumerLimits are what the configuration, the group's own included, says about one consumer group.
type ConsumerLimits struct {
	SessionTimeout    time.Duration
	HeartbeatInterval time.Duration
	MaxSize           int      // members
	Assignors         []string // that members may ask for; the first is for those who do not
	MigrationPolicy   string   // bidirectional, upgrade, downgrade or disabled
}

// consumer are the limits of one consumer group.
func (l *Limits) consumer(group string) ConsumerLimits {
	if l.Consumer != nil {
		return l.Consumer(group)
	}
	return ConsumerLimits{
		SessionTimeout: 45 * time.Second, HeartbeatInterval: 5 * time.Second, MaxSize: math.MaxInt32,
		Assignors: []string{"uniform", "range"}, MigrationPolicy: "bidirectional",
	}
}

// newMemberJoinTimeout is how long a JoinGroup of a member that cannot send heartbeats yet may wait; as in Kafka.
const newMemberJoinTimeout = 5 * time.Minute

// Machine is the state of the groups of one partition of __consumer_offsets: a coordinator.Machine, without a clock,
// goroutines or I/O.
type Machine struct {
	limits     func() Limits
	newID      func() string // the random part of a member ID
	logger     *slog.Logger
	loaded     func() // told when the log was replayed; may be nil
	topics     func() Topics
	groups     map[string]*classic
	consumers  map[string]*consumerGroup // of the consumer protocol (KIP-848); no ID is in both
	patterns   *regex.Cache
	offsets    map[string]*groupOffsets
	history    histories
	rebalances *rebalanceCounters // of the node; may be nil
}

// New makes an empty machine. newID makes the random part of member IDs.
func New(limits func() Limits, newID func() string, logger *slog.Logger) *Machine {
	return &Machine{
		limits: limits, newID: newID, logger: logger, topics: func() Topics { return noTopics{} },
		groups: make(map[string]*classic), consumers: make(map[string]*consumerGroup), patterns: regex.NewCache(), offsets: make(map[string]*groupOffsets), history: make(histories),
	}
}

// Loaded starts the sessions of the members that the log told of: how long they have been silent is not known.
func (m *Machine) Loaded(tx *coordinator.Tx) {
	m.sweep()
	m.loadConsumers(tx)
	for _, id := range slices.Sorted(maps.Keys(m.groups)) {
		g := m.groups[id]
		for _, mb := range g.members {
			m.resetSession(tx, g, mb)
		}
		switch {
		case len(g.members) > m.limits().MaxSize:
			m.prepareRebalance(tx, g, cause{what: "the group is larger than group.max.size"})
		case g.unled && len(g.members) > 0:
			m.prepareRebalance(tx, g, cause{what: "the group has become a classic one and has not rebalanced since"})
		}
	}
	m.scheduleExpiry(tx)
	if m.loaded != nil {
		m.loaded()
	}
	m.logger.Debug("groups loaded", "classic", len(m.groups), "consumer", len(m.consumers), "groupsWithOffsets", len(m.offsets))
}

// Unloaded fails everyone who waits for a rebalance.
func (m *Machine) Unloaded(err error) {
	for _, g := range m.groups {
		for _, mb := range g.members {
			if mb.join != nil {
				mb.join.Fail(err)
			}
			if mb.sync != nil {
				mb.sync.Fail(err)
			}
		}
	}
}

// create makes an empty group; nothing is written.
func (m *Machine) create(id string, now int64) *classic {
	g := newClassic(id, now)
	m.groups[id] = g
	return g
}

// Promises of the answers that a rebalance holds back.
type (
	JoinPromise = coordinator.Promise[*kmsg.JoinGroupResponse]
	SyncPromise = coordinator.Promise[*kmsg.SyncGroupResponse]
)

// debug tells of what is usual in a group's life, notice of members that were lost.
func (m *Machine) debug(g *classic, msg string, args ...any)  { m.log(slog.LevelDebug, g, msg, args) }
func (m *Machine) notice(g *classic, msg string, args ...any) { m.log(slog.LevelInfo, g, msg, args) }

func (m *Machine) log(level slog.Level, g *classic, msg string, args []any) {
	ctx := context.Background()
	if m.logger.Enabled(ctx, level) {
		m.logger.Log(ctx, level, msg, append([]any{"group", g.id, "state", g.state.String(), "generation", g.generation}, args...)...)
	}
}
