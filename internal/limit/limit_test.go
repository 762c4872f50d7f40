package limit

import (
	"context"
	"math/big"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tollkey/tollkey"
)

// TestWindowTable is the contract's table, and the corners.
func TestWindowTable(t *testing.T) {
	for _, c := range []struct {
		name                              string
		current, previous, elapsed, limit int64 // elapsed of 1000 ms
		cost                              int64
		admitted                          bool
		remaining                         int64
	}{
		{"half of the previous window counts", 5, 10, 500, 10, 1, false, 0},
		{"a hundredth of the previous window rounds down", 5, 10, 990, 10, 1, true, 4},
		{"cost 0 passes at full", 10, 0, 0, 10, 0, true, 0},
		{"exactly full", 9, 0, 0, 10, 1, true, 0},
		{"cost above the limit", 0, 0, 0, 10, 11, false, 0},
		{"nothing used", 0, 0, 0, 10, 3, true, 7},
		{"no overflow", 1, 0, 0, 1<<62 - 1, 1<<63 - 1, false, 0},
	} {
		w := Window{Number: 7, Current: c.current, Previous: c.previous}
		effective := w.Effective(7000+c.elapsed, 1000)
		if got := Admits(effective, c.cost, c.limit); got != c.admitted {
			t.Errorf("%s: admitted %v", c.name, got)
		} else if got && c.limit-effective-c.cost != c.remaining {
			t.Errorf("%s: %d remain, want %d", c.name, c.limit-effective-c.cost, c.remaining)
		}
	}
}

func TestEffectiveAgainstBigNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		duration := rapid.Int64Range(1, 1<<40).Draw(t, "duration")
		elapsed := rapid.Int64Range(0, duration-1).Draw(t, "elapsed")
		previous := rapid.Int64Range(0, tollkey.MaxAmount).Draw(t, "previous")
		w := Window{Number: 3, Previous: previous}
		want := new(big.Int).Mul(big.NewInt(previous), big.NewInt(duration-elapsed))
		want.Div(want, big.NewInt(duration))
		if got := w.Effective(3*duration+elapsed, duration); got != want.Int64() {
			t.Fatalf("got %d, want %d", got, want)
		}
	})
}

// model is the slow way: it remembers every admission and adds them up each time.
type model struct{ admitted []tollkey.Take }

func (m *model) sum(b tollkey.BucketID, window int64) (n int64) {
	for _, t := range m.admitted {
		if t.Bucket == b && t.Window == window {
			n += t.Cost
		}
	}
	return n
}

func (m *model) fits(r Request, now int64, extra int64) bool {
	d := r.Duration.Milliseconds()
	previous := new(big.Rat).SetFrac64(m.sum(r.Bucket, now/d-1)*(d-now%d), d)
	share := new(big.Int).Div(previous.Num(), previous.Denom()).Int64()
	return m.sum(r.Bucket, now/d)+extra+share+r.Cost <= r.Limit
}

func TestLocalAgreesWithModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		local, m := NewLocal(1_000_000, nil), &model{}
		now := int64(1_000_000)
		buckets := []Request{
			{Bucket: tollkey.BucketID{1}, Limit: 5, Duration: time.Second},
			{Bucket: tollkey.BucketID{2}, Limit: 8, Duration: 3 * time.Second},
			{Bucket: tollkey.BucketID{1, 1}, Limit: 3, Duration: 2 * time.Second},
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now += rapid.Int64Range(0, 900).Draw(t, "wait")
			var requests []Request
			extra, want := map[tollkey.BucketID]int64{}, true
			for range rapid.IntRange(1, 3).Draw(t, "limits") {
				r := rapid.SampledFrom(buckets).Draw(t, "bucket")
				r.Cost = rapid.Int64Range(0, 3).Draw(t, "cost")
				if m.fits(r, now, extra[r.Bucket]) {
					extra[r.Bucket] += r.Cost
				} else {
					want = false
				}
				requests = append(requests, r)
			}
			taken, ok, _ := local.Take(context.Background(), time.UnixMilli(now), requests, make([]Decision, len(requests)))
			if ok != want {
				t.Fatalf("at %d %+v: admitted %v, want %v", now, requests, ok, want)
			}
			if ok && rapid.IntRange(0, 4).Draw(t, "refund") == 0 {
				taken.Refund()
			} else {
				m.admitted = append(m.admitted, taken.Takes()...)
			}
		}
		replayed := NewLocal(1_000_000, nil)
		for _, take := range m.admitted {
			replayed.Apply(take)
		}
		for _, r := range buckets {
			for _, l := range []*Local{local, replayed} {
				_, ok, _ := l.Take(context.Background(), time.UnixMilli(now), []Request{r}, make([]Decision, 1))
				if ok != m.fits(r, now, 0) {
					t.Fatalf("after replay the counters differ")
				}
			}
		}
	})
}

func TestRefusedCallTakesNothing(t *testing.T) {
	l, now := NewLocal(1_000_000, nil), time.UnixMilli(1_000_000_000)
	minute := Request{Bucket: tollkey.BucketID{9}, Limit: 12, Duration: time.Minute, Cost: 1}
	month := Request{Bucket: tollkey.BucketID{8}, Limit: 200, Duration: 720 * time.Hour, Cost: 1}
	decisions := make([]Decision, 2)
	for i := range 13 {
		_, ok, _ := l.Take(t.Context(), now, []Request{minute, month}, decisions)
		if ok != (i < 12) {
			t.Fatalf("call %d: %v", i, ok)
		}
	}
	if !decisions[0].Exceeded || decisions[1].Exceeded || decisions[1].Remaining != 188 {
		t.Errorf("the 13th call: %+v", decisions)
	}
}

func TestExactUnderConcurrency(t *testing.T) {
	l, now := NewLocal(1_000_000, nil), time.UnixMilli(1_000_000_000)
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			r := []Request{{Bucket: tollkey.BucketID{5}, Limit: 1000, Duration: time.Hour, Cost: 1}}
			d := make([]Decision, 1)
			for range 50 {
				if _, ok, _ := l.Take(context.Background(), now, r, d); ok {
					admitted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if admitted.Load() != 1000 {
		t.Errorf("%d admitted, want 1000", admitted.Load())
	}
}

func TestExpiredCountersAreFreed(t *testing.T) {
	l := NewLocal(1_000_000, nil)
	at := time.UnixMilli(1_000_000_000)
	for i := range 1000 {
		r := []Request{{Bucket: BucketFor("ws", "n", string(rune(i)), time.Second), Limit: 1, Duration: time.Second, Cost: 1}}
		_, _, _ = l.Take(t.Context(), at, r, make([]Decision, 1))
	}
	for i := range shardCount {
		r := []Request{{Bucket: tollkey.BucketID{byte(i)}, Limit: 1, Duration: time.Second, Cost: 1}}
		_, _, _ = l.Take(t.Context(), at.Add(2*time.Minute), r, make([]Decision, 1))
	}
	if n := l.Len(); n > shardCount {
		t.Errorf("%d counters are left", n)
	}
}

func BenchmarkTake(b *testing.B) {
	l, now := NewLocal(1_000_000, nil), time.Now()
	r := []Request{{Bucket: tollkey.BucketID{5}, Limit: 1 << 40, Duration: time.Hour, Cost: 1}}
	d := make([]Decision, 1)
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = l.Take(context.Background(), now, r, d)
	}
}
