package limit

import (
	"context"

	"github.com/tollkey/tollkey"
)

// Stored knows what was admitted and is no longer only in memory: the ledger's counters, into which the roller folds every committed take.
type Stored interface {
	// Admitted returns one Take per window of the bucket that is still of use, Cost being all that was taken in it.
	Admitted(ctx context.Context, b tollkey.BucketID) ([]tollkey.Take, error)
}

// Spilling works in rounds, since a counter may leave memory only when every take in it is in the store:
//
//	epoch := l.NextEpoch()   // from here on, a Keep belongs to the next epoch
//	...                      // wait until all that was committed by now is folded into the store
//	l.Spill(epoch, now)      // drop what was last kept in that epoch or before, and has nothing pending
//
// A dropped counter is read back when its bucket is next asked for.

// Crowded reports whether there are more counters than the capacity, so that a round of spilling is due.
func (l *Local) Crowded() bool { return l.stored != nil && l.Len() > l.capacity }

// NextEpoch begins a new epoch and returns the one that has ended.
func (l *Local) NextEpoch() int64 { return l.epoch.Add(1) - 1 }

// Spill drops counters that were last used in epoch or before until a tenth of the capacity is free, and returns how many it dropped. Every take that
// was kept by the end of epoch must be in the store by now.
func (l *Local) Spill(epoch, nowMillis int64) int {
	dropped := 0
	for i := range l.shards {
		dropped += l.spillShard(&l.shards[i], epoch, nowMillis)
		if l.Len() <= l.capacity-l.capacity/10 {
			break
		}
	}
	return dropped
}

func (l *Local) spillShard(s *shard, epoch, nowMillis int64) (dropped int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A tenth more than the shard's even share goes, so that no shard is emptied for the others.
	excess := len(s.counters) - (l.capacity-l.capacity/10)/shardCount
	for b, c := range s.counters {
		if excess <= 0 {
			break
		}
		if c.pending > 0 || c.kept > epoch {
			continue
		}
		l.spilled(c.expiresMillis())
		delete(s.counters, b)
		l.live.Add(-1)
		s.spills++
		dropped++
		excess--
	}
	return dropped
}

// spilled remembers, before the counter goes, until when a missing counter must be looked up.
func (l *Local) spilled(untilMillis int64) {
	for {
		have := l.spilledUntil.Load()
		if untilMillis <= have || l.spilledUntil.CompareAndSwap(have, untilMillis) {
			return
		}
	}
}

// readBack makes the counter of a bucket from what is stored. It may leave the bucket without one when others were faster; then the caller looks again.
func (l *Local) readBack(ctx context.Context, b tollkey.BucketID, durationMillis int64) error {
	s := l.shard(b)
	s.mu.Lock()
	spills := s.spills
	s.mu.Unlock()
	takes, err := l.stored.Admitted(ctx, b)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spills != spills || s.counters[b] != nil {
		return nil // a counter may have come, counted and gone since the read
	}
	c := l.counter(s, b, durationMillis)
	for i := range takes {
		c.add(&takes[i], takes[i].Cost)
	}
	return nil
}

// Apply counts an admission of an earlier process again. What does not fit in the capacity is left to the store, which must hold it.
func (l *Local) Apply(t tollkey.Take) {
	s := l.shard(t.Bucket)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counters[t.Bucket] == nil && l.stored != nil && l.Len() >= l.capacity {
		l.spilled((t.Window + 2) * t.Duration.Milliseconds())
		return
	}
	l.counter(s, t.Bucket, t.Duration.Milliseconds()).add(&t, t.Cost)
}

// ApplyUnstored counts an admission of an earlier process that the store's counters do not hold yet.
func (l *Local) ApplyUnstored(ctx context.Context, t tollkey.Take) error {
	s := l.shard(t.Bucket)
	s.mu.Lock()
	missing := s.counters[t.Bucket] == nil
	s.mu.Unlock()
	if missing && l.spilledUntil.Load() > 0 {
		if err := l.readBack(ctx, t.Bucket, t.Duration.Milliseconds()); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.counter(s, t.Bucket, t.Duration.Milliseconds()).add(&t, t.Cost)
	return nil
}
