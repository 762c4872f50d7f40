package meter_test

import (
	"testing"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/meter"
)

func at(s string) int64 {
	t, err := time.Parse("2006-01-02T15", s)
	if err != nil {
		panic(err)
	}
	return t.UnixMilli()
}

// TestTablePagesMatchTheWhole reads a query row by row and as one page, with empty intervals, months of unequal length and groups.
func TestTablePagesMatchTheWhole(t *testing.T) {
	sums := []meter.Sum{
		{Start: at("2026-01-31T23"), API: "a", Key: "k1", Outcome: tollkey.OutcomeValid, Count: 3, Credits: 5},
		{Start: at("2026-02-01T00"), API: "a", Key: "k2", Outcome: tollkey.OutcomeRateLimited, Count: 2},
		{Start: at("2026-04-30T05"), API: "b", Key: "k3", Outcome: tollkey.OutcomeValid, Count: 1, Credits: 1},
	}
	for _, c := range []struct {
		name  string
		q     meter.Query
		rows  int
		first meter.Row
	}{
		{"total", meter.Query{}, 1, meter.Row{Count: 6, Valid: 4, Credits: 6}},
		{"months with empty ones", meter.Query{Interval: meter.IntervalMonth}, 4, meter.Row{Time: at("2026-01-01T00"), Count: 3, Valid: 3, Credits: 5}},
		{"days", meter.Query{Interval: meter.IntervalDay}, 90, meter.Row{Time: at("2026-01-31T00"), Count: 3, Valid: 3, Credits: 5}},
		{"by outcome", meter.Query{ByOutcome: true}, 2, meter.Row{Outcome: "RATE_LIMITED", Count: 2}},
		{"by key and day, no empty ones", meter.Query{ByKey: true, Interval: meter.IntervalDay}, 3, meter.Row{Time: at("2026-01-31T00"), Key: "k1", Count: 3, Valid: 3, Credits: 5}},
	} {
		c.q.From, c.q.To, c.q.Limit = at("2026-01-31T20"), at("2026-05-01T00"), 1000
		read := func(q meter.Query) []meter.Row {
			table := meter.NewTable(q)
			for i := range sums {
				table.Add(&sums[i])
			}
			return table.Page()
		}
		whole := read(c.q)
		if len(whole) != c.rows || whole[0] != c.first {
			t.Errorf("%s: %d rows from %+v, want %d from %+v", c.name, len(whole), whole[0], c.rows, c.first)
		}
		c.q.Limit = 1
		for i := range whole {
			page := read(c.q)
			if len(page) != 1 || page[0] != whole[i] {
				t.Fatalf("%s: page %d is %+v, want %+v", c.name, i, page, whole[i])
			}
			c.q.After = &page[0]
		}
		if page := read(c.q); len(page) != 0 {
			t.Errorf("%s: after the end: %+v", c.name, page)
		}
	}
}
