// Package meter turns recorded events into usage: hourly roll-ups per key and outcome, written exactly once, and the queries over
// them. The roller (one at a time in a deployment, elected by a lease) reads the ledger's batches, adds them up, writes the sums
// together with the last batch of each boot, and only then lets the ledger forget the batches; a batch at or below that mark is
// never added again.
//
// It promises that the sums equal the events that were acknowledged, and lags behind them by about a second. It does not keep single events.
package meter

import (
	"context"

	"github.com/tollkey/tollkey"
)

// HourMillis is the width of a roll-up.
const HourMillis = 3_600_000

// Sum is what happened to one key with one outcome in one hour.
type Sum struct {
	Workspace tollkey.WorkspaceID
	Hour      int64 // the hour's start, Unix milliseconds
	API       tollkey.APIID
	Key       tollkey.KeyID
	Identity  tollkey.IdentityID
	Outcome   tollkey.Outcome
	Count     int64
	Credits   int64
}

// Store keeps roll-ups. Its writes never wait for, nor delay, the ledger's on SQLite: they live in a file of their own.
type Store interface {
	// Marks returns the last batch that is rolled up, per boot.
	Marks(ctx context.Context) (map[int64]int64, error)
	// AddSums adds sums to the roll-ups and moves the marks forward to upTo (boot → seq), in one transaction. It fails,
	// writing nothing, when a mark is not what the caller read (another roller was faster).
	AddSums(ctx context.Context, from, upTo map[int64]int64, sums []Sum) error
	// Usage answers a query; rows are ordered by time, then by the group fields, and start after q.After.
	Usage(ctx context.Context, q Query) ([]Row, error)
}

// Interval is the width of the rows of a query.
type Interval string

// The intervals; "" gives one total per group.
const (
	IntervalNone  Interval = ""
	IntervalHour  Interval = "hour"
	IntervalDay   Interval = "day"
	IntervalMonth Interval = "month"
)

// Query asks for usage in [From, To), Unix milliseconds, both at whole hours.
type Query struct {
	Workspace tollkey.WorkspaceID
	From, To  int64
	Interval  Interval
	ByKey     bool
	ByAPI     bool
	ByOutcome bool
	// Filters; "" = any.
	API     tollkey.APIID
	Key     tollkey.KeyID
	Outcome *tollkey.Outcome
	Limit   int
	After   *Row // the last row of the page before
}

// Row is one line of an answer. Fields that the query did not group by are empty.
type Row struct {
	Time    int64 // start of the interval, Unix milliseconds UTC; 0 without interval
	API     tollkey.APIID
	Key     tollkey.KeyID
	Outcome string
	Count   int64 // verifications
	Valid   int64 // those with VALID
	Credits int64
}
