package store

import (
	"context"
	"time"

	"github.com/tollkey/tollkey"
)

// Refills does what internal/refill has found to be due, and keeps how far it came. Several nodes may try at once: whoever is not where the store
// is does nothing.
type Refills interface {
	// RefillProgress returns what is stored. In a store that has none, refills are done up to today: nothing was missed.
	RefillProgress(ctx context.Context, today int64) (RefillProgress, error)
	// MoveRefill stores to in place of from, and nothing if from is not what is stored.
	MoveRefill(ctx context.Context, from, to RefillProgress) error
	// RefillSlice goes on with a slot for about s.Budget in one transaction, which also stores how far it came: a key is never visited twice in a run. It
	// refills the live keys of the slot that are below their amount or unlimited, sets UpdatedAt, and announces those that were unlimited: who
	// has them cached knows of no balance. A balance that was merely raised needs no announcement, since a spend reads it. When
	// the slot has no more keys, the next is stored. If s.From is not what is stored, it does nothing.
	RefillSlice(ctx context.Context, s RefillSlice) (refilled int64, err error)
}

// RefillProgress is how far refills have come. Days are counted from 1970-01-01 UTC.
type RefillProgress struct {
	Done  int64         // every refill up to and including this day is done
	Day   int64         // the run under way does those up to and including this day; Done when there is none
	Slot  int           // what it works on: 0 = daily refills, else the monthly ones of this day of the month
	After tollkey.KeyID // the last key of Slot that it visited
}

// RefillSlice is one transaction's work.
type RefillSlice struct {
	From   RefillProgress
	Slot   int           // From.Slot, or a later one to begin with
	Before time.Time     // when the refill was due: keys that were made later get none
	Now    time.Time     // becomes UpdatedAt
	Budget time.Duration // how long to hold the writer, about
}
