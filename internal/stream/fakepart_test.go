package stream

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/record"
	"chronik/internal/replica"
)

// produce appends a batch as the leader does and returns its end; NoOffset if the partition is not led here.
func (p *fakePart) produce(records int, size int) kafka.Offset {
	b := record.NewBuilder()
	for i := range records {
		b.Add(1, nil, binary.LittleEndian.AppendUint64(make([]byte, max(size-8, 0), size+8), uint64(i)))
	}
	batch := record.Batch(b.Build())
	p.mu.Lock()
	if !p.led {
		p.mu.Unlock()
		return kafka.NoOffset
	}
	batch.SetBaseOffset(p.end)
	batch.SetLeaderEpoch(p.epoch)
	p.batches = append(p.batches, fakeBatch{p.end, batch.NextOffset(), p.epoch, batch})
	p.end = batch.NextOffset()
	end := p.end
	p.mu.Unlock()
	p.n.streams.appended(p.id, len(batch))
	p.n.soil(p, true)
	return end
}

// committed waits for the watermark; false if leadership ended.
func (p *fakePart) committed(end kafka.Offset) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	epoch := p.epoch
	for p.hw < end {
		if !p.led || p.epoch != epoch {
			return false
		}
		p.change.Wait()
	}
	return true
}

// advanceLocked moves the watermark: what all replicas have on their disks.
func (p *fakePart) advanceLocked() {
	if !p.led {
		return
	}
	hw := p.durable
	for _, r := range p.replicas {
		if r != p.n.id {
			hw = min(hw, p.acked[r])
		}
	}
	if hw > p.hw {
		p.hw = hw
		p.change.Broadcast()
		p.n.streams.watermark(p.id)
	}
}

func (p *fakePart) lastEpochLocked() kafka.LeaderEpoch {
	if len(p.batches) == 0 {
		return kafka.NoLeaderEpoch
	}
	return p.batches[len(p.batches)-1].epoch
}

// beginLocked notes where an epoch begins. What was noted there of earlier ones without a record is void: Kafka's epoch
// cache is kept like this.
func (p *fakePart) beginLocked(epoch kafka.LeaderEpoch, at kafka.Offset) {
	if n := len(p.epochs); n > 0 && p.epochs[n-1].Epoch >= epoch {
		return
	}
	p.epochs = append(p.epochs, log.EpochOffset{Epoch: epoch, Offset: at})
}

// endOfLocked is the end of the largest epoch not above the one asked for: where the next one begins.
func (p *fakePart) endOfLocked(epoch kafka.LeaderEpoch) replica.EpochEnd {
	e := replica.EpochEnd{Epoch: kafka.NoLeaderEpoch, End: p.logStart}
	for i, x := range p.epochs {
		if x.Epoch > epoch {
			break
		}
		e = replica.EpochEnd{Epoch: x.Epoch, End: p.end}
		if i+1 < len(p.epochs) {
			e.End = p.epochs[i+1].Offset
		}
	}
	return e
}

func (p *fakePart) cutLocked(end kafka.Offset) {
	for len(p.batches) > 0 && p.batches[len(p.batches)-1].next > end {
		p.batches = p.batches[:len(p.batches)-1]
	}
	p.end = p.logStart
	if n := len(p.batches); n > 0 {
		p.end = p.batches[n-1].next
	}
	for len(p.epochs) > 0 && p.epochs[len(p.epochs)-1].Offset >= p.end {
		p.epochs = p.epochs[:len(p.epochs)-1]
	}
	p.durable = min(p.durable, p.end)
	p.cuts++
}

func (p *fakePart) ID() kafka.TopicPartition { return p.id }
func (p *fakePart) Topic() string            { return "topic" }

func (p *fakePart) follow(r replica.FollowRequest) decision {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := decision{}
	d.LeaderEpoch = p.epoch
	switch {
	case r.LeaderEpoch > p.epoch:
		d.Action = replica.FollowPark
	case r.LeaderEpoch < p.epoch || !p.led:
		d.Err = kafka.ErrFencedLeaderEpoch
	case r.LogEnd < p.logStart:
		d.Action, d.Reset = replica.FollowReset, replica.Reset{Offset: p.logStart, Producers: []byte("snapshot")}
	default:
		at := p.endOfLocked(r.LastEpoch)
		if r.LastEpoch == kafka.NoLeaderEpoch && r.LogEnd == p.logStart || at.Epoch == r.LastEpoch && at.End >= r.LogEnd {
			s := &fakeSession{p, r.Follower, r.LeaderEpoch}
			p.sessions[r.Follower] = s
			p.acked[r.Follower] = kafka.NoOffset
			d.Action, d.From, d.session = replica.FollowStream, r.LogEnd, s
			break
		}
		d.Action, d.Truncate = replica.FollowTruncate, at
	}
	return d
}

func (p *fakePart) read(s session, dst []byte, from kafka.Offset, maxBytes int) (replica.Stretch, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := s.(*fakeSession)
	if p.sessions[f.follower] != f || !p.led || p.epoch != f.epoch {
		return replica.Stretch{}, kafka.ErrNotLeaderOrFollower
	}
	out := replica.Stretch{Records: dst, Next: from, HighWatermark: p.hw, LogStart: p.logStart, LogEnd: p.end}
	at, _ := slices.BinarySearchFunc(p.batches, from, func(b fakeBatch, o kafka.Offset) int { return int(b.base - o) })
	n := 0
	for _, b := range p.batches[at:] {
		if n > 0 && n+len(b.bytes) > maxBytes {
			break
		}
		n += len(b.bytes)
		out.Records = append(out.Records, b.bytes...)
		out.Next = b.next
	}
	return out, nil
}

func (s *fakeSession) Acked(durable, _ kafka.Offset) error {
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sessions[s.follower] != s {
		return nil
	}
	if durable > p.end {
		return kafka.ErrInvalidRequest
	}
	p.acked[s.follower] = max(p.acked[s.follower], durable)
	p.advanceLocked()
	return nil
}

func (s *fakeSession) Close() {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if s.p.sessions[s.follower] == s {
		delete(s.p.sessions, s.follower)
	}
}

func (p *fakePart) followsLocked(epoch kafka.LeaderEpoch) error {
	if p.led || p.epoch != epoch || p.n.isDown() {
		return kafka.ErrNotLeaderOrFollower
	}
	return nil
}

func (p *fakePart) FollowPosition(epoch kafka.LeaderEpoch) (replica.FollowPosition, error) {
	p.mu.Lock()
	at, err, linger := replica.FollowPosition{LogEnd: p.end, LastEpoch: p.lastEpochLocked()}, p.followsLocked(epoch), p.linger
	p.mu.Unlock()
	time.Sleep(linger)
	return at, err
}

func (p *fakePart) AckPosition(epoch kafka.LeaderEpoch) (durable, logStart kafka.Offset, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.durable, p.logStart, p.followsLocked(epoch)
}

func (p *fakePart) AppendFollower(epoch kafka.LeaderEpoch, base kafka.Offset, batches []byte, hw, _ kafka.Offset, hold bool) error {
	if d := p.n.append; d > 0 {
		time.Sleep(d)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.followsLocked(epoch); err != nil {
		return err
	}
	if p.refuse != nil {
		return p.refuse
	}
	if base != p.end {
		return fmt.Errorf("append at %d, the log ends at %d: %w", base, p.end, log.ErrNotAtEnd)
	}
	for len(batches) > 0 {
		b, rest, err := record.Next(batches)
		if err != nil {
			return err
		}
		if !b.VerifyCRC() || b.BaseOffset() != p.end {
			return fmt.Errorf("a broken batch at %d", p.end)
		}
		for n := len(p.epochs); n > 0 && p.epochs[n-1].Epoch > b.LeaderEpoch() && p.epochs[n-1].Offset >= p.end; n-- {
			p.epochs = p.epochs[:n-1] // it led, and appended nothing
		}
		p.beginLocked(b.LeaderEpoch(), b.BaseOffset())
		p.batches = append(p.batches, fakeBatch{b.BaseOffset(), b.NextOffset(), b.LeaderEpoch(), bytes.Clone(b)})
		p.end = b.NextOffset()
		batches = rest
	}
	p.n.soil(p, !hold)
	if d := p.pause; d > 0 {
		p.mu.Unlock()
		time.Sleep(d)
		p.mu.Lock()
		if err := p.followsLocked(epoch); err != nil { // as in FollowerWatermark
			return err
		}
	}
	p.hw = max(p.hw, min(hw, p.end))
	return nil
}

func (p *fakePart) Commit() { p.n.commit() }

// AppendStretch is not met here: nothing compacts.
func (p *fakePart) AppendStretch(_ kafka.LeaderEpoch, s *log.Stretch, _, _ kafka.Offset) error {
	return fmt.Errorf("a stretch from %d to %d", s.From, s.Next)
}

func (p *fakePart) FollowerWatermark(epoch kafka.LeaderEpoch, hw, _ kafka.Offset) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.followsLocked(epoch); err != nil {
		return err
	}
	p.hw = max(p.hw, min(hw, p.end))
	p.change.Broadcast()
	return nil
}

func (p *fakePart) TruncateFollower(_ context.Context, epoch kafka.LeaderEpoch, to replica.EpochEnd) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.followsLocked(epoch); err != nil {
		return err
	}
	p.truncs++
	if p.stubborn {
		return nil
	}
	end := min(to.End, p.endOfLocked(to.Epoch).End)
	if end < p.hw {
		return fmt.Errorf("a cut to %d below the high watermark %d", end, p.hw)
	}
	p.cutLocked(end)
	p.durable = p.end // a cut syncs what it leaves
	return nil
}

func (p *fakePart) ResetFollower(_ context.Context, epoch kafka.LeaderEpoch, r replica.Reset) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.followsLocked(epoch); err != nil {
		return err
	}
	p.resets++
	p.batches, p.epochs = nil, nil
	p.logStart, p.end, p.durable = r.Offset, r.Offset, r.Offset
	p.cuts++
	return nil
}
