package meter

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/ledger"
)

// What a pass may take on, batches and counters together, is measured: less after one that kept the ledger waiting for longer than passFor.
const (
	passFor   = 3 * time.Millisecond
	leastWork = 32
	firstWork = 128
	mostWork  = 1024
)

// Roller moves batches into roll-ups and counters. One may run at a time; should two, the marks let only one add.
type Roller struct {
	Ledger ledger.Store
	Usage  Store
	// Used, if set, is told of every key that an event is about, whatever its outcome.
	Used func(key tollkey.KeyID, at time.Time)
	work int // of the next pass; 0 = the first
}

// Roll makes one pass and reports how many batches it moved; 0 means that nothing was left. It may be stopped at
// any point: the sums and the marks are written together, and the counters are written with the deletion of the batches.
func (r *Roller) Roll(ctx context.Context) (int, error) {
	if r.work == 0 {
		r.work = firstWork
	}
	batches, err := r.Ledger.Batches(ctx, r.work)
	if err != nil || len(batches) == 0 {
		return 0, err
	}
	marks, err := r.Usage.Marks(ctx)
	if err != nil {
		return 0, err
	}
	upTo, sums, counters := map[int64]int64{}, map[Sum]*Sum{}, map[ledger.Counter]int64{}
	fresh := map[int64]int64{}
	for i, b := range batches {
		if i > 0 && i+len(counters) >= r.work {
			batches = batches[:i]
			break
		}
		events, err := ledger.Decode(b.Data)
		if err != nil {
			return 0, fmt.Errorf("batch %d of boot %d: %w", b.ID.Seq, b.ID.Boot, err)
		}
		upTo[b.ID.Boot] = b.ID.Seq
		addTakes(counters, events)
		r.noteUses(events)
		if b.ID.Seq > marks[b.ID.Boot] {
			fresh[b.ID.Boot] = b.ID.Seq
			addSums(sums, events)
		}
	}
	if len(fresh) > 0 {
		list := make([]Sum, 0, len(sums))
		for s := range maps.Values(sums) {
			list = append(list, *s)
		}
		if err := r.Usage.AddSums(ctx, marks, fresh, list); err != nil {
			return 0, err
		}
	}
	folded := make([]ledger.Counter, 0, len(counters))
	for c, used := range counters {
		c.Used = used
		folded = append(folded, c)
	}
	held, err := r.Ledger.Fold(ctx, upTo, len(batches), folded)
	if err != nil {
		return 0, err
	}
	r.adapt(held)
	return len(batches), nil
}

// adapt sizes the next pass by how long this one kept the ledger waiting.
func (r *Roller) adapt(held time.Duration) {
	switch {
	case held > passFor:
		r.work = max(r.work/2, leastWork)
	case held < passFor/2:
		r.work = min(r.work*5/4, mostWork)
	}
}

func (r *Roller) noteUses(events []tollkey.Event) {
	if r.Used == nil {
		return
	}
	for i := range events {
		if key := events[i].Key; key != "" {
			r.Used(key, events[i].Time)
		}
	}
}

func addSums(sums map[Sum]*Sum, events []tollkey.Event) {
	for i := range events {
		e := &events[i]
		if e.Kind != tollkey.EventVerification {
			continue
		}
		at := e.Time.UnixMilli()
		group := Sum{Workspace: e.Workspace, Start: at - at%MinuteMillis, API: e.API, Key: e.Key, Identity: e.Identity, Outcome: e.Outcome}
		s := sums[group]
		if s == nil {
			fresh := group
			s = &fresh
			sums[group] = s
		}
		s.Count += e.Count
		s.Credits += e.Credits
	}
}

func addTakes(counters map[ledger.Counter]int64, events []tollkey.Event) {
	for i := range events {
		for _, t := range events[i].Takes {
			counters[ledger.Counter{Bucket: t.Bucket, DurationMillis: t.Duration.Milliseconds(), Window: t.Window}] += t.Cost
		}
	}
}
