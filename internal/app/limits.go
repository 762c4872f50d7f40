package app

import (
	"context"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/ledger"
	"github.com/tollkey/tollkey/internal/limit"
)

// storedTakes shows the ledger's counters to the limiter.
type storedTakes struct{ ledger ledger.Store }

// Admitted implements limit.Stored.
func (s storedTakes) Admitted(ctx context.Context, b tollkey.BucketID) ([]tollkey.Take, error) {
	counters, err := s.ledger.Counter(ctx, b)
	if err != nil {
		return nil, err
	}
	takes := make([]tollkey.Take, len(counters))
	for i := range counters {
		takes[i] = takeOf(counters[i])
	}
	return takes, nil
}

func takeOf(c ledger.Counter) tollkey.Take {
	return tollkey.Take{Bucket: c.Bucket, Duration: time.Duration(c.DurationMillis) * time.Millisecond, Window: c.Window, Cost: c.Used}
}

// restore applies every admission that was ever acknowledged and still matters.
func restore(ctx context.Context, db ledger.Store, limits *limit.Local) error {
	var late []tollkey.Take
	err := db.Counters(ctx, time.Now().UnixMilli(), func(c ledger.Counter) { limits.Apply(takeOf(c)) }, func(b ledger.Batch) error {
		events, err := ledger.Decode(b.Data)
		for i := range events {
			late = append(late, events[i].Takes...)
		}
		return err
	})
	for _, t := range late { // outside the snapshot, since it may read
		if err == nil {
			err = limits.ApplyUnstored(ctx, t)
		}
	}
	return err
}

// spiller drops counters from memory once the store holds them. It is used by one goroutine.
type spiller struct {
	limits *limit.Local
	ledger ledger.Store
	last   func() []ledger.BatchID // the last batch begun, per lane
	epoch  int64
	marks  []ledger.BatchID // what must be folded before epoch may spill; nil = no round is under way
}

// step begins a round when memory is crowded, or ends the one under way when all that was committed before it is folded.
func (s *spiller) step(ctx context.Context) error {
	if s.marks == nil {
		if s.limits.Crowded() {
			s.epoch, s.marks = s.limits.NextEpoch(), s.last()
		}
		return nil
	}
	for _, mark := range s.marks {
		oldest, any, err := s.ledger.OldestBatch(ctx, mark.Boot)
		if err != nil || (any && oldest <= mark.Seq) {
			return err
		}
	}
	s.limits.Spill(s.epoch, time.Now().UnixMilli())
	s.marks = nil
	return nil
}
