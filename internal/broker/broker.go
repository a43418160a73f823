package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"chronik/internal/admin"
	"chronik/internal/api"
	"chronik/internal/clock"
	"chronik/internal/config"
	"chronik/internal/controller"
	"chronik/internal/group"
	"chronik/internal/kafka"
	"chronik/internal/lifecycle"
	"chronik/internal/metadata"
	"chronik/internal/peer"
	"chronik/internal/record"
	"chronik/internal/replica"
	"chronik/internal/server"
	"chronik/internal/store"
	"chronik/internal/stream"
	"chronik/internal/vfs"
)

// Deps are what a node stands on.
type Deps struct {
	FS      vfs.FS
	Clock   clock.Clock
	Logger  *slog.Logger
	Version string
	// Listen opens listening sockets; nil means net.Listen.
	Listen func(network, address string) (net.Listener, error)
	// Dial tries whether an advertised address can be reached; nil means package net's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Fatal is called once, with the error after which the node can make nothing durable any more. The process must
	// end; nothing that is not acknowledged yet will be.
	Fatal func(error)
}

// Broker is a node.
type Broker struct {
	cfg  *config.Config // as given at start
	live *config.Live
	deps Deps
	log  *slog.Logger

	handlers   *api.Handlers
	server     *server.Server
	admin      *admin.Server
	store      *store.Store
	controller *controller.Controller
	replicas   *replica.Manager
	groups     *group.Service

	// Of a node that is not alone; nil otherwise.
	clusterListener net.Listener
	peers           *peer.Node
	links           *controller.Links
	streams         *stream.Streams
	agent           *lifecycle.Agent
	begin           controller.Start // what was found of the cluster
	opened          atomic.Pointer[replica.Manager]
	openController  atomic.Pointer[controller.Controller]
	givenUp         atomic.Pointer[context.CancelCauseFunc] // of the hand-over at the end; see watchQuorum

	events       eventCounts
	incarnation  [16]byte       // drawn by this process
	sharedCodecs *record.Codecs // one for the whole node: their pools are what costs

	state  atomic.Pointer[string] // what the node still lacks to serve; nil when it serves
	broken atomic.Pointer[error]  // of Fatal

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	done sync.WaitGroup // follows configuration, tries advertised addresses
}

// New is a node that does nothing yet.
func New(cfg *config.Config, deps Deps) *Broker {
	if deps.Listen == nil {
		deps.Listen = net.Listen
	}
	if deps.Dial == nil {
		deps.Dial = new(net.Dialer).DialContext
	}
	b := &Broker{cfg: cfg, live: config.NewLive(cfg), deps: deps, log: deps.Logger}
	_, _ = rand.Read(b.incarnation[:]) // never fails
	b.ctx, b.stop = context.WithCancel(context.Background())
	b.say("it has not begun to start")
	return b
}

func (b *Broker) say(state string) { b.state.Store(&state) }

// Start opens the node; when it returns nil, the node serves. Otherwise everything is closed again.
func (b *Broker) Start(ctx context.Context) error {
	for _, step := range []struct {
		state string
		run   func(context.Context) error
	}{
		{"listeners are being opened", b.openListeners},
		{"storage is being opened", b.openStorage},
		{"the cluster is being formed or joined", b.joinCluster},
		{"metadata are being opened", b.openMetadata},
		{"partitions are being opened", b.openPartitions},
		{"listeners are being started", b.serve},
		{"the controller is being told that this node serves", b.ready},
	} {
		b.say(step.state)
		if err := step.run(ctx); err != nil {
			b.abort()
			return err
		}
	}
	b.state.Store(nil)
	return nil
}

// openListeners comes first: a port in use is the likeliest mistake and is told before anything is touched.
func (b *Broker) openListeners(context.Context) (err error) {
	b.handlers = &api.Handlers{
		NodeID: kafka.BrokerID(b.cfg.NodeID), Static: b.cfg, Config: b.live, Clock: b.deps.Clock,
		Logger: b.log.With("component", "api"), APIs: api.Table(), Lost: b.lostSight, Volume: func() (int64, int64, error) { return b.store.Volume() },
	}
	opts := server.Options{
		Handlers: b.handlers, Clock: b.deps.Clock, Logger: b.log.With("component", "server"), Listen: b.deps.Listen,
		TLS: server.TLSOptions{CertFile: b.cfg.TLSCert, KeyFile: b.cfg.TLSKey},
		Limits: server.Limits{
			Connections: b.cfg.MaxConnections, RequestBytes: b.cfg.RequestMaxBytes, PreAuthRequestBytes: b.cfg.UnauthenticatedMaxBytes,
			RequestsInFlightBytes: b.cfg.RequestsInFlightMaxBytes, QueuedReplies: b.cfg.RepliesQueuedMax,
			DecodedInFlightBytes: b.cfg.DecodedInFlightMaxBytes, ResponsesInFlightBytes: b.cfg.ResponsesInFlightMaxBytes,
			Idle: b.cfg.ConnectionIdleMax, Handshake: b.cfg.HandshakeMax, WriteStall: b.cfg.WriteStallMax,
		},
	}
	for _, l := range b.cfg.Kafka {
		opts.Listeners = append(opts.Listeners, l.Given)
	}
	if b.server, err = server.New(opts); err != nil {
		return inUse(err, "kafka")
	}
	if err := b.openCluster(); err != nil {
		return err
	}
	if b.cfg.HTTP == "" {
		return nil
	}
	b.admin, err = admin.New(admin.Options{
		Addr: b.cfg.HTTP, Version: b.deps.Version, Logger: b.log.With("component", "http"), Listen: b.deps.Listen,
		Samples: b.samples, Ready: b.Ready, Healthy: b.healthy, Cluster: b.asCluster, Groups: b.asGroups,
	})
	if err != nil {
		return inUse(err, "http")
	}
	b.admin.Start()
	return nil
}

func (b *Broker) openStorage(ctx context.Context) (err error) {
	b.store, err = store.Open(ctx, store.Options{
		FS: b.deps.FS, Dir: b.cfg.DataDir, NodeID: b.cfg.NodeID, Config: b.cfg, Live: b.live, Clock: b.deps.Clock,
		Logger: b.log.With("component", "store"), Codecs: b.codecs(), Fatal: b.fatal, Name: b.topicName,
	})
	if err != nil {
		return b.locked(err)
	}
	return b.writePid()
}

func (b *Broker) openMetadata(ctx context.Context) (err error) {
	if b.controller, err = controller.Open(b.controllerOptions()); err != nil {
		return err
	}
	b.openController.Store(b.controller)
	b.handlers.Store = b.controller
	// In a cluster the metadata come once others know of this node: it may be new, or have been removed while it was off.
	if b.peers != nil {
		if err := b.register(ctx); err != nil {
			return err
		}
	}
	// Until the log is replayed the image is that of the last snapshot: the configurations in force may be later.
	if err := b.controller.Barrier(ctx); err != nil {
		return fmt.Errorf("replay the metadata: %w", err)
	}
	if err := b.store.SetClusterID(b.controller.Image().ClusterID()); err != nil {
		return err
	}
	if err := b.handlers.RefreshConfig(); err != nil {
		return fmt.Errorf("the configuration that clients have set on this broker does not fit the one given at start: %w", err)
	}
	if b.peers != nil {
		return nil
	}
	return b.register(ctx)
}

func (b *Broker) controllerOptions() controller.Options {
	identity := b.store.Identity()
	o := controller.Options{
		FS: b.deps.FS, Dir: b.metadataDir(), NodeID: kafka.BrokerID(b.cfg.NodeID), Directory: identity.Directory,
		ClusterID: identity.ClusterID, Joined: identity.ClusterID != "",
		Defaults: controller.Defaults{
			Partitions: b.cfg.NumPartitions, ReplicationFactor: max(0, b.cfg.DefaultReplicationFactor),
			OffsetsReplicationFactor: max(0, b.cfg.OffsetsTopicReplicationFactor),
			SyncInterval:             b.cfg.Topic.Sync == config.SyncInterval,
		},
		Lifecycle: controller.LifecycleOptions{
			Lease: b.cfg.BrokerLease, Balance: b.cfg.LeaderRebalance,
			BalanceInterval: time.Duration(b.cfg.LeaderRebalanceSeconds) * time.Second,
		},
		Limits:       controller.Limits{Partitions: int(b.cfg.PartitionsMax)},
		WALFileBytes: b.cfg.MetadataWALFileBytes,
		Clock:        b.deps.Clock, Logger: b.log.With("component", "controller"), Fatal: b.fatal,
	}
	if b.peers != nil { // a nil pointer in an interface is no nil
		o.Transport, o.Start, o.ClusterAddress, o.LastHeard = b.links, b.begin, b.peers.Self().Address, b.peers.LastHeard
	}
	return o
}

func (b *Broker) openPartitions(ctx context.Context) error {
	b.replicas = replica.NewManager(replica.Options{
		Metadata: b.controller, Store: b.store, Broker: kafka.BrokerID(b.cfg.NodeID), Config: b.cfg, Codecs: b.codecs(),
		Clock: b.deps.Clock, Logger: b.log.With("component", "replica"), Lease: b.leaseHeld, BrokerEpoch: b.brokerEpoch,
		LagMax: b.cfg.ReplicaLagMax, DamageChanged: b.damageChanged,
	})
	b.handlers.Replicas = b.replicas
	if b.streams != nil {
		b.replicas.SetStreams(b.streams)
		b.streams.Start(b.replicas)
	}
	b.replicas.Start()
	b.opened.Store(b.replicas)
	if err := b.replicas.WaitApplied(ctx, b.controller.Image().Offset()); err != nil {
		return fmt.Errorf("open partitions: %w", err)
	}
	b.groups = group.NewService(group.Options{
		NodeID: kafka.BrokerID(b.cfg.NodeID), Store: b.controller, Open: group.OnReplicas(b.replicas, b.controller), Config: b.live,
		Clock: b.deps.Clock, Logger: b.log.With("component", "group"),
	})
	b.handlers.Groups = b.groups
	b.groups.Start()
	return nil
}

func (b *Broker) serve(context.Context) error {
	b.countEvents()
	cursor := b.controller.Subscribe("configuration", b.controller.Image().Offset())
	b.done.Go(func() { b.followConfig(cursor) })
	b.server.Start()
	b.done.Go(b.tryAdvertised)
	return nil
}

// followConfig puts in force what clients set on brokers, wherever they did it.
func (b *Broker) followConfig(cursor *metadata.Cursor) {
	defer cursor.Close()
	for {
		batch, err := cursor.Next(b.ctx)
		if err != nil {
			return
		}
		for _, event := range batch.Events {
			switch e := event.(type) {
			case metadata.ConfigChanged:
				if e.Resource.Type != metadata.BrokerResource {
					continue
				}
			case metadata.SnapshotInstalled:
			default:
				continue
			}
			if err := b.handlers.RefreshConfig(); err != nil {
				b.log.Error("the brokers' configuration is not in force", "error", err)
			}
		}
	}
}

// Ready tells what the node still lacks to serve; nil when it serves.
func (b *Broker) Ready() error {
	if err := b.healthy(); err != nil {
		return err
	}
	if state := b.state.Load(); state != nil {
		return errors.New("not ready: " + *state)
	}
	return nil
}

func (b *Broker) healthy() error {
	if err := b.broken.Load(); err != nil {
		return *err
	}
	return nil
}

func (b *Broker) fatal(err error) {
	if b.broken.CompareAndSwap(nil, &err) && b.deps.Fatal != nil {
		b.deps.Fatal(err)
	}
}

func (b *Broker) codecs() *record.Codecs {
	if b.sharedCodecs == nil {
		b.sharedCodecs = new(record.Codecs)
	}
	return b.sharedCodecs
}

// topicName is for messages of the storage, which knows topics by ID alone.
func (b *Broker) topicName(id [16]byte) string {
	if c := b.controller; c != nil {
		if topic := c.Image().TopicByID(id); topic != nil {
			return topic.Name
		}
	}
	return kafka.TopicID(id).Hex()
}

// Serves is what the first line of `chronik start` tells: the addresses that the node listens on.
func (b *Broker) Serves() (kafkaAddrs []string, httpAddr string) {
	for i, addr := range b.server.Addrs() {
		scheme := ""
		if b.cfg.Kafka[i].TLS {
			scheme = "tls://"
		}
		kafkaAddrs = append(kafkaAddrs, scheme+addr.String())
	}
	if b.admin != nil {
		httpAddr = b.admin.Addr().String()
	}
	return kafkaAddrs, httpAddr
}

// ClusterID is the cluster's; empty before Start.
func (b *Broker) ClusterID() string {
	if b.controller == nil {
		return ""
	}
	return b.controller.Image().ClusterID()
}

func inUse(err error, key string) error {
	if strings.Contains(err.Error(), "address already in use") {
		return fmt.Errorf("%w: is another chronik or Kafka running? Stop it, or give another address with --%s", err, key)
	}
	return err
}

func portOf(addr net.Addr) int32 {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return int32(tcp.Port)
	}
	_, port, _ := config.SplitHostPort(addr.String())
	return port
}
