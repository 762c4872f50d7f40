package refill

import (
	"context"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tollkey/tollkey/internal/store"
)

func day(t interface{ Fatal(...any) }, text string) Day {
	d, err := time.Parse(time.DateOnly, text)
	if err != nil {
		t.Fatal(err)
	}
	return DayOf(d)
}

func TestDueBetween(t *testing.T) {
	for _, c := range []struct {
		name, done, today string
		want              map[int]string // slot → the last day on which it was due
	}{
		{"nothing twice", "2026-07-10", "2026-07-10", nil},
		{"the clock went back", "2026-07-10", "2026-07-09", nil},
		{"an ordinary day", "2026-07-09", "2026-07-10", map[int]string{0: "2026-07-10", 10: "2026-07-10"}},
		{"the last day of 31", "2026-07-30", "2026-07-31", map[int]string{0: "2026-07-31", 31: "2026-07-31"}},
		{"the last day of 30", "2026-06-29", "2026-06-30", map[int]string{0: "2026-06-30", 30: "2026-06-30", 31: "2026-06-30"}},
		{"28 of 29", "2028-02-27", "2028-02-28", map[int]string{0: "2028-02-28", 28: "2028-02-28"}},
		{"the last day of a leap year's February", "2028-02-28", "2028-02-29", map[int]string{0: "2028-02-29", 29: "2028-02-29", 30: "2028-02-29", 31: "2028-02-29"}},
		{"the last day of February", "2026-02-27", "2026-02-28", map[int]string{0: "2026-02-28", 28: "2026-02-28", 29: "2026-02-28", 30: "2026-02-28", 31: "2026-02-28"}},
		{"New Year", "2026-12-30", "2027-01-01", map[int]string{0: "2027-01-01", 1: "2027-01-01", 31: "2026-12-31"}},
		{"three days down over the end of a month", "2026-06-28", "2026-07-01", map[int]string{
			0: "2026-07-01", 1: "2026-07-01", 29: "2026-06-29", 30: "2026-06-30", 31: "2026-06-30",
		}},
	} {
		got := map[int]string{}
		for _, d := range DueBetween(day(t, c.done), day(t, c.today)) {
			got[d.Slot] = d.Last.Start().Format(time.DateOnly)
		}
		if len(got)+len(c.want) > 0 && !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestDueBetweenAgreesWithTheRule asks the contract's rule about every slot on every missed day.
func TestDueBetweenAgreesWithTheRule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		done := Day(rapid.Int64Range(20_000, 40_000).Draw(t, "done"))
		today := done + Day(rapid.Int64Range(0, 400).Draw(t, "days"))
		var want []Due
		for slot := range 32 {
			for d := today; d > done; d-- {
				at := d.Start()
				last := at.AddDate(0, 0, 1).Month() != at.Month()
				if slot == 0 || slot == at.Day() || last && slot > at.Day() {
					want = append(want, Due{slot, d})
					break
				}
			}
		}
		if got := DueBetween(done, today); !reflect.DeepEqual(got, want) {
			t.Fatalf("from %v to %v: %v, want %v", done.Start(), today.Start(), got, want)
		}
	})
}

// recorder is a store whose slots have one slice each.
type recorder struct {
	store.Refills
	stored *store.RefillProgress
	slices []store.RefillSlice
}

func (r *recorder) RefillProgress(_ context.Context, today int64) (store.RefillProgress, error) {
	if r.stored == nil {
		r.stored = &store.RefillProgress{Done: today, Day: today}
	}
	return *r.stored, nil
}

func (r *recorder) MoveRefill(_ context.Context, from, to store.RefillProgress) error {
	if *r.stored == from {
		*r.stored = to
	}
	return nil
}

func (r *recorder) RefillSlice(_ context.Context, s store.RefillSlice) (int64, error) {
	if *r.stored == s.From {
		r.slices = append(r.slices, s)
		r.stored.Slot, r.stored.After = s.Slot+1, ""
	}
	return 1, nil
}

// TestSteps follows a store from its first day over a run that was interrupted, and taken up three days later.
func TestSteps(t *testing.T) {
	r, ctx := &recorder{}, t.Context()
	first := day(t, "2026-06-28")
	steps := func(now time.Time, n int) (done Day) {
		for range n {
			var err error
			if done, _, err = Step(ctx, r, now); err != nil {
				t.Fatal(err)
			}
		}
		return done
	}
	if steps(first.Start().Add(time.Hour), 5) != first || len(r.slices) != 0 {
		t.Errorf("a new store has missed something: %+v", r.slices)
	}
	steps((first + 1).Start(), 2) // begins, and does the daily ones
	if done := steps((first + 4).Start(), 10); done != first+4 {
		t.Errorf("done up to %v", done.Start())
	}
	type slice struct {
		slot   int
		before string
	}
	var got []slice
	for _, s := range r.slices {
		got = append(got, slice{s.Slot, s.Before.Format(time.DateOnly)})
	}
	if want := []slice{{0, "2026-06-29"}, {29, "2026-06-29"}, {0, "2026-07-02"}, {1, "2026-07-01"}, {2, "2026-07-02"}, {30, "2026-06-30"}, {31, "2026-06-30"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
