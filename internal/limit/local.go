package limit

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tollkey/tollkey"
)

// shardCount is how many locks the counters share. A take holds those of its own buckets only, and never across I/O.
const shardCount = 256

// Local is the in-process Limiter: exact on one node. Counters whose two windows have passed are freed; beyond the capacity others spill,
// see spill.go.
type Local struct {
	shards   [shardCount]shard
	capacity int
	stored   Stored
	live     atomic.Int64
	// spilledUntil is when the last spilled counter stops to matter, Unix milliseconds. Until then a bucket without a counter is
	// looked up in stored before it is believed to be unused.
	spilledUntil atomic.Int64
	epoch        atomic.Int64
}

type shard struct {
	mu       sync.Mutex
	counters map[tollkey.BucketID]*counter
	swept    int64 // Unix milliseconds of the last sweep
	spills   int64 // how many counters have spilled: what was read before one may be out of date
}

// counter is one bucket's state. A bucket belongs to one duration, which is part of its identity.
type counter struct {
	Window
	durationMillis int64
	kept           int64 // the epoch of the last Keep
	pending        int32 // takes that are neither kept nor refunded yet
}

// NewLocal returns a Limiter that has admitted nothing. Before its first Take, Apply what earlier processes admitted. With stored nil
// nothing spills.
func NewLocal(capacity int, stored Stored) *Local {
	l := &Local{capacity: capacity, stored: stored}
	for i := range l.shards {
		l.shards[i].counters = map[tollkey.BucketID]*counter{}
	}
	return l
}

// Taken is what a Take has taken until it is known whether the event that carries it was committed. The zero value
// holds nothing.
type Taken struct {
	limiter *Local
	takes   []tollkey.Take
}

// Takes lists what was taken, for the event; requests of cost 0 are not among them.
func (t Taken) Takes() []tollkey.Take { return t.takes }

// Keep leaves what was taken as it is: the event was committed, or may have been.
func (t Taken) Keep() {
	for i := range t.takes {
		t.limiter.settle(&t.takes[i], 0)
	}
}

// Refund gives back what was taken, to the window from which it came.
func (t Taken) Refund() {
	for i := range t.takes {
		t.limiter.settle(&t.takes[i], -t.takes[i].Cost)
	}
}

func (l *Local) settle(t *tollkey.Take, change int64) {
	s := l.shard(t.Bucket)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counters[t.Bucket]
	if c == nil {
		return // freed: its windows have passed
	}
	c.pending--
	c.kept = l.epoch.Load()
	c.add(t, change)
}

func (c *counter) add(t *tollkey.Take, cost int64) {
	if t.Window > c.Number {
		c.Window = c.Advance(t.Window*c.durationMillis, c.durationMillis)
	}
	switch t.Window {
	case c.Number:
		c.Current = max(c.Current+cost, 0)
	case c.Number - 1:
		c.Previous = max(c.Previous+cost, 0)
	}
}

// Take implements Limiter.
func (l *Local) Take(ctx context.Context, now time.Time, requests []Request, decisions []Decision) (Taken, bool, error) {
	for {
		taken, ok, missing := l.take(now.UnixMilli(), requests, decisions)
		if missing == nil {
			return taken, ok, nil
		}
		if err := l.readBack(ctx, missing.Bucket, missing.Duration.Milliseconds()); err != nil {
			return Taken{}, false, err
		}
	}
}

// take decides, or names a request whose bucket must be read back first.
func (l *Local) take(nowMillis int64, requests []Request, decisions []Decision) (taken Taken, ok bool, missing *Request) {
	var room [8]int
	held := l.lock(requests, room[:0])
	defer l.unlock(held)
	if nowMillis < l.spilledUntil.Load() {
		for i := range requests {
			if l.shard(requests[i].Bucket).counters[requests[i].Bucket] == nil {
				return Taken{}, false, &requests[i]
			}
		}
	}
	ok = true
	for i := range requests {
		ok = l.decide(requests, decisions, i, nowMillis) && ok
	}
	if !ok {
		for i := range requests {
			l.untake(&requests[i], &decisions[i])
		}
		return Taken{}, false, nil
	}
	taken.limiter = l
	for i := range requests {
		if r := &requests[i]; r.Cost > 0 {
			if taken.takes == nil {
				taken.takes = make([]tollkey.Take, 0, len(requests))
			}
			c := l.shard(r.Bucket).counters[r.Bucket]
			c.pending++
			taken.takes = append(taken.takes, tollkey.Take{Bucket: r.Bucket, Duration: r.Duration, Window: c.Number, Cost: r.Cost})
		}
	}
	return taken, true, nil
}

// decide answers one request and, if it fits, takes it at once, so that a later request for the same bucket sees it.
func (l *Local) decide(requests []Request, decisions []Decision, i int, nowMillis int64) bool {
	r, d := &requests[i], &decisions[i]
	millis := r.Duration.Milliseconds()
	s := l.shard(r.Bucket)
	l.sweep(s, nowMillis)
	c := l.counter(s, r.Bucket, millis)
	c.Window = c.Advance(nowMillis, millis)
	effective := c.Effective(nowMillis, millis)
	*d = Decision{Reset: time.UnixMilli(c.ResetMillis(millis))}
	if d.Exceeded = !Admits(effective, r.Cost, r.Limit); d.Exceeded {
		return false
	}
	c.Current += r.Cost
	d.Remaining = r.Limit - effective - r.Cost
	return true
}

// untake gives a passing request of a refused call back and reports what remains without it.
func (l *Local) untake(r *Request, d *Decision) {
	if d.Exceeded {
		return
	}
	l.shard(r.Bucket).counters[r.Bucket].Current -= r.Cost
	d.Remaining += r.Cost
}

// lock takes the locks of all buckets of a call, each once and in ascending order, so that no two calls wait for each other.
func (l *Local) lock(requests []Request, held []int) []int {
	for i := range requests {
		if n := shardOf(requests[i].Bucket); !slices.Contains(held, n) {
			held = append(held, n)
		}
	}
	slices.Sort(held)
	for _, n := range held {
		l.shards[n].mu.Lock()
	}
	return held
}

func (l *Local) unlock(held []int) {
	for _, n := range held {
		l.shards[n].mu.Unlock()
	}
}

func shardOf(b tollkey.BucketID) int { return int(b[0]) }

func (l *Local) shard(b tollkey.BucketID) *shard { return &l.shards[shardOf(b)] }

// counter returns the bucket's counter, new at window 0 where there is none. The shard's lock is held.
func (l *Local) counter(s *shard, b tollkey.BucketID, millis int64) *counter {
	c := s.counters[b]
	if c == nil {
		c = &counter{durationMillis: millis, kept: l.epoch.Load()}
		s.counters[b] = c
		l.live.Add(1)
	}
	return c
}

// sweepEvery is how often a shard that is in use frees the counters whose two windows have passed.
const sweepEvery = 60_000

func (l *Local) sweep(s *shard, nowMillis int64) {
	if nowMillis-s.swept < sweepEvery {
		return
	}
	s.swept = nowMillis
	for b, c := range s.counters {
		if c.expiresMillis() <= nowMillis {
			delete(s.counters, b)
			l.live.Add(-1)
		}
	}
}

func (c *counter) expiresMillis() int64 { return (c.Number + 2) * c.durationMillis }

// Len returns how many counters are in memory.
func (l *Local) Len() int { return int(l.live.Load()) }
