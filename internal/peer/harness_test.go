package peer

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"chronik/internal/kafka"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// events records what Watch tells.
type events struct {
	mu   sync.Mutex
	list []Event
	wake chan struct{}
}

func watch(n *Node) *events {
	e := &events{wake: make(chan struct{}, 1)}
	n.Watch(func(event Event) {
		e.mu.Lock()
		e.list = append(e.list, event)
		e.mu.Unlock()
		select {
		case e.wake <- struct{}{}:
		default:
		}
	})
	return e
}

// await waits for an event that wanted accepts, and forgets those before it.
func (e *events) await(t *testing.T, what string, wanted func(Event) bool) Event {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		e.mu.Lock()
		for i, event := range e.list {
			if wanted(event) {
				e.list = e.list[i+1:]
				e.mu.Unlock()
				return event
			}
		}
		e.mu.Unlock()
		select {
		case <-e.wake:
		case <-timeout:
			t.Fatalf("no event: %s; there were %+v", what, e.list)
		}
	}
}

func isUp(e Event) bool      { return e.Kind == Up }
func isRefused(e Event) bool { return e.Kind == Down && e.Refused }

func identity(broker kafka.BrokerID, incarnation byte, cluster, address string) Identity {
	return Identity{Broker: broker, Directory: [16]byte{1, byte(broker)}, Incarnation: [16]byte{2, byte(broker), incarnation}, ClusterID: cluster, Address: address}
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// start makes a node of cluster "c" on the loopback, not started.
func newNode(t *testing.T, broker kafka.BrokerID, change func(*Options)) *Node {
	t.Helper()
	l := listen(t, "127.0.0.1:0")
	opts := Options{Self: identity(broker, 1, "c", l.Addr().String()), Listener: l}
	if change != nil {
		change(&opts)
	}
	n, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// pair is two nodes that have dialled each other.
func pair(t *testing.T, change func(*Options)) (a, b *Node) {
	t.Helper()
	a, b = newNode(t, 1, change), newNode(t, 2, change)
	connect(t, a, b)
	return a, b
}

func connect(t *testing.T, a, b *Node) {
	t.Helper()
	ea, eb := watch(a), watch(b)
	a.SetPeer(b.Self().Broker, b.Self().Address)
	a.Start()
	b.Start()
	b.SetPeer(a.Self().Broker, a.Self().Address)
	ea.await(t, "a sees b", isUp)
	eb.await(t, "b sees a", isUp)
}

func ctx(t *testing.T) context.Context {
	c, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return c
}

func toID(n int) kafka.BrokerID { return kafka.BrokerID(n) }
