package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	watchEvery   = 20 * time.Millisecond
	watchTimeout = 500 * time.Millisecond
)

// leaderWatch asks every node all the time who leads, so that the raw driver learns of a failover as soon as any node
// knows: what is measured then is the cluster and not a client's patience.
type leaderWatch struct {
	topic string
	stop  context.CancelFunc
	done  sync.WaitGroup

	mu struct {
		sync.Mutex
		seen map[string]*clusterState // by the address that was asked
		best []partitionState         // in the highest epoch that any node told
	}
}

// clusterState is what one node tells.
type clusterState struct {
	at         time.Time
	controller int32
	nodes      []int32
	partitions []partitionState
}

type partitionState struct {
	leader   int32
	addr     string // of the leader; "" if there is none
	epoch    int32
	inSync   int
	replicas int
}

func watchLeaders(topic string, addrs []string) *leaderWatch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &leaderWatch{topic: topic, stop: cancel}
	w.mu.seen = map[string]*clusterState{}
	for _, addr := range addrs {
		w.done.Go(func() { w.follow(ctx, addr) })
	}
	return w
}

func (w *leaderWatch) close() {
	w.stop()
	w.done.Wait()
}

// follow asks one node until ctx ends.
func (w *leaderWatch) follow(ctx context.Context, addr string) {
	var conn net.Conn
	var in *bufio.Reader
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()
	for ctx.Err() == nil {
		if conn == nil {
			c, err := net.DialTimeout("tcp", addr, watchTimeout)
			if err == nil {
				conn, in = c, bufio.NewReader(c)
			}
		}
		if conn != nil {
			state, err := askState(conn, in, w.topic, watchTimeout)
			if err != nil {
				_ = conn.Close()
				conn = nil
			} else {
				w.learn(addr, state)
			}
		}
		_ = sleep(ctx, watchEvery) // ctx is looked at above
	}
}

// askState is a Metadata request, in the last version before flexible encoding.
func askState(conn net.Conn, in *bufio.Reader, topic string, timeout time.Duration) (*clusterState, error) {
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	req := kmsg.NewMetadataRequest()
	req.Version = 8
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &topic
	req.Topics = append(req.Topics, t)
	req.AllowAutoTopicCreation = false
	if _, err := conn.Write(sized(req.AppendTo(header(nil, 3, 8)))); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := readFull(in, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n < 4 || n > 16<<20 {
		return nil, fmt.Errorf("a response claims %d bytes", n)
	}
	body := make([]byte, n)
	if _, err := readFull(in, body); err != nil {
		return nil, err
	}
	resp := kmsg.NewPtrMetadataResponse()
	resp.Version = 8
	if err := resp.ReadFrom(body[4:]); err != nil {
		return nil, err
	}
	return stateOf(resp)
}

// notThere is the error of a node that does not know the topic.
type notThere struct{}

func (*notThere) Error() string { return "the topic is not known" }

func stateOf(resp *kmsg.MetadataResponse) (*clusterState, error) {
	s := &clusterState{at: time.Now(), controller: resp.ControllerID}
	addrs := map[int32]string{-1: ""}
	for _, b := range resp.Brokers {
		s.nodes = append(s.nodes, b.NodeID)
		addrs[b.NodeID] = net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
	}
	slices.Sort(s.nodes)
	if len(resp.Topics) != 1 || resp.Topics[0].ErrorCode != 0 {
		return nil, &notThere{}
	}
	for _, p := range resp.Topics[0].Partitions {
		for int(p.Partition) >= len(s.partitions) {
			s.partitions = append(s.partitions, partitionState{leader: -1})
		}
		s.partitions[p.Partition] = partitionState{p.Leader, addrs[p.Leader], p.LeaderEpoch, len(p.ISR), len(p.Replicas)}
	}
	return s, nil
}

func (w *leaderWatch) learn(addr string, s *clusterState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.seen[addr] = s
	for i, p := range s.partitions {
		if i >= len(w.mu.best) {
			w.mu.best = append(w.mu.best, p)
		}
		// A node that lists no address for a leader is behind, or the leader is fenced: another may know.
		if p.epoch > w.mu.best[i].epoch || p.epoch == w.mu.best[i].epoch && p.addr != "" {
			w.mu.best[i] = p
		}
	}
}

// leader is where to produce now, and in which epoch; addr is "" if nobody knows.
func (w *leaderWatch) leader(partition int32) (addr string, epoch int32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if int(partition) >= len(w.mu.best) {
		return "", -1
	}
	return w.mu.best[partition].addr, w.mu.best[partition].epoch
}

// now is the newest of what the nodes told.
func (w *leaderWatch) now() clusterState {
	w.mu.Lock()
	defer w.mu.Unlock()
	var newest clusterState
	for _, s := range w.mu.seen {
		if s.at.After(newest.at) {
			newest = *s
		}
	}
	return newest
}

// lacks says what keeps the cluster from being whole: every node answers now, knows all others, and tells that every
// replica is in sync. "" if nothing does.
func (w *leaderWatch) lacks() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.mu.best) == 0 {
		return "no node has answered"
	}
	for addr, s := range w.mu.seen {
		switch {
		case time.Since(s.at) > watchTimeout:
			return fmt.Sprintf("the node at %s does not answer", addr)
		case len(s.nodes) < len(w.mu.seen):
			return fmt.Sprintf("the node at %s knows only nodes %v", addr, s.nodes)
		}
		for i, p := range s.partitions {
			if p.addr == "" || p.inSync < p.replicas {
				return fmt.Sprintf("the node at %s says that partition %d has leader %d and %d of %d replicas in sync", addr, i, p.leader, p.inSync, p.replicas)
			}
		}
	}
	return ""
}
