package replica

import (
	"errors"
	"math/rand/v2"
	"testing"

	"chronik/internal/kafka"
)

func answered(w *waiter) bool { return len(w.done) == 1 }

func TestWaitersAreAnsweredInOffsetOrder(t *testing.T) {
	var q waitQueue
	ends := []kafka.Offset{5, 3, 9, 9, 1, 7}
	ws := make([]*waiter, len(ends))
	for i, e := range ends {
		ws[i] = q.add(e)
	}
	q.reached(7)
	for i, w := range ws {
		if answered(w) != (ends[i] <= 7) {
			t.Errorf("waiter for %d: answered %v at 7", ends[i], answered(w))
		}
	}
	if q.len() != 2 {
		t.Fatalf("%d wait, want 2", q.len())
	}
	if !q.remove(ws[2]) || q.remove(ws[2]) {
		t.Fatal("a waiter is removed once")
	}
	if q.remove(ws[0]) {
		t.Fatal("a waiter that was answered is still there to remove")
	}
	failure := errors.New("over")
	q.fail(failure)
	if err := <-ws[3].done; err != failure {
		t.Fatalf("got %v", err)
	}
	if q.len() != 0 {
		t.Fatalf("%d wait, want none", q.len())
	}
}

// Random histories against the obvious: everyone up to the offset is answered, nobody else.
func TestWaitersAgainstModel(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		var q waitQueue
		waiting := map[*waiter]kafka.Offset{}
		at := kafka.Offset(0)
		for range 300 {
			switch r.IntN(4) {
			case 0, 1:
				end := at + 1 + kafka.Offset(r.IntN(20))
				waiting[q.add(end)] = end
			case 2:
				at += kafka.Offset(r.IntN(8))
				q.reached(at)
			case 3:
				for w := range waiting {
					if !q.remove(w) {
						t.Fatalf("seed %d: a waiter for %d at %d is not there", seed, w.end, at)
					}
					q.release(w)
					delete(waiting, w)
					break
				}
			}
			for w, end := range waiting {
				if answered(w) != (end <= at) {
					t.Fatalf("seed %d: waiter for %d at %d: answered %v", seed, end, at, answered(w))
				}
				if answered(w) {
					<-w.done
					q.release(w)
					delete(waiting, w)
				}
			}
			if q.len() != len(waiting) {
				t.Fatalf("seed %d: %d wait, want %d", seed, q.len(), len(waiting))
			}
		}
	}
}
