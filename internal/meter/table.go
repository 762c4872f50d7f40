package meter

import (
	"fmt"
	"slices"
	"time"

	"github.com/tollkey/tollkey"
)

// Table adds sums up to the rows of one query. It is pure, so that every back end groups and pages alike.
type Table struct {
	q      Query
	groups map[string]*Row
}

// NewTable returns an empty table for q.
func NewTable(q Query) *Table { return &Table{q, map[string]*Row{}} }

// Add counts a sum, which must fit the query's range and filters.
func (t *Table) Add(s *Sum) {
	r := Row{Time: start(s.Start, t.q.Interval), Count: s.Count, Credits: s.Credits}
	if s.Outcome == tollkey.OutcomeValid {
		r.Valid = s.Count
	}
	if t.q.ByOutcome {
		r.Outcome = s.Outcome.String()
	}
	if t.q.ByAPI {
		r.API = s.API
	}
	if t.q.ByKey {
		r.Key = s.Key
	}
	k := r.order()
	if have := t.groups[k]; have != nil {
		have.Count += r.Count
		have.Valid += r.Valid
		have.Credits += r.Credits
		return
	}
	t.groups[k] = &r
}

// Page returns the rows after the query's After, at most Limit. Without groups, an interval in which nothing happened is a row of zeros.
func (t *Table) Page() []Row {
	after := ""
	if t.q.After != nil {
		after = t.q.After.order()
	}
	if t.q.Interval != IntervalNone && !t.q.ByAPI && !t.q.ByKey && !t.q.ByOutcome {
		t.addZeros()
	}
	keys := make([]string, 0, len(t.groups))
	for k := range t.groups {
		if k > after {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	keys = keys[:min(len(keys), t.q.Limit)]
	out := make([]Row, len(keys))
	for i, k := range keys {
		out[i] = *t.groups[k]
	}
	return out
}

// addZeros adds the empty intervals of this page only, so that a range of a century costs no more than its page.
func (t *Table) addZeros() {
	at := start(t.q.From, t.q.Interval)
	if t.q.After != nil {
		at = max(at, next(t.q.After.Time, t.q.Interval)) // a cursor is input
	}
	for range t.q.Limit {
		if at >= t.q.To {
			return
		}
		r := Row{Time: at}
		if k := r.order(); t.groups[k] == nil {
			t.groups[k] = &r
		}
		at = next(at, t.q.Interval)
	}
}

// order is the row's place among all rows.
func (r *Row) order() string {
	return fmt.Sprintf("%016d\x00%s\x00%s\x00%s", r.Time, r.API, r.Key, r.Outcome)
}

// Times lists the starts of all intervals of the query; there must be an interval.
func (q *Query) Times() (out []int64) {
	for at := start(q.From, q.Interval); at < q.To; at = next(at, q.Interval) {
		out = append(out, at)
	}
	return out
}

func start(at int64, interval Interval) int64 {
	t := time.UnixMilli(at).UTC()
	switch interval {
	case IntervalMinute, IntervalHour:
		return at
	case IntervalDay:
		return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC).UnixMilli()
	case IntervalMonth:
		return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	}
	return 0
}

func next(at int64, interval Interval) int64 {
	t := time.UnixMilli(at).UTC()
	switch interval {
	case IntervalMinute:
		t = t.Add(time.Minute)
	case IntervalDay:
		t = t.AddDate(0, 0, 1)
	case IntervalMonth:
		t = t.AddDate(0, 1, 0)
	default:
		t = t.Add(time.Hour)
	}
	return t.UnixMilli()
}
