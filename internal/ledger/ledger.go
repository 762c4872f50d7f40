// Package ledger commits what verifications cost: credits are spent and the usage event is recorded in one transaction
// that many callers share (group commit).
//
// It promises: an acknowledged Commit is durable as configured; a balance never goes below zero; a spend is admitted only
// if every balance that it names has enough, in the order of arrival; nothing is spent twice, also when the answer to a
// COMMIT is lost; a full queue makes callers wait and never drops. It does not retry forever: when the store cannot be
// asked before the caller's context ends, the caller gets an error and nothing was spent, or the batch was committed and
// counted although its answer could not be given.
package ledger

import (
	"context"
	"time"

	"github.com/tollkey/tollkey"
)

// Entry is one caller's commit: an event, and the spends on which it depends.
type Entry struct {
	Event tollkey.Event
	// Spends must all be admitted for the event to stand as it is. If one is refused, the event is recorded with
	// OutcomeUsageExceeded, no credits and no takes.
	Spends []tollkey.Spend
}

// Result is what became of an Entry.
type Result struct {
	// Admitted is true when every spend was.
	Admitted bool
	// Missing means that a balance does not exist (any more): nothing was spent or recorded, and the caller's picture of the
	// key is out of date.
	Missing bool
	// Remaining is the balance of each spend after this entry, in the order of Spends; of a refused entry, what was there.
	Remaining []int64
}

// BatchID names one transaction of one committer. Seq counts up by one within a Boot, and the next batch of a Boot is not
// begun before the outcome of the one before is known.
type BatchID struct {
	Boot int64 // random, from 1 to MaxBoot; one per lane of a committer and start, and another when MaxSeq is reached
	Seq  int64 // from 1 to MaxSeq
}

// The bounds of a BatchID, with which a store can keep it in one 63-bit number: a single narrow key makes a commit a third cheaper.
const (
	MaxSeq  = 1<<23 - 1
	MaxBoot = 1<<40 - 1
)

// Batch is a committed transaction's events as they are stored until they are rolled up.
type Batch struct {
	ID   BatchID
	Data []byte // see Encode
}

// Settlement is what the transaction writes.
type Settlement struct {
	Balances map[tollkey.BalanceID]int64 // the new values of those that changed
	Data     []byte                      // the batch row; empty = no row
}

// Store is what the committer and the roller need of the durable store.
type Store interface {
	// Settle runs one transaction: it locks and reads the balances (distinct, ascending; may be empty, then nothing is
	// locked), calls settle with those that exist, writes what settle returns, inserts the batch row and commits. settle may be
	// called again after a conflict; it must be a pure function of its argument. It is the store's most urgent work. A batch that
	// was committed before is a conflict, also when it has been rolled up since.
	Settle(ctx context.Context, id BatchID, balances []tollkey.BalanceID, settle func(map[tollkey.BalanceID]int64) Settlement) error
	// Committed reports whether the batch was committed, also when it has been rolled up since. It uses a connection that
	// had no part in the failed commit.
	Committed(ctx context.Context, id BatchID) (bool, error)
	// Balance reads one balance; ok is false when there is none.
	Balance(ctx context.Context, id tollkey.BalanceID) (remaining int64, ok bool, err error)
	// Batches returns up to limit stored batches, by boot and seq.
	Batches(ctx context.Context, limit int) ([]Batch, error)
	// Fold adds the takes to the stored counters and deletes the batches up to and including upTo of each boot, in one transaction that
	// remembers upTo (so that Committed stays true). It fails, writing nothing, when these are not exactly the given number of batches: then
	// another roller was faster. It reports for how long it kept commits waiting; 0 where they go on beside it.
	Fold(ctx context.Context, upTo map[int64]int64, batches int, counters []Counter) (held time.Duration, err error)
	// Counters calls counter with every stored counter that is still of use at now (Unix milliseconds) and after them batch with every stored batch, all of one
	// snapshot: together they are every admission that was ever acknowledged. It keeps none of them in memory. The calls must not use the store.
	Counters(ctx context.Context, nowMillis int64, counter func(Counter), batch func(Batch) error) error
	// Counter reads the stored counters of one bucket, all windows.
	Counter(ctx context.Context, bucket tollkey.BucketID) ([]Counter, error)
	// PruneCounters deletes up to limit counters that are of no use at now, fewer where others would wait too long, and reports how many.
	PruneCounters(ctx context.Context, nowMillis int64, limit int) (int, error)
	// OldestBatch returns the lowest stored Seq of a boot; ok is false when none is stored.
	OldestBatch(ctx context.Context, boot int64) (seq int64, ok bool, err error)
}

// Counter is what was admitted from a bucket in one window, as far as it is rolled up.
type Counter struct {
	Bucket         tollkey.BucketID
	DurationMillis int64
	Window         int64
	Used           int64
}

// ExpiresMillis is when the counter is of no use any more: two windows after its own began.
func (c Counter) ExpiresMillis() int64 { return (c.Window + 2) * c.DurationMillis }
