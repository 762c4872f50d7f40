// Package meter turns recorded events into usage: roll-ups by minute and by hour, per key and outcome, written exactly once, and the queries over
// them. The roller (one at a time in a deployment, elected by a lease) reads the ledger's batches, adds them up, writes the sums
// together with the last batch of each boot, and only then lets the ledger forget the batches; a batch at or below that mark is
// never added again.
//
// It promises that the sums equal the events that were acknowledged, and lags behind them by about a second. It does not keep single events.
package meter

import (
	"context"
	"time"

	"github.com/tollkey/tollkey"
)

// The widths of roll-ups, in milliseconds.
const (
	MinuteMillis = 60_000
	HourMillis   = 3_600_000
)

// KeepMinutes is how long roll-ups by minute are kept; those by hour stay.
const KeepMinutes = 7 * 24 * time.Hour

// Sum is what happened to one key with one outcome in one minute, or in the answer to a query of a wider interval, in one hour.
type Sum struct {
	Workspace tollkey.WorkspaceID
	Start     int64 // of the minute or hour, Unix milliseconds
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
	// PruneMinutes deletes up to limit roll-ups by minute that began before the time given, Unix milliseconds, and reports how many.
	PruneMinutes(ctx context.Context, before int64, limit int) (int, error)
	// Usage answers a query; rows are ordered by time, then by the group fields, and start after q.After.
	Usage(ctx context.Context, q Query) ([]Row, error)
}

// Interval is the width of the rows of a query.
type Interval string

// The intervals; "" gives one total per group.
const (
	IntervalNone   Interval = ""
	IntervalMinute Interval = "minute" // of the last days only: see KeepMinutes
	IntervalHour   Interval = "hour"
	IntervalDay    Interval = "day"
	IntervalMonth  Interval = "month"
)

// Query asks for usage in [From, To), Unix milliseconds, both at whole minutes with IntervalMinute, and at whole hours otherwise.
type Query struct {
	Workspace tollkey.WorkspaceID
	From, To  int64
	Interval  Interval
	ByKey     bool
	ByAPI     bool
	ByOutcome bool
	// Filters; "" = any.
	API      tollkey.APIID
	Key      tollkey.KeyID
	Identity tollkey.IdentityID
	Outcome  *tollkey.Outcome
	Limit    int
	After    *Row // the last row of the page before
}

// Align sets From and To so that the range is covered by whole intervals of the roll-ups.
func (q *Query) Align(from, to int64) {
	width := int64(HourMillis)
	if q.Interval == IntervalMinute {
		width = MinuteMillis
	}
	q.From, q.To = from-from%width, (to+width-1)/width*width
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
