package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"chronik/internal/record"
)

// ack is what one connection had acknowledged over the whole run, warm-up included: count batches of records, each with
// this CRC, in partition.
type ack struct {
	partition int32
	crc       uint32
	batches   int64
	records   int64
}

type rawProducer struct {
	o     *Options
	topic string
	addr  string
	frame []byte
	turns []int32 // the partitions that this connection goes round, all of one leader
	at    int     // of the partition's number in frame
	turn  int
	ack   ack
	phase *phases
	meter *meter
	pace  time.Duration // between two requests, 0 for none
	hist  histogram
}

// produceRaw runs o.Connections sockets, each with its own batch, to one partition or, where there are more partitions
// than sockets, to its share of them in turn.
func produceRaw(ctx context.Context, o *Options, t *target) (*Report, []ack, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	codecs := &record.Codecs{}
	phase, m := &phases{}, &meter{}
	workers := make([]*rawProducer, o.Connections)
	for i := range workers {
		batch, err := makeBatch(o, codecs, uint64(i)+uint64(time.Now().UnixNano()))
		if err != nil {
			return nil, nil, err
		}
		p := int32(i) % int32(len(t.leaders))
		w := &rawProducer{o: o, topic: t.name, addr: t.leaders[p], phase: phase, meter: m}
		w.frame, w.at = produceFrame(t.name, p, o.Acks, batch)
		for q := p; int(q) < len(t.leaders); q += int32(o.Connections) {
			if t.leaders[q] == w.addr {
				w.turns = append(w.turns, q)
			}
		}
		w.ack = ack{partition: p, crc: binary.BigEndian.Uint32(batch[17:])}
		if o.Rate > 0 {
			w.pace = time.Duration(int64(time.Second) * int64(o.Connections) * int64(o.BatchSize) / int64(o.Rate))
		}
		workers[i] = w
	}
	var group sync.WaitGroup
	errs := make([]error, len(workers))
	for i, w := range workers {
		group.Go(func() { errs[i] = w.run(ctx) })
	}
	go progress(ctx, o.Progress, "produce", m)
	elapsed := phase.run(ctx, o.Warmup, o.Duration, nil)
	group.Wait()
	r := newReport("produce", o)
	var h histogram
	var acks []ack
	for _, w := range workers {
		h.merge(&w.hist)
		acks = append(acks, w.ack)
	}
	r.count(m)
	r.finish(elapsed, &h)
	return r, acks, errors.Join(errs...)
}

func (w *rawProducer) run(ctx context.Context) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", w.addr)
	if err != nil {
		return fmt.Errorf("bench: connect to the leader of %s/%d: %w", w.topic, w.ack.partition, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	if w.o.InFlight == 1 {
		return w.pingPong(conn)
	}
	return w.pipeline(conn)
}

// pingPong has one request in flight, and needs no second goroutine.
func (w *rawProducer) pingPong(conn net.Conn) error {
	in := bufio.NewReaderSize(conn, 4096)
	var buf []byte
	next := time.Now()
	for !w.phase.stop.Load() {
		next = w.wait(next)
		began := time.Now()
		if _, err := conn.Write(w.next()); err != nil {
			return fmt.Errorf("bench: write to %s: %w", w.addr, err)
		}
		var err error
		if buf, err = readFrame(in, buf); err != nil {
			return fmt.Errorf("bench: read from %s: %w", w.addr, err)
		}
		w.answered(began, buf)
	}
	return nil
}

// next is the frame for the next partition in turn. It belongs to whoever writes.
func (w *rawProducer) next() []byte {
	if len(w.turns) > 1 {
		binary.BigEndian.PutUint32(w.frame[w.at:], uint32(w.turns[w.turn%len(w.turns)]))
		w.turn++
	}
	return w.frame
}

func (w *rawProducer) wait(next time.Time) time.Time {
	if w.pace == 0 {
		return next
	}
	time.Sleep(time.Until(next))
	return next.Add(w.pace)
}

// pipeline keeps o.InFlight requests in flight: one goroutine writes, this one reads.
func (w *rawProducer) pipeline(conn net.Conn) error {
	sent := make(chan time.Time, w.o.InFlight-1)
	failed := make(chan error, 1)
	go func() {
		defer close(sent)
		next := time.Now()
		for !w.phase.stop.Load() {
			next = w.wait(next)
			sent <- time.Now()
			if _, err := conn.Write(w.next()); err != nil {
				failed <- fmt.Errorf("bench: write to %s: %w", w.addr, err)
				return
			}
		}
	}()
	in := bufio.NewReaderSize(conn, 4096)
	var buf []byte
	for began := range sent {
		var err error
		if buf, err = readFrame(in, buf); err != nil {
			_ = conn.Close()
			for range sent { // until the writer saw it
			}
			return fmt.Errorf("bench: read from %s: %w", w.addr, err)
		}
		w.answered(began, buf)
	}
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

func (w *rawProducer) answered(began time.Time, response []byte) {
	if err := produceError(response, w.topic); err != nil {
		w.meter.fail(err)
		return
	}
	w.ack.batches++
	w.ack.records += int64(w.o.BatchSize)
	if !w.phase.measuring.Load() || began.Before(w.phase.began) {
		return
	}
	w.hist.add(time.Since(began))
	w.meter.requests.Add(1)
	w.meter.records.Add(int64(w.o.BatchSize))
	w.meter.bytes.Add(int64(len(w.frame)))
}
