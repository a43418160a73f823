package stream

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/kafka"
	pb "chronik/internal/metadata/metadatapb"
	"chronik/internal/peer"
	"chronik/internal/record"
	"chronik/internal/replica"
	"chronik/internal/vfs"
)

// What a follower has appended becomes durable, and is acknowledged in the next epoch, also where the epoch ends before the
// append has returned.
func TestEpochEndsWithinAnAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 2, Options{})
		id := partitionID(0)
		c.elect(id, 1, 0, 1, 2)
		leader, follower := c.nodes[1].part(id), c.nodes[2].part(id)
		time.Sleep(time.Second)
		follower.mu.Lock()
		follower.pause = time.Second
		follower.mu.Unlock()
		end := leader.produce(1, 100)
		time.Sleep(100 * time.Millisecond)
		c.elect(id, 1, 1, 1, 2)
		time.Sleep(time.Minute)
		leader.mu.Lock()
		defer leader.mu.Unlock()
		if leader.hw != end {
			t.Fatalf("the watermark is %d, both logs end at %d; acknowledged: %v", leader.hw, end, leader.acked)
		}
	})
}

// A broker that was removed from the cluster while it ran, and registers again, is taken into the in-sync sets again: its
// streams, which never ended, are of its earlier registration.
func TestBrokerRegistersAgainUnderItsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newRealCluster(t, 3, newMemnet(), Options{})
		c.meta.createTopic(realID(0).Topic, "orders", 1, []int32{1, 2, 3}, map[string]string{"min.insync.replicas": "2"})
		c.start()
		defer c.stop()
		_, p := c.waitLeader(realID(0))
		if _, err := produce(context.Background(), p, payload(1, 100, "first")); err != nil {
			t.Fatal(err)
		}
		n := c.nodes[3]
		c.meta.fence(3)
		c.meta.mu.Lock()
		c.meta.commitLocked(&pb.Record{Kind: &pb.Record_BrokerRemoved{BrokerRemoved: &pb.BrokerRemoved{Id: 3}}})
		c.meta.mu.Unlock()
		time.Sleep(5 * time.Second)
		c.meta.register(3, n.life)
		time.Sleep(100 * time.Millisecond) // until the answer is there
		n.epoch.Store(int64(n.view.Image().Broker(3).Epoch))
		if _, err := produce(context.Background(), p, payload(1, 100, "second")); err != nil {
			t.Fatal(err)
		}
		c.converge(realID(0))
	})
}

// With sync = interval a follower acknowledges what is in its page cache, and reads on: it waits for no disk.
func TestSyncIntervalWaitsForNoDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newRealCluster(t, 3, newMemnet(), Options{})
		c.meta.createTopic(realID(0).Topic, "orders", 1, []int32{1, 2, 3}, map[string]string{"min.insync.replicas": "2", "sync": "interval"})
		c.start()
		defer c.stop()
		_, p := c.waitLeader(realID(0))
		if _, err := produce(context.Background(), p, payload(1, 100, "first")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for _, id := range []kafka.BrokerID{1, 2, 3} {
			c.nodes[id].faults.Add(vfs.Rule{Path: "/wal/", Op: vfs.OpSync, Delay: time.Second})
		}
		began := time.Now()
		for range 20 {
			if _, err := produce(context.Background(), p, payload(1, 100, "x")); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("20 records that need no sync took %v", took)
		}
	})
}

// DeleteRecords is answered once every in-sync replica has deleted, so that no election brings the records back: one that is cut
// off is waited for, until it is in sync no more.
func TestDeleteRecordsAndTheInSyncSet(t *testing.T) {
	for _, x := range []struct {
		name string
		end  func(c *realCluster)
	}{
		{"it comes back", func(c *realCluster) { c.net.setCut(address(1), address(3), false) }},
		{"it leaves the in-sync set", func(c *realCluster) { c.meta.fence(3) }},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newRealCluster(t, 3, newMemnet(), Options{})
				c.lag = time.Hour
				c.meta.createTopic(realID(0).Topic, "orders", 1, []int32{1, 2, 3}, map[string]string{"min.insync.replicas": "2"})
				c.start()
				defer c.stop()
				_, p := c.waitLeader(realID(0))
				for range 10 {
					if _, err := produce(context.Background(), p, payload(1, 100, "x")); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Second)
				c.net.setCut(address(1), address(3), true)
				c.net.resetAll(address(3))
				time.Sleep(time.Second)
				answered := make(chan error, 1)
				go func() {
					ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
					defer cancel()
					_, err := p.DeleteRecords(ctx, 5)
					answered <- err
				}()
				time.Sleep(5 * time.Second)
				if len(answered) > 0 {
					t.Errorf("answered (%v) while an in-sync replica's log starts at %d", <-answered, c.nodes[3].part(realID(0)).LogStart())
					return
				}
				began := time.Now()
				x.end(c)
				if err := <-answered; err != nil {
					t.Errorf("%v after %v", err, time.Since(began))
				}
			})
		})
	}
}

// A node whose disk hangs while it begins to lead one partition still takes note that others lead what it led: its clients are told
// at once.
func TestLeadershipEndsBesideAHangingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newRealCluster(t, 3, newMemnet(), Options{})
		c.meta.createTopic(realID(0).Topic, "orders", 3, []int32{1, 2, 3}, map[string]string{"min.insync.replicas": "2"})
		c.start()
		defer c.stop()
		var old [3]kafka.BrokerID
		for i := range old {
			n, _ := c.waitLeader(realID(i))
			old[i] = n.id
		}
		if old != [3]kafka.BrokerID{1, 2, 3} {
			t.Fatal(old)
		}
		time.Sleep(time.Second)
		n := c.nodes[1]
		p := n.part(realID(0))
		n.faults.Add(vfs.Rule{Path: "/wal/", Op: vfs.OpSync, Delay: 30 * time.Second, Times: 1})
		c.meta.elect(realID(1), 1) // whose epoch cannot begin
		time.Sleep(time.Second)
		answered := make(chan error, 1)
		go func() {
			_, err := produce(context.Background(), p, payload(1, 100, "x"))
			answered <- err
		}()
		time.Sleep(time.Second)
		c.meta.elect(realID(0), 2)
		c.meta.elect(realID(1), 3)
		began := time.Now()
		if err := <-answered; !errors.Is(err, kafka.ErrNotLeaderOrFollower) || time.Since(began) > time.Second {
			t.Errorf("a producer of a leader that was replaced is told so after %v: %v", time.Since(began), err)
		}
		for i := range old {
			if _, _, led := n.part(realID(i)).Leader(); led {
				t.Errorf("it still leads partition %d", i)
			}
		}
		time.Sleep(time.Minute)
		for i := range old {
			_, p := c.waitLeader(realID(i))
			if _, err := produce(context.Background(), p, payload(1, 100, "y")); err != nil {
				t.Error(err)
			}
			c.converge(realID(i))
		}
	})
}

// A replica that is moved away and comes back before its files are gone begins anew, empty: the removal that is still under way
// takes nothing from it.
func TestReplicaComesBackWhileItIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newRealCluster(t, 3, newMemnet(), Options{})
		c.meta.createTopic(realID(0).Topic, "orders", 1, []int32{1, 2, 3}, map[string]string{"min.insync.replicas": "2"})
		c.start()
		defer c.stop()
		_, p := c.waitLeader(realID(0))
		for range 10 {
			if _, err := produce(context.Background(), p, payload(1, 100, "x")); err != nil {
				t.Fatal(err)
			}
		}
		replicas := func(ids ...int32) {
			c.meta.mu.Lock()
			defer c.meta.mu.Unlock()
			c.meta.commitLocked(changeOf(realID(0), func(p *pb.PartitionChanged) {
				p.Replicas, p.Isr = &pb.BrokerList{Ids: ids}, &pb.BrokerList{Ids: []int32{1, 2}}
			}))
		}
		for i := range 3 {
			// The follower's log start is about to be raised, which holds up the removal.
			c.nodes[3].faults.Add(vfs.Rule{Op: vfs.OpSync, Delay: time.Second})
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			if _, err := p.DeleteRecords(ctx, kafka.Offset(2*i+1)); !errors.Is(err, kafka.ErrRequestTimedOut) {
				t.Error(err)
			}
			cancel()
			replicas(1, 2)
			time.Sleep(100 * time.Millisecond)
			replicas(1, 2, 3)
			time.Sleep(10 * time.Second)
			c.nodes[3].faults.Clear()
			if _, err := produce(context.Background(), p, payload(1, 100, "y")); err != nil {
				t.Fatal(err)
			}
			c.converge(realID(0))
		}
	})
}

// A Follow that is asked about again at the moment at which it has been parked for long enough is refused all the same, later.
func TestParkedAgainWhenItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, p := leaderUnderTest(t, Limits{})
		n.mu.Lock()
		n.finding = 200 * time.Millisecond
		n.mu.Unlock()
		a := n.connect(peer.Hot)
		a.follow(1, 4, 0) // newer than what the leader knows
		time.Sleep(2100 * time.Millisecond)
		n.streams.leads(p.id) // something, but not that epoch
		time.Sleep(time.Minute)
		if frames := a.take(); len(frames) != 1 || frames[0].Type != frameRefuse {
			t.Errorf("a Follow that was parked a minute ago is answered with %v", frames)
		}
		_ = a.Close()
		n.c.close()
	})
}

// A follower whose disk hangs for half a minute is left behind, without a stream of connections that are made and cut off, and is
// back in sync soon after.
func TestFollowerDiskHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newRealCluster(t, 3, newMemnet(), Options{})
		c.lag = 2 * time.Second
		c.meta.createTopic(realID(0).Topic, "orders", 2, []int32{1, 2, 3}, map[string]string{"min.insync.replicas": "2"})
		c.start()
		defer c.stop()
		var led [2]*replica.Partition
		for i := range led {
			_, led[i] = c.waitLeader(realID(i))
		}
		n := c.nodes[3]
		time.Sleep(time.Second)
		before := n.streams.Stats().Connects
		n.faults.Add(vfs.Rule{Path: "/wal/", Op: vfs.OpSync, Delay: 30 * time.Second, Times: 1})
		began := time.Now()
		var worst time.Duration
		for time.Since(began) < 29*time.Second {
			for _, p := range led {
				sent := time.Now()
				if _, err := produce(context.Background(), p, payload(10, 10_000, "x")); err != nil {
					t.Fatal(err)
				}
				worst = max(worst, time.Since(sent))
			}
			time.Sleep(200 * time.Millisecond)
		}
		if worst > 4*time.Second {
			t.Errorf("a produce waited for %v for a replica whose lag may be 2 s", worst)
		}
		time.Sleep(2 * time.Second)
		began = time.Now()
		for i := range led {
			c.converge(realID(i))
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it is back in sync %v after its disk", took)
		}
		if connects := n.streams.Stats().Connects - before; connects > 6 {
			t.Errorf("%d connections were made", connects)
		}
	})
}

// An ack that waits to be written on one connection does not keep one from the other, to which its partition has moved meanwhile.
func TestAckBesideAMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 2, Options{})
		n := c.nodes[2]
		conns := make(chan *scriptConn, 10)
		n.streams.network = scriptNetwork{conns}
		p := n.apply(partitionID(0), 1, 3, 1, 2)
		hot := <-conns
		m, err := decodeFollow(hot.take()[0].Body)
		if err != nil {
			t.Fatal(err)
		}
		send := func(c *scriptConn, session sessionID, base kafka.Offset) {
			b := record.NewBuilder()
			b.Add(1, nil, make([]byte, commitBytes)) // so much that the reader leaves it to the disk, and the ack to the writer
			batch := record.Batch(b.Build())
			batch.SetBaseOffset(base)
			batch.SetLeaderEpoch(3)
			body := make([]byte, appendSize)
			appended{session, 3, base, 0, 0}.put(body)
			c.say(frameAppend, append(body, batch...))
			synctest.Wait()
		}
		// The writer of the hot connection is held up by another partition.
		n.mu.Lock()
		q := &fakePart{n: n, id: partitionID(1), leader: kafka.NoLeader, epoch: kafka.NoLeaderEpoch, linger: time.Minute}
		q.change = sync.NewCond(&q.mu)
		n.parts[q.id] = q
		n.mu.Unlock()
		n.apply(q.id, 1, 3, 1, 2)
		synctest.Wait()
		send(hot, m.session, 0)
		hot.say(frameMove, move{m.session, peer.CatchUp}.appendTo(nil))
		catchUp := <-conns
		if m, err = decodeFollow(catchUp.take()[0].Body); err != nil || m.logEnd != 1 {
			t.Fatalf("%+v %v", m, err)
		}
		send(catchUp, m.session, 1)
		time.Sleep(2 * time.Minute)
		told := kafka.NoOffset
		for _, f := range catchUp.take() {
			if f.Type == frameAck {
				a, _ := nextAck(f.Body)
				told = a.durable
			}
		}
		if _, durable, _ := p.ends(); durable != 2 || told != 2 {
			t.Errorf("%d is durable, %d was acknowledged", durable, told)
		}
		c.close()
	})
}
