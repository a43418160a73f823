package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	seenTopics = 30
	seenMax    = 10 * time.Second
)

// seenByAll measures, topic by topic, from the request that creates it to the moment when every broker has told, asked
// without a pause, that the topic is there with a leader for each partition. It is nil for a cluster of one.
func seenByAll(ctx context.Context, o *Options) (*Report, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(o.Bootstrap...))
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	meta, err := admin.BrokerMetadata(ctx)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	if len(meta.Brokers) < 2 {
		return nil, nil
	}
	var each []*asker
	defer func() {
		for _, a := range each {
			_ = a.conn.Close()
		}
	}()
	for _, b := range meta.Brokers {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))))
		if err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		each = append(each, &asker{conn, bufio.NewReader(conn)})
	}
	var h histogram
	var names []string
	began := time.Now()
	for i := range seenTopics {
		name := fmt.Sprintf("bench-seen-%08x-%d", rand.Uint32(), i)
		took, err := seenOnce(ctx, o, admin, each, name)
		if err != nil {
			return nil, err
		}
		h.add(took)
		names = append(names, name)
	}
	r := newReport("topic-seen-by-all", o)
	r.Requests, r.Records = h.n, h.n
	r.finish(time.Since(began), &h)
	return r, deleteTopics(ctx, o, [][]string{names})
}

func seenOnce(ctx context.Context, o *Options, admin *kadm.Client, each []*asker, name string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, seenMax)
	defer cancel()
	start := time.Now()
	at := make([]time.Time, len(each))
	errs := make([]error, len(each))
	var group sync.WaitGroup
	for i, c := range each {
		group.Go(func() { at[i], errs[i] = c.sees(ctx, name, int(o.Partitions)) })
	}
	if _, err := admin.CreateTopic(ctx, o.Partitions, o.Replicas, nil, name); err != nil {
		cancel()
		group.Wait()
		return 0, fmt.Errorf("bench: create topic %s: %w", name, err)
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return slices.MaxFunc(at, time.Time.Compare).Sub(start), nil
}

// asker is a plain connection to one broker: a client would answer from what it remembers.
type asker struct {
	conn net.Conn
	in   *bufio.Reader
}

// sees asks until the topic is there.
func (a *asker) sees(ctx context.Context, name string, partitions int) (time.Time, error) {
	for {
		state, err := askState(a.conn, a.in, name, seenMax)
		var unknown *notThere
		if err != nil && !errors.As(err, &unknown) {
			return time.Time{}, fmt.Errorf("bench: ask a broker for topic %s: %w", name, err)
		}
		if err == nil {
			led := 0
			for _, p := range state.partitions {
				if p.addr != "" {
					led++
				}
			}
			if led == partitions {
				return time.Now(), nil
			}
		}
		if err := sleep(ctx, 200*time.Microsecond); err != nil {
			return time.Time{}, fmt.Errorf("bench: a broker does not see topic %s within %v: %w", name, seenMax, err)
		}
	}
}
