package limit

import (
	"context"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tollkey/tollkey"
)

// books is a store that holds what was folded into it.
type books struct {
	mu    sync.Mutex
	taken map[tollkey.BucketID]map[int64]tollkey.Take
	// before runs in the middle of a read, after its snapshot.
	before func()
}

func (b *books) fold(takes ...tollkey.Take) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range takes {
		if b.taken == nil {
			b.taken = map[tollkey.BucketID]map[int64]tollkey.Take{}
		}
		if b.taken[t.Bucket] == nil {
			b.taken[t.Bucket] = map[int64]tollkey.Take{}
		}
		t.Cost += b.taken[t.Bucket][t.Window].Cost
		b.taken[t.Bucket][t.Window] = t
	}
}

func (b *books) Admitted(_ context.Context, id tollkey.BucketID) (out []tollkey.Take, _ error) {
	b.mu.Lock()
	for _, t := range b.taken[id] {
		out = append(out, t)
	}
	before := b.before
	b.before = nil
	b.mu.Unlock()
	if before != nil {
		before()
	}
	return out, nil
}

// TestSpillingChangesNoDecision drives a limiter with room for 20 counters and one without bound through the same random calls, while takes
// are committed late, folded later, and rounds of spilling begin and end at any moment. All decisions agree, and so do those after a restart.
func TestSpillingChangesNoDecision(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store := &books{}
		small, whole := NewLocal(20, store), NewLocal(1_000_000, nil)
		now := int64(1_000_000)
		type flight struct{ small, whole Taken }
		var flights []flight
		var committed []tollkey.Take // and not yet folded
		round, waiting := int64(-1), 0
		dropped := 0
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			now += rapid.Int64Range(0, 200).Draw(t, "wait")
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0: // the oldest event in flight is decided
				if len(flights) > 0 {
					f := flights[0]
					flights = flights[1:]
					if rapid.Bool().Draw(t, "refund") {
						f.small.Refund()
						f.whole.Refund()
					} else {
						committed = append(committed, f.small.Takes()...)
						f.small.Keep()
						f.whole.Keep()
					}
				}
			case 1: // the roller
				n := rapid.IntRange(0, len(committed)).Draw(t, "fold")
				store.fold(committed[:n]...)
				committed, waiting = committed[n:], max(waiting-n, 0)
			case 2:
				if round < 0 {
					round, waiting = small.NextEpoch(), len(committed)
				} else if waiting == 0 {
					dropped += small.Spill(round, now)
					round = -1
				}
			default:
				b := byte(rapid.IntRange(0, 99).Draw(t, "bucket"))
				r := []Request{{Bucket: tollkey.BucketID{b % 3, b}, Limit: 4, Duration: time.Duration(b%4+1) * time.Second, Cost: 1}}
				var one, two [1]Decision
				taken, ok, err := small.Take(t.Context(), time.UnixMilli(now), r, one[:])
				other, want, _ := whole.Take(t.Context(), time.UnixMilli(now), r, two[:])
				if err != nil || ok != want || one != two {
					t.Fatalf("bucket %d at %d: %v %+v, without a bound %v %+v", b, now, ok, one, want, two)
				}
				if ok {
					flights = append(flights, flight{taken, other})
				}
			}
		}
		t.Logf("%d spilled", dropped)
	})
}

// TestReadBackIsNotOutOfDate lets a counter come, count and spill between the read of an older one and its use.
func TestReadBackIsNotOutOfDate(t *testing.T) {
	store := &books{}
	l, now := NewLocal(0, store), time.UnixMilli(1_000_000)
	r := []Request{{Bucket: tollkey.BucketID{1}, Limit: 2, Duration: time.Minute, Cost: 1}}
	take := func() bool {
		taken, ok, err := l.Take(t.Context(), now, r, make([]Decision, 1))
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			store.fold(taken.Takes()...)
			taken.Keep()
		}
		return ok
	}
	spill := func() {
		if l.Spill(l.NextEpoch(), now.UnixMilli()); l.Len() != 0 {
			t.Fatal("nothing spilled")
		}
	}
	take()
	spill()
	store.before = func() { take(); spill() }
	if take() {
		t.Error("a third was admitted under a limit of 2")
	}
}

// TestRestartBeyondCapacity applies more counters than fit, and the takes that the store does not hold yet.
func TestRestartBeyondCapacity(t *testing.T) {
	store := &books{}
	l, now := NewLocal(5, store), time.UnixMilli(1_000_000)
	window := now.UnixMilli() / 60_000
	for i := range 50 {
		taken := tollkey.Take{Bucket: tollkey.BucketID{byte(i)}, Duration: time.Minute, Window: window, Cost: 1}
		store.fold(taken)
		l.Apply(taken)
	}
	for i := range 50 {
		taken := tollkey.Take{Bucket: tollkey.BucketID{byte(i)}, Duration: time.Minute, Window: window, Cost: 1}
		if err := l.ApplyUnstored(t.Context(), taken); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 50 {
		r := []Request{{Bucket: tollkey.BucketID{byte(i)}, Limit: 3, Duration: time.Minute, Cost: 1}}
		d := make([]Decision, 1)
		if _, ok, err := l.Take(t.Context(), now, r, d); !ok || err != nil || d[0].Remaining != 0 {
			t.Fatalf("bucket %d: %v %v %+v, want the third of three", i, ok, err, d)
		}
	}
}
