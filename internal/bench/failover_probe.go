package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/internal/record"
)

func readFull(r io.Reader, b []byte) (int, error) { return io.ReadFull(r, b) }

// probeAck is one acknowledged record.
type probeAck struct {
	offset int64
	number uint64 // the record's value
	sent   time.Time
	acked  time.Time
}

// probe produces to one partition, a record after the other, each until it is acknowledged. It notes all that was.
type probe struct {
	topic     string
	partition int32
	watch     *leaderWatch
	ended     chan struct{}

	// produce returns once the record is acknowledged, however often that takes a new attempt, or ctx ends.
	produce func(ctx context.Context, number uint64) (offset int64, err error)
	// answer reads what the raw driver is answered.
	answer func(response []byte) (offset int64, err error)
	group  string // that commits, of a probe of commits
	tried  uint64 // the last number that was tried; for whoever knows that the probe has ended
	conn   net.Conn
	addr   string

	mu struct {
		sync.Mutex
		acks []probeAck
		last error
	}
}

func (p *probe) run(ctx context.Context) {
	defer close(p.ended)
	for number := uint64(1); ctx.Err() == nil; number++ {
		sent := time.Now()
		p.tried = number
		offset, err := p.produce(ctx, number)
		if err != nil {
			p.note(err)
			_ = sleep(ctx, 10*time.Millisecond) // ctx is looked at above
			continue
		}
		p.mu.Lock()
		p.mu.acks = append(p.mu.acks, probeAck{offset, number, sent, time.Now()})
		p.mu.Unlock()
	}
	p.drop()
}

func (p *probe) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.last = err
}

func (p *probe) lastError() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.last == nil {
		return "none"
	}
	return p.mu.last.Error()
}

// firstAfter is when the first record was acknowledged that was sent after t.
func (p *probe) firstAfter(t time.Time) (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	acks := p.mu.acks
	i := len(acks)
	for i > 0 && !acks[i-1].sent.Before(t) {
		i--
	}
	if i == len(acks) {
		return time.Time{}, false
	}
	return acks[i].acked, true
}

// slowestAfter is the longest time to an acknowledgement after t.
func (p *probe) slowestAfter(t time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	var worst time.Duration
	for _, a := range slices.Backward(p.mu.acks) {
		if a.acked.Before(t) {
			break
		}
		worst = max(worst, a.acked.Sub(a.sent))
	}
	return worst
}

// probeValue is a record's content: its number, padded to 100 bytes.
func probeValue(number uint64) []byte {
	v := make([]byte, 100)
	binary.BigEndian.PutUint64(v, number)
	return v
}

// raw is a produce by prebuilt frames, to whoever leads now by what any node says.
func (p *probe) raw(ctx context.Context, number uint64) (int64, error) {
	b := record.NewBuilder()
	b.Add(time.Now().UnixMilli(), nil, probeValue(number))
	batch, err := b.AppendTo(nil, &record.Codecs{})
	if err != nil {
		return 0, err
	}
	frame, _ := produceFrame(p.topic, p.partition, -1, batch)
	return p.insist(ctx, frame)
}

// insist sends a frame until it is answered without an error, or ctx ends.
func (p *probe) insist(ctx context.Context, frame []byte) (int64, error) {
	for {
		offset, err := p.attempt(ctx, frame)
		if err == nil || ctx.Err() != nil {
			return offset, err
		}
		p.note(err)
		if err := sleep(ctx, 2*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

type produced struct {
	offset int64
	err    error
}

// attempt sends a frame to the leader and waits for the answer, until another node is known to lead.
func (p *probe) attempt(ctx context.Context, frame []byte) (int64, error) {
	addr, epoch := p.watch.leader(p.partition)
	if addr == "" {
		return 0, errors.New("no leader is known")
	}
	if p.conn == nil || p.addr != addr {
		p.drop()
		conn, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if err != nil {
			return 0, err
		}
		p.conn, p.addr = conn, addr
	}
	conn := p.conn
	if err := conn.SetDeadline(time.Now().Add(failoverPatience)); err != nil {
		return 0, err
	}
	answer := make(chan produced, 1)
	go func() {
		if _, err := conn.Write(frame); err != nil {
			answer <- produced{0, err}
			return
		}
		response, err := readFrame(bufio.NewReaderSize(conn, 512), nil)
		if err != nil {
			answer <- produced{0, err}
			return
		}
		offset, err := p.answer(response)
		answer <- produced{offset, err}
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case a := <-answer:
			var refused *kerr.Error
			if a.err != nil && !errors.As(a.err, &refused) {
				p.drop()
			}
			return a.offset, a.err
		case <-tick.C:
			if now, newer := p.watch.leader(p.partition); newer > epoch && now != addr {
				p.drop() // which ends the goroutine too
				return 0, fmt.Errorf("%s leads no more", addr)
			}
		case <-ctx.Done():
			p.drop()
			return 0, ctx.Err()
		}
	}
}

func (p *probe) drop() {
	if p.conn != nil {
		_ = p.conn.Close()
		p.conn = nil
	}
}

// producedAt is the base offset that a Produce response of one partition tells.
func producedAt(response []byte, topic string) (int64, error) {
	if err := produceError(response, topic); err != nil {
		return 0, err
	}
	at := 4 + 4 + 2 + len(topic) + 4 + 4 + 2
	return int64(binary.BigEndian.Uint64(response[at:])), nil
}

// client is a produce by franz-go.
func (p *probe) client(client *kgo.Client) func(context.Context, uint64) (int64, error) {
	return func(ctx context.Context, number uint64) (int64, error) {
		r := &kgo.Record{Topic: p.topic, Partition: p.partition, Value: probeValue(number)}
		if err := client.ProduceSync(ctx, r).FirstErr(); err != nil {
			return 0, err
		}
		return r.Offset, nil
	}
}
