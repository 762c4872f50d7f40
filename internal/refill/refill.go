// Package refill decides which refills are due and works through them. A refill happens at 00:00 UTC, daily or on one day of the month, and
// on the last day of a month that has no such day. The store keeps the day up to which all is done: what was missed because no
// server ran is made up for at the next start, a step at a time, and each day once.
//
// It promises that a key gets every refill that fell due since it was made, several missed ones as one (they would set the same balance, since nobody
// could spend in between). It does not decide what a refill does to a key: that is the store's RefillSlice.
package refill

import (
	"context"
	"time"

	"github.com/tollkey/tollkey/internal/store"
)

// budget is how long one step may hold the store's writer, which the ledger waits for; a last chunk and the commit come on top.
const budget = 2 * time.Millisecond

// Day is a day of UTC, counted from 1970-01-01.
type Day int64

// DayOf is the day of t.
func DayOf(t time.Time) Day { return Day(t.Unix() / 86_400) }

// Start is when the day begins, and its refills are due.
func (d Day) Start() time.Time { return time.Unix(int64(d)*86_400, 0).UTC() }

// Due is a kind of refill that fell due: Slot is 0 for daily ones, or a day of the month.
type Due struct {
	Slot int
	Last Day // the last day on which it did
}

// DueBetween returns, ascending by slot, what fell due after the day done, up to and including today.
func DueBetween(done, today Day) []Due {
	const longest = 62 // any so many days hold a whole month, in which everything is due
	var last [32]Day
	for d := max(done+1, today-longest); d <= today; d++ {
		last[0] = d
		day := d.Start().Day()
		last[day] = d
		if (d + 1).Start().Day() == 1 {
			for missing := day + 1; missing <= 31; missing++ {
				last[missing] = d
			}
		}
	}
	var out []Due
	for slot, d := range last {
		if d != 0 {
			out = append(out, Due{slot, d})
		}
	}
	return out
}

// Step does one slice of what is due at now and returns the day up to which all was done before: call it again until that is today. Any number of
// nodes may do so at once, and be killed at it.
func Step(ctx context.Context, s store.Refills, now time.Time) (done Day, refilled int64, err error) {
	today := DayOf(now)
	p, err := s.RefillProgress(ctx, int64(today))
	if err != nil {
		return 0, 0, err
	}
	done = Day(p.Done)
	if p.Day == p.Done {
		if done >= today {
			return done, 0, nil
		}
		// The run keeps to its day, also when it is interrupted and goes on tomorrow: then another follows.
		return done, 0, s.MoveRefill(ctx, p, store.RefillProgress{Done: p.Done, Day: int64(today)})
	}
	for _, due := range DueBetween(done, Day(p.Day)) {
		if due.Slot >= p.Slot {
			refilled, err = s.RefillSlice(ctx, store.RefillSlice{From: p, Slot: due.Slot, Before: due.Last.Start(), Now: now, Budget: budget})
			return done, refilled, err
		}
	}
	return done, 0, s.MoveRefill(ctx, p, store.RefillProgress{Done: p.Day, Day: p.Day})
}
