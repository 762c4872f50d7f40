package conformance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/ledger"
	"github.com/tollkey/tollkey/internal/meter"
)

// Meter proves an implementation of meter.Store. open makes an empty one for one test, and an empty ledger to roll up from.
func Meter(t *testing.T, open func(t *testing.T) (meter.Store, ledger.Store)) {
	for name, test := range map[string]func(*testing.T, meter.Store, ledger.Store){
		"Marks":      marks,
		"Usage":      usage,
		"UsagePages": usagePages,
		"Roller":     roller,
		"Rollers":    rollers,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, l := open(t)
			test(t, s, l)
		})
	}
}

// hour is the start of a whole hour: 2026-09-21, 14:00 UTC.
var hour = time.Date(2026, 9, 21, 14, 0, 0, 0, time.UTC).UnixMilli()

const dayMillis = 24 * meter.HourMillis

func sum(at int64, key tollkey.KeyID, outcome tollkey.Outcome, count int64) meter.Sum {
	return meter.Sum{Workspace: ws, Start: at, API: "api_1", Key: key, Outcome: outcome, Count: count, Credits: 2 * count}
}

// total is what all rows of the workspace say.
func total(t *testing.T, s meter.Store) (r meter.Row) {
	t.Helper()
	rows, err := s.Usage(t.Context(), meter.Query{Workspace: ws, To: 2 * hour, Limit: 2})
	if err != nil || len(rows) > 1 {
		t.Fatalf("%+v %v", rows, err)
	}
	if len(rows) == 1 {
		r = rows[0]
	}
	return r
}

// marks: sums are added once or not at all, whoever else adds.
func marks(t *testing.T, s meter.Store, _ ledger.Store) {
	ctx := t.Context()
	wantMarks := func(want map[int64]int64) {
		t.Helper()
		if got, err := s.Marks(ctx); err != nil || !maps.Equal(got, want) {
			t.Errorf("marks %v, want %v: %v", got, want, err)
		}
	}
	wantMarks(map[int64]int64{})
	one := []meter.Sum{sum(hour, "key_1", tollkey.OutcomeValid, 1)}
	if err := s.AddSums(ctx, map[int64]int64{}, map[int64]int64{1: 5, 2: 3}, one); err != nil {
		t.Fatal(err)
	}
	if err := s.AddSums(ctx, map[int64]int64{1: 5, 2: 3}, map[int64]int64{1: 6}, one); err != nil {
		t.Fatal(err)
	}
	wantMarks(map[int64]int64{1: 6, 2: 3})
	for _, c := range []struct{ from, upTo map[int64]int64 }{
		{map[int64]int64{1: 5, 2: 3}, map[int64]int64{1: 7}},
		{map[int64]int64{}, map[int64]int64{1: 7}},
		{map[int64]int64{1: 5, 2: 3}, map[int64]int64{2: 9, 3: 1, 1: 7}},
	} {
		if err := s.AddSums(ctx, c.from, c.upTo, one); err == nil {
			t.Errorf("%+v was added", c)
		}
	}
	wantMarks(map[int64]int64{1: 6, 2: 3})
	if r := total(t, s); r.Count != 2 || r.Valid != 2 || r.Credits != 4 {
		t.Errorf("%+v", r)
	}
}

// fill adds what usage and usagePages ask for.
func fill(t *testing.T, s meter.Store) {
	t.Helper()
	other := sum(hour, "key_3", tollkey.OutcomeValid, 1000)
	other.Workspace = foreign
	second := sum(hour+dayMillis, "key_2", tollkey.OutcomeValid, 100)
	second.API = "api_2"
	err := s.AddSums(t.Context(), nil, map[int64]int64{1: 1}, []meter.Sum{
		sum(hour, "key_1", tollkey.OutcomeValid, 1), sum(hour, "key_1", tollkey.OutcomeRateLimited, 10), sum(hour+meter.HourMillis, "key_1", tollkey.OutcomeValid, 5),
		second, other,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// lines writes rows as "time in hours since hour, api, key, outcome, count/valid/credits".
func lines(rows []meter.Row) string {
	out := make([]string, len(rows))
	for i, r := range rows {
		at := int64(0)
		if r.Time != 0 {
			at = (r.Time - hour) / meter.HourMillis
		}
		out[i] = strings.Join(strings.Fields(fmt.Sprintf("%d %s %s %s %d/%d/%d", at, r.API, r.Key, r.Outcome, r.Count, r.Valid, r.Credits)), " ")
	}
	return strings.Join(out, "; ")
}

func usage(t *testing.T, s meter.Store, _ ledger.Store) {
	fill(t, s)
	refused := tollkey.OutcomeRateLimited
	week := meter.Query{Workspace: ws, From: hour, To: hour + 7*dayMillis, Limit: 100}
	for _, c := range []struct {
		change func(q *meter.Query)
		want   string
	}{
		{func(*meter.Query) {}, "0 116/106/232"},
		{func(q *meter.Query) { q.To = hour + meter.HourMillis }, "0 11/1/22"},
		{func(q *meter.Query) { q.From = hour + meter.HourMillis }, "0 105/105/210"},
		{func(q *meter.Query) { q.Workspace = "ws_9" }, ""},
		{func(q *meter.Query) { q.ByKey = true }, "0 key_1 16/6/32; 0 key_2 100/100/200"},
		{func(q *meter.Query) { q.ByAPI = true }, "0 api_1 16/6/32; 0 api_2 100/100/200"},
		{func(q *meter.Query) { q.ByOutcome = true }, "0 RATE_LIMITED 10/0/20; 0 VALID 106/106/212"},
		{func(q *meter.Query) { q.Key = "key_1" }, "0 16/6/32"},
		{func(q *meter.Query) { q.API = "api_2" }, "0 100/100/200"},
		{func(q *meter.Query) { q.Outcome = &refused }, "0 10/0/20"},
		{func(q *meter.Query) { q.Key, q.API = "key_1", "api_2" }, ""},
		{func(q *meter.Query) { q.Interval, q.To = meter.IntervalHour, hour+3*meter.HourMillis }, "0 11/1/22; 1 5/5/10; 2 0/0/0"},
		{func(q *meter.Query) { q.Interval, q.ByKey = meter.IntervalDay, true }, "-14 key_1 16/6/32; 10 key_2 100/100/200"},
		{func(q *meter.Query) { q.Interval, q.ByAPI = meter.IntervalMonth, true }, "-494 api_1 16/6/32; -494 api_2 100/100/200"},
	} {
		q := week
		c.change(&q)
		if rows, err := s.Usage(t.Context(), q); err != nil || lines(rows) != c.want {
			t.Errorf("%+v\n got %s\nwant %s: %v", q, lines(rows), c.want, err)
		}
	}
}

// usagePages: pages one after another are the whole.
func usagePages(t *testing.T, s meter.Store, _ ledger.Store) {
	fill(t, s)
	q := meter.Query{Workspace: ws, From: hour, To: hour + 2*dayMillis, Interval: meter.IntervalHour, ByKey: true, ByOutcome: true, Limit: 100}
	whole, err := s.Usage(t.Context(), q)
	if err != nil || len(whole) != 4 {
		t.Fatalf("%+v %v", whole, err)
	}
	var paged []meter.Row
	q.Limit = 1
	for {
		page, err := s.Usage(t.Context(), q)
		if err != nil || len(page) > 1 {
			t.Fatalf("%+v %v", page, err)
		}
		if len(page) == 0 {
			break
		}
		paged, q.After = append(paged, page...), &page[0]
	}
	if lines(paged) != lines(whole) {
		t.Errorf("%s\n%s", lines(paged), lines(whole))
	}
}

// record stores batches of one event each, which take one from bucket 1.
func record(t *testing.T, l ledger.Store, boot int64, batches int64) {
	t.Helper()
	for seq := range batches {
		e := spendOne().Event
		data := ledger.Encode(nil, []*tollkey.Event{&e})
		err := l.Settle(t.Context(), ledger.BatchID{Boot: boot, Seq: seq + 1}, nil, func(map[tollkey.BalanceID]int64) ledger.Settlement {
			return ledger.Settlement{Data: data}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// wantRolled wants n events in the usage and in the counters, and no batch.
func wantRolled(t *testing.T, s meter.Store, l ledger.Store, n int64) {
	t.Helper()
	got, err := l.Counter(t.Context(), tollkey.BucketID{1})
	r := total(t, s)
	if err != nil || len(got) != 1 || got[0].Used != n || r.Count != n || r.Credits != n {
		t.Errorf("%+v %+v %v", got, r, err)
	}
	wantBatches(t, l, 9, "[]")
}

// dying is a ledger whose roller dies between its two transactions.
type dying struct{ ledger.Store }

var errDied = errors.New("died")

func (dying) Fold(context.Context, map[int64]int64, int, []ledger.Counter) (time.Duration, error) {
	return 0, errDied
}

// roller: what a roller that died had added is not added again.
func roller(t *testing.T, s meter.Store, l ledger.Store) {
	record(t, l, 1, 3)
	if _, err := (&meter.Roller{Ledger: dying{l}, Usage: s}).Roll(t.Context()); !errors.Is(err, errDied) {
		t.Fatal(err)
	}
	record(t, l, 2, 2)
	next := &meter.Roller{Ledger: l, Usage: s}
	for _, want := range []int{5, 0} {
		if n, err := next.Roll(t.Context()); err != nil || n != want {
			t.Errorf("%d moved, %v", n, err)
		}
	}
	wantRolled(t, s, l, 5)
}

// rollers: several at once, which the lease should prevent, still add every event once.
func rollers(t *testing.T, s meter.Store, l ledger.Store) {
	record(t, l, 1, 10)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			_, _ = (&meter.Roller{Ledger: l, Usage: s}).Roll(t.Context()) // all but one may fail
		})
	}
	record(t, l, 2, 10)
	wg.Wait()
	for {
		if n, err := (&meter.Roller{Ledger: l, Usage: s}).Roll(t.Context()); err != nil {
			t.Fatal(err)
		} else if n == 0 {
			break
		}
	}
	wantRolled(t, s, l, 20)
}
