package stream

import (
	"context"
	"encoding/binary"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/peer"
	"chronik/internal/record"
)

// scriptConn is a connection whose other end is the test.
type scriptConn struct {
	kind   peer.Kind
	broker kafka.BrokerID

	mu     sync.Mutex
	change *sync.Cond
	in     []peer.Frame // for ReadFrame
	out    []peer.Frame // flushed
	buf    []byte
	typ    byte
	ended  []peer.Frame
	closed bool
}

func newScriptConn(broker kafka.BrokerID, kind peer.Kind) *scriptConn {
	c := &scriptConn{kind: kind, broker: broker}
	c.change = sync.NewCond(&c.mu)
	return c
}

func (c *scriptConn) Peer() peer.Identity { return peer.Identity{Broker: c.broker} }
func (c *scriptConn) Kind() peer.Kind     { return c.kind }

func (c *scriptConn) ReadFrame() (peer.Frame, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.in) == 0 {
		if c.closed {
			return peer.Frame{}, io.EOF
		}
		c.change.Wait()
	}
	f := c.in[0]
	c.in = c.in[1:]
	return f, nil
}

func (c *scriptConn) Ready() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.in) > 0
}

func (c *scriptConn) BeginFrame(typ byte) []byte { c.typ = typ; return c.buf[:0] }
func (c *scriptConn) EndFrame(b []byte) {
	c.ended = append(c.ended, peer.Frame{Type: c.typ, Body: append([]byte(nil), b...)})
}
func (c *scriptConn) CancelFrame([]byte) {}
func (c *scriptConn) Buffered() int      { return len(c.ended) }
func (c *scriptConn) Flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return io.ErrClosedPipe
	}
	c.out = append(c.out, c.ended...)
	c.ended = nil
	c.change.Broadcast()
	return nil
}

func (c *scriptConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.change.Broadcast()
	return nil
}

// say gives the other side a frame.
func (c *scriptConn) say(typ byte, body []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in = append(c.in, peer.Frame{Type: typ, Body: body})
	c.change.Broadcast()
}

// take returns what the other side has said by now, and forgets it.
func (c *scriptConn) take() []peer.Frame {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.out
	c.out = nil
	return out
}

// leaderUnderTest is a leader with one follower, which the test plays.
func leaderUnderTest(t *testing.T, l Limits) (*fakeNode, *fakePart) {
	c := newFakeCluster(t, 2, Options{Limits: l})
	p := c.nodes[1].apply(partitionID(0), 1, 3, 1, 2)
	return c.nodes[1], p
}

func (n *fakeNode) connect(kind peer.Kind) *scriptConn { return n.connectAs(2, kind) }

func (n *fakeNode) connectAs(id kafka.BrokerID, kind peer.Kind) *scriptConn {
	c := newScriptConn(id, kind)
	go n.streams.serve(c)
	return c
}

func (c *scriptConn) follow(session sessionID, epoch kafka.LeaderEpoch, logEnd kafka.Offset) {
	last := kafka.NoLeaderEpoch
	if logEnd > 0 {
		last = epoch
	}
	c.say(frameFollow, follow{session: session, id: partitionID(0), leaderEpoch: epoch, logEnd: logEnd, lastEpoch: last, brokerEpoch: 1}.appendTo(nil))
}

func (c *scriptConn) ack(session sessionID, epoch kafka.LeaderEpoch, end kafka.Offset) {
	c.say(frameAck, ack{session, epoch, end, 0}.appendTo(nil))
}

func (p *fakePart) highWatermark() kafka.Offset {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hw
}

// appends returns the next offset that the frames bring the follower to.
func appends(t *testing.T, frames []peer.Frame, session sessionID, from kafka.Offset) kafka.Offset {
	t.Helper()
	for _, f := range frames {
		if f.Type != frameAppend {
			continue
		}
		m, batches, err := decodeAppend(f.Body)
		if err != nil || m.session != session || m.base != from {
			t.Fatalf("%+v, %v: expected offset %d in session %d", m, err, from, session)
		}
		for len(batches) > 0 {
			b, rest, _ := record.Next(batches)
			from, batches = b.NextOffset(), rest
		}
	}
	return from
}

// Acks count on the session that they name, if it is the last one of that follower, and in its epoch.
func TestStaleAcks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, p := leaderUnderTest(t, Limits{})
		a := n.connect(peer.Hot)
		a.follow(1, 3, 0)
		for range 10 {
			p.produce(1, 10)
		}
		if end := appends(t, a.take(), 1, 0); end != 10 {
			t.Fatalf("sent up to %d", end)
		}
		a.ack(1, 2, 10) // another epoch
		a.ack(7, 3, 10) // no session
		if hw := p.highWatermark(); hw != 0 {
			t.Fatalf("high watermark %d", hw)
		}
		a.ack(1, 3, 5)
		if hw := p.highWatermark(); hw != 5 {
			t.Fatalf("high watermark %d", hw)
		}
		b := n.connect(peer.Hot)
		b.follow(2, 3, 5)
		if end := appends(t, b.take(), 2, 5); end != 10 {
			t.Fatalf("sent up to %d", end)
		}
		a.ack(1, 3, 10)
		if hw := p.highWatermark(); hw != 5 {
			t.Fatalf("an ack of a session that was replaced counted: high watermark %d", hw)
		}
		if p.produce(1, 10); len(a.take()) > 0 {
			t.Error("the old connection is still sent to")
		}
		b.ack(2, 3, 11)
		if hw := p.highWatermark(); hw != 11 {
			t.Fatalf("high watermark %d", hw)
		}
		// A Follow that was sent before, and comes late on the old connection, changes nothing.
		a.follow(1, 3, 0)
		a.take()
		p.produce(1, 10)
		b.take()
		b.ack(2, 3, 12)
		if hw := p.highWatermark(); hw != 12 {
			t.Errorf("a late Follow took the session away: high watermark %d", hw)
		}
		for _, o := range n.streams.outbounds() {
			if o.conn == conn(a) && len(o.mu.sessions) > 0 {
				t.Error("the old connection keeps what has ended")
			}
		}
		_, _ = a.Close(), b.Close()
		n.c.close()
	})
}

// An ack that comes with the Follow counts once the Follow is answered, also if that was parked.
func TestEarlyAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, p := leaderUnderTest(t, Limits{})
		p.produce(4, 10)
		a := n.connect(peer.Hot)
		a.follow(1, 4, 0)
		a.ack(1, 4, 0)
		a.take()
		n.apply(p.id, 1, 4, 1, 2)
		p.mu.Lock()
		p.hw = 0
		p.mu.Unlock()
		if end := appends(t, a.take(), 1, 0); end != 4 {
			t.Fatalf("sent up to %d", end)
		}
		if p.acked[2] != 0 {
			t.Errorf("acknowledged: %d", p.acked[2])
		}
		_ = a.Close()
		n.c.close()
	})
}

// Past the window nothing is sent, until acks make room: of the partition, and of the stream.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, p := leaderUnderTest(t, Limits{PartitionWindow: 50_000, StreamWindow: 1 << 20, CatchUpBytes: 1 << 30})
		a := n.connect(peer.Hot)
		a.follow(1, 3, 0)
		a.take()
		sent, acked := kafka.Offset(0), kafka.Offset(0)
		for range 200 {
			p.produce(1, 1000)
			sent = appends(t, a.take(), 1, sent)
		}
		for acked < 200 {
			if sent-acked > 50 || sent < min(200, acked+25) {
				t.Fatalf("%d records of 1 kB are under way, the window is 50 kB", sent-acked)
			}
			acked += 3
			acked = min(acked, sent)
			a.ack(1, 3, acked)
			sent = appends(t, a.take(), 1, sent)
		}
		_ = a.Close()
		n.c.close()
	})
}

func TestWatermarkFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, p := leaderUnderTest(t, Limits{})
		a := n.connect(peer.Hot)
		a.follow(1, 3, 0)
		if frames := a.take(); len(frames) != 1 || frames[0].Type != frameWatermark {
			t.Fatalf("the session begins with %v", frames)
		}
		// With traffic, the batches carry it.
		for i := range kafka.Offset(100) {
			p.produce(1, 10)
			a.ack(1, 3, i+1)
			synctest.Wait()
			time.Sleep(time.Millisecond)
		}
		marks := 0
		for _, f := range a.take() {
			if f.Type == frameWatermark {
				marks++
			}
		}
		if marks > 25 {
			t.Errorf("%d Watermark frames beside 100 batches in 100 ms", marks)
		}
		// Without, it comes alone, soon.
		time.Sleep(time.Second)
		p.produce(1, 10)
		a.take()
		a.ack(1, 3, 101)
		if frames := a.take(); len(frames) > 0 {
			t.Fatalf("it did not wait for a batch: %v", frames)
		}
		time.Sleep(6 * time.Millisecond)
		frames := a.take()
		if len(frames) != 1 || frames[0].Type != frameWatermark {
			t.Fatalf("%v", frames)
		}
		if m, _ := nextWatermark(frames[0].Body); m.highWatermark != 101 {
			t.Errorf("%+v", m)
		}
		if time.Sleep(time.Second); len(a.take()) > 0 {
			t.Error("an idle partition is talked about")
		}
		_ = a.Close()
		n.c.close()
	})
}

// What does not keep to the protocol ends the connection, and nothing else.
func TestHostileFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, p := leaderUnderTest(t, Limits{})
		good := n.connect(peer.Hot)
		good.follow(1, 3, 0)
		good.take()
		p.produce(1, 10)
		for i, say := range []func(*scriptConn){
			func(c *scriptConn) { c.say(99, nil) },
			func(c *scriptConn) { c.say(frameFollow, []byte{1}) },
			func(c *scriptConn) { c.say(frameAck, make([]byte, ackSize+1)) },
			func(c *scriptConn) { c.say(frameAppend, make([]byte, 100)) },
			func(c *scriptConn) { c.say(frameStop, nil) },
			func(c *scriptConn) { c.follow(50, 3, 0); c.follow(50, 3, 0) },
			func(c *scriptConn) { c.follow(60, 3, 0); synctest.Wait(); c.ack(60, 3, 1000) },
		} {
			bad := n.connectAs(3, peer.Hot)
			say(bad)
			if synctest.Wait(); !bad.closed {
				t.Errorf("%d: the connection lives", i)
			}
		}
		appends(t, good.take(), 1, 0)
		good.ack(1, 3, 1)
		if hw := p.highWatermark(); hw != 1 {
			t.Errorf("high watermark %d", hw)
		}
		_ = good.Close()
		n.c.close()
	})
}

// A follower appends only in the session and epoch that it follows in.
func TestFollowerChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 2, Options{})
		n := c.nodes[2]
		conns := make(chan *scriptConn, 10)
		n.streams.network = scriptNetwork{conns}
		p := n.apply(partitionID(0), 1, 3, 1, 2)
		a := <-conns
		frames := a.take()
		m, err := decodeFollow(frames[0].Body)
		if err != nil || frames[0].Type != frameFollow || m.leaderEpoch != 3 || frames[1].Type != frameAck {
			t.Fatalf("%v %+v %v", frames, m, err)
		}
		size := 8
		batch := func(base kafka.Offset, epoch kafka.LeaderEpoch) []byte {
			b := record.NewBuilder()
			b.Add(1, nil, append(binary.LittleEndian.AppendUint64(nil, uint64(base)), make([]byte, size-8)...))
			batch := record.Batch(b.Build())
			batch.SetBaseOffset(base)
			batch.SetLeaderEpoch(epoch)
			return batch
		}
		send := func(session sessionID, epoch kafka.LeaderEpoch, base kafka.Offset) {
			body := make([]byte, appendSize)
			appended{session, epoch, base, 0, 0}.put(body)
			a.say(frameAppend, append(body, batch(base, 3)...))
			synctest.Wait()
		}
		end := func() kafka.Offset {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.end
		}
		send(m.session, 2, 0)
		send(m.session, 4, 0)
		send(m.session+1, 3, 0)
		if end() != 0 {
			t.Fatal("appended in another epoch or session")
		}
		n.setSync(time.Second)
		send(m.session, 3, 0)
		if end() != 1 {
			t.Fatal("not appended")
		}
		if frames := a.take(); len(frames) > 0 {
			t.Fatalf("acknowledged before it was on the disk: %v", frames)
		}
		time.Sleep(time.Second / 2)
		send(m.session, 3, 1) // goes with the next sync
		time.Sleep(time.Second / 2)
		frames = a.take()
		if len(frames) != 1 || frames[0].Type != frameAck {
			t.Fatalf("%v", frames)
		}
		if x, _ := nextAck(frames[0].Body); x.durable != 1 || x.session != m.session || x.leaderEpoch != 3 {
			t.Errorf("%+v", x)
		}
		// A gap ends the session; it follows anew, from where it is.
		time.Sleep(2 * time.Second)
		a.take()
		send(m.session, 3, 7)
		time.Sleep(time.Second)
		frames = a.take()
		if len(frames) != 3 || frames[0].Type != frameStop || frames[1].Type != frameFollow {
			t.Fatalf("%v", frames)
		}
		again, _ := decodeFollow(frames[1].Body)
		if again.logEnd != 2 || again.session <= m.session {
			t.Errorf("%+v", again)
		}
		// In a new epoch the old session counts no more.
		n.apply(p.id, 1, 4, 1, 2)
		send(again.session, 3, 2)
		if end() != 2 {
			t.Error("appended in the old session")
		}
		// The first ack on a new connection names nothing either that is not on the disk.
		frames = a.take()
		m, _ = decodeFollow(frames[len(frames)-2].Body)
		size = commitBytes // so that the reader does not wait for the disk itself
		send(m.session, 4, 2)
		if end() != 3 {
			t.Fatal("not appended in the new epoch")
		}
		_ = a.Close()
		b := <-conns
		frames = b.take()
		if m, _ := decodeFollow(frames[0].Body); m.logEnd != 3 {
			t.Errorf("%+v", m)
		}
		if x, _ := nextAck(frames[1].Body); x.durable != 2 {
			t.Errorf("%+v", x)
		}
		c.close()
	})
}

// scriptNetwork gives a follower connections whose other end is the test.
type scriptNetwork struct{ conns chan *scriptConn }

func (n scriptNetwork) dial(_ context.Context, to kafka.BrokerID, kind peer.Kind) (conn, error) {
	c := newScriptConn(to, kind)
	n.conns <- c
	return c, nil
}

// While the follower's disk is busy small appends are held together: until an ack, or until they are worth a write.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, p := leaderUnderTest(t, Limits{})
		q := n.apply(partitionID(1), 1, 3, 1, 2)
		a := n.connect(peer.Hot)
		a.follow(1, 3, 0)
		a.take()
		sent := kafka.Offset(0)
		step := func(want kafka.Offset, what string) {
			t.Helper()
			if sent = appends(t, a.take(), 1, sent); sent != want {
				t.Fatalf("%s: sent up to %d, not %d", what, sent, want)
			}
		}
		p.produce(1, 12_000)
		for i := range kafka.Offset(smallWrites) {
			step(i+1, "the first go at once")
			if i+1 < smallWrites {
				p.produce(1, 100)
			}
		}
		p.produce(1, 100)
		p.produce(1, 100)
		step(smallWrites, "more are held")
		a.ack(1, 3, 0)
		step(smallWrites+2, "an ack sends what is held")
		for range smallWrites {
			p.produce(1, 100)
			a.take()
		}
		sent = 2*smallWrites + 1
		p.produce(1, 100)
		step(2*smallWrites+1, "held again")
		p.produce(1, 4000)
		step(2*smallWrites+4, "enough for a write")

		// Another partition's is held behind the first one's; it goes when nothing is under way, ack or not.
		a.say(frameFollow, follow{session: 2, id: q.id, leaderEpoch: 3, logEnd: 0, lastEpoch: -1, brokerEpoch: 1}.appendTo(nil))
		a.take()
		p.produce(1, 100)
		a.take()
		q.produce(1, 100)
		for _, f := range a.take() {
			if f.Type == frameAppend {
				t.Fatal("it was not held")
			}
		}
		a.say(frameStop, appendStop(nil, 1))
		if end := appends(t, a.take(), 2, 0); end != 1 {
			t.Errorf("what is held waits for an ack that will not come: sent up to %d", end)
		}
		_ = a.Close()
		n.c.close()
	})
}

// What a partition has under way when it moves holds up nobody: the follower acknowledges it no more.
func TestMoveFreesTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, p := leaderUnderTest(t, Limits{PartitionWindow: 20_000, CatchUpBytes: 30_000})
		a := n.connect(peer.Hot)
		a.follow(1, 3, 0)
		a.take()
		for range 100 {
			p.produce(1, 1000)
			synctest.Wait()
		}
		a.ack(1, 3, 1)
		a.ack(1, 3, 10)
		frames := a.take()
		if last := frames[len(frames)-1]; last.Type != frameMove {
			t.Fatalf("it is far behind, and the last frame is %d", last.Type)
		}
		if st := n.streams.Stats(); st.InFlightBytes != 0 {
			t.Errorf("%d bytes are under way", st.InFlightBytes)
		}
		_ = a.Close()
		n.c.close()
	})
}
