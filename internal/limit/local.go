package limit

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/tollkey/tollkey"
)

// shardCount is how many locks the counters share. A take holds those of its own buckets only, and never across I/O.
const shardCount = 256

// Local is the in-process Limiter: exact on one node. Counters whose two windows have passed are freed.
type Local struct {
	shards [shardCount]shard
}

type shard struct {
	mu       sync.Mutex
	counters map[tollkey.BucketID]*counter
	swept    int64 // Unix milliseconds of the last sweep
}

// counter is one bucket's state. A bucket belongs to one duration, which is part of its identity.
type counter struct {
	Window
	durationMillis int64
}

// NewLocal returns a Limiter that has admitted nothing. Before its first Take, Apply what earlier processes admitted.
func NewLocal() *Local {
	l := &Local{}
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
func (t Taken) Keep() {}

// Refund gives back what was taken, to the window from which it came.
func (t Taken) Refund() {
	for i := range t.takes {
		t.limiter.add(&t.takes[i], -t.takes[i].Cost)
	}
}

// Apply counts an admission of an earlier process again.
func (l *Local) Apply(t tollkey.Take) { l.add(&t, t.Cost) }

func (l *Local) add(t *tollkey.Take, cost int64) {
	s := l.shard(t.Bucket)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counter(t.Bucket, t.Duration.Milliseconds())
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
func (l *Local) Take(_ context.Context, now time.Time, requests []Request, decisions []Decision) (Taken, bool, error) {
	var room [8]int
	held := l.lock(requests, room[:0])
	defer l.unlock(held)
	nowMillis := now.UnixMilli()
	ok := true
	for i := range requests {
		ok = l.decide(requests, decisions, i, nowMillis) && ok
	}
	if !ok {
		for i := range requests {
			l.untake(&requests[i], &decisions[i])
		}
		return Taken{}, false, nil
	}
	taken := Taken{limiter: l}
	for i := range requests {
		if r := &requests[i]; r.Cost > 0 {
			if taken.takes == nil {
				taken.takes = make([]tollkey.Take, 0, len(requests))
			}
			window := l.shard(r.Bucket).counters[r.Bucket].Number
			taken.takes = append(taken.takes, tollkey.Take{Bucket: r.Bucket, Duration: r.Duration, Window: window, Cost: r.Cost})
		}
	}
	return taken, true, nil
}

// decide answers one request and, if it fits, takes it at once, so that a later request for the same bucket sees it.
func (l *Local) decide(requests []Request, decisions []Decision, i int, nowMillis int64) bool {
	r, d := &requests[i], &decisions[i]
	millis := r.Duration.Milliseconds()
	s := l.shard(r.Bucket)
	s.sweep(nowMillis)
	c := s.counter(r.Bucket, millis)
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
func (s *shard) counter(b tollkey.BucketID, millis int64) *counter {
	c := s.counters[b]
	if c == nil {
		c = &counter{durationMillis: millis}
		s.counters[b] = c
	}
	return c
}

// sweepEvery is how often a shard that is in use frees the counters whose two windows have passed.
const sweepEvery = 60_000

func (s *shard) sweep(nowMillis int64) {
	if nowMillis-s.swept < sweepEvery {
		return
	}
	s.swept = nowMillis
	for b, c := range s.counters {
		if (c.Number+2)*c.durationMillis <= nowMillis {
			delete(s.counters, b)
		}
	}
}

// Len returns how many counters are in memory.
func (l *Local) Len() int {
	n := 0
	for i := range l.shards {
		l.shards[i].mu.Lock()
		n += len(l.shards[i].counters)
		l.shards[i].mu.Unlock()
	}
	return n
}
