package controller

import (
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/peer"
)

func peerIdentity(m *machine, p *process, clusterID string) peer.Identity {
	return peer.Identity{Broker: m.id, Directory: p.directory, Incarnation: p.incarnate, ClusterID: clusterID, Address: m.address}
}

// TestForming: empty nodes form a cluster, fast, and each of them takes commands.
func TestForming(t *testing.T) {
	for _, size := range []int{1, 2, 3, 5} {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, 1, size)
			defer f.close()
			began := time.Now()
			f.startAll()
			f.formed()
			if took := time.Since(began); took > time.Second {
				t.Errorf("%d nodes took %v to form a cluster", size, took)
			}
			for _, m := range f.machines {
				if err := m.create("topic-"+m.address[:5], time.Second); err != nil {
					t.Fatal(err)
				}
			}
			f.converged()
			img := f.machines[0].controller().Image()
			if len(img.Voters()) != size || len(img.Formation()) != size || img.BrokerCount() != size {
				t.Fatalf("voters %v, formation %v", img.Voters(), img.Formation())
			}
		})
	}
}
