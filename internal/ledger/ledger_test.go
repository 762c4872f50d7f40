package ledger

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/tollkey/tollkey"
)

func TestSettleAgreesWithSequentialModel(t *testing.T) {
	ids := []tollkey.BalanceID{"a", "b", "c", "missing"}
	rapid.Check(t, func(t *rapid.T) {
		have := map[tollkey.BalanceID]int64{}
		for _, id := range ids[:3] {
			have[id] = rapid.Int64Range(0, 20).Draw(t, "balance")
		}
		model := map[tollkey.BalanceID]int64{}
		for k, v := range have {
			model[k] = v
		}
		var entries []*Entry
		for range rapid.IntRange(0, 12).Draw(t, "entries") {
			var e Entry
			for range rapid.IntRange(0, 3).Draw(t, "spends") {
				e.Spends = append(e.Spends, tollkey.Spend{
					Balance: rapid.SampledFrom(ids).Draw(t, "id"), Amount: rapid.Int64Range(0, 9).Draw(t, "amount"),
				})
			}
			entries = append(entries, &e)
		}
		results, changed := Settle(have, entries)
		for i, e := range entries {
			after, ok := map[tollkey.BalanceID]int64{}, true
			for k, v := range model {
				after[k] = v
			}
			for _, s := range e.Spends {
				v, exists := after[s.Balance]
				ok = ok && exists && v >= s.Amount
				if exists {
					after[s.Balance] = v - s.Amount
				}
			}
			if ok {
				model = after
			}
			if results[i].Admitted != ok {
				t.Fatalf("entry %d: admitted %v, want %v", i, results[i].Admitted, ok)
			}
		}
		if !reflect.DeepEqual(have, model) {
			t.Fatalf("balances %v, want %v", have, model)
		}
		for id, v := range changed {
			if model[id] != v {
				t.Fatalf("changed %s = %d, want %d", id, v, model[id])
			}
		}
	})
}

func TestCodec(t *testing.T) {
	events := []*tollkey.Event{
		{Time: time.UnixMilli(1_700_000_000_123), Workspace: "ws_1", API: "api_1", Key: "key_1", Identity: "id_1", Outcome: tollkey.OutcomeRateLimited, Count: 7, Tags: []string{"a", "ü"}},
		{Time: time.UnixMilli(1), Workspace: "ws_2", Credits: tollkey.MaxAmount, Count: 1, Takes: []tollkey.Take{{Bucket: tollkey.BucketID{1, 2}, Duration: time.Hour, Window: 99, Cost: 3}}},
		{Kind: tollkey.EventLimit, Time: time.UnixMilli(2), Workspace: "ws_2", Takes: []tollkey.Take{{Bucket: tollkey.BucketID{3}, Duration: time.Second, Window: 5, Cost: 1}}},
	}
	data := Encode(nil, events)
	got, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	for i := range events {
		if !reflect.DeepEqual(*events[i], got[i]) {
			t.Errorf("event %d:\n%+v\n%+v", i, *events[i], got[i])
		}
	}
	for n := range data {
		if _, err := Decode(data[:n]); err == nil {
			t.Errorf("the first %d bytes were accepted", n)
		}
	}
	if _, err := Decode(append(data, 0)); !errors.Is(err, ErrCorrupt) {
		t.Error("trailing bytes were accepted")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Encode(nil, []*tollkey.Event{{Workspace: "w", Tags: []string{"t"}, Takes: []tollkey.Take{{Cost: 1}}}}))
	f.Add([]byte{1, 255, 255, 255, 255, 15})
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = Decode(data) })
}

// faulty is a store whose commits fail on demand, before or after they took effect, and which then may be out of reach for a while. Every
// batch is rolled up as soon as it is committed.
type faulty struct {
	Store
	mu       sync.Mutex
	balances map[tollkey.BalanceID]int64
	batches  map[BatchID][]byte
	faults   []string // one per Settle: "", "before", "after", "down" (after, and then nothing can be learned), "late" (after the next look)
	down     int      // how many looks fail
	late     func()
}

var errLost = tollkey.Unavailable(errors.New("connection lost"))

func (f *faulty) Settle(_ context.Context, id BatchID, ids []tollkey.BalanceID, settle func(map[tollkey.BalanceID]int64) Settlement) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	fault := ""
	if len(f.faults) > 0 {
		fault, f.faults = f.faults[0], f.faults[1:]
	}
	if fault == "before" {
		return errLost
	}
	have := map[tollkey.BalanceID]int64{}
	for _, id := range ids {
		if v, ok := f.balances[id]; ok {
			have[id] = v
		}
	}
	s := settle(have)
	if _, known := f.batches[id]; known {
		return tollkey.NewError(tollkey.CodeConflict, tollkey.ReasonConflict, "This batch was committed before.")
	}
	commit := func() {
		for id, v := range s.Balances {
			f.balances[id] = v
		}
		f.batches[id] = s.Data
	}
	if fault == "late" {
		f.late = commit
		return errLost
	}
	commit()
	if fault == "down" {
		f.down = 10
	}
	if fault != "" {
		return errLost
	}
	return nil
}

func (f *faulty) Committed(_ context.Context, id BatchID) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down > 0 {
		f.down--
		return false, errLost
	}
	_, known := f.batches[id]
	if f.late != nil {
		f.late()
		f.late = nil
	}
	return known, nil
}

func (f *faulty) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.batches)
}

func TestNothingIsSpentTwiceOrLost(t *testing.T) {
	for _, faults := range [][]string{
		{"", "after", "before", "before", "after", "", "after"},
		{"down", "", "down", "before", "down"},
		{"late", "", "late", "", "before", "late", "down"},
		{"", "", "late", "late", "late", "down", "down", "down"},
	} {
		nothingIsSpentTwiceOrLost(t, faults)
	}
}

func nothingIsSpentTwiceOrLost(t *testing.T, faults []string) {
	synctest.Test(t, func(t *testing.T) {
		store := &faulty{
			balances: map[tollkey.BalanceID]int64{"k": 100}, batches: map[BatchID][]byte{},
			faults: faults,
		}
		c := NewCommitter(store, Options{})
		ctx, cancel := context.WithCancel(t.Context())
		var runner, callers sync.WaitGroup
		runner.Go(func() { c.Run(ctx, time.Minute) })
		var mu sync.Mutex
		admitted := int64(0)
		for range 130 {
			callers.Go(func() {
				r, err := c.Commit(t.Context(), Entry{Event: tollkey.Event{Count: 1}, Spends: []tollkey.Spend{{Balance: "k", Amount: 1}}})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				if r.Admitted {
					admitted++
				}
			})
		}
		callers.Wait()
		cancel()
		runner.Wait()
		events := 0
		for _, data := range store.batches {
			decoded, err := Decode(data)
			if err != nil {
				t.Fatal(err)
			}
			events += len(decoded)
		}
		if admitted != 100 || store.balances["k"] != 0 || events != 130 {
			t.Errorf("%d admitted, %d left, %d events; want 100, 0, 130", admitted, store.balances["k"], events)
		}
		if _, err := c.Commit(t.Context(), Entry{}); !errors.Is(err, ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// TestBufferedIsDurableWithin100ms answers at once, and commits what waits in one batch soon after; what spends still waits.
func TestBufferedIsDurableWithin100ms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &faulty{balances: map[tollkey.BalanceID]int64{"k": 1}, batches: map[BatchID][]byte{}, faults: []string{"", "after"}}
		c := NewCommitter(store, Options{Buffered: true})
		ctx, cancel := context.WithCancel(t.Context())
		var runner sync.WaitGroup
		runner.Go(func() { c.Run(ctx, time.Minute) })
		if r, err := c.Commit(ctx, Entry{Event: tollkey.Event{Count: 1}, Spends: []tollkey.Spend{{Balance: "k", Amount: 1}}}); err != nil || !r.Admitted || store.count() != 1 {
			t.Errorf("a spend was answered before it was committed: %+v %v", r, err)
		}
		for range 10 {
			if r, err := c.Commit(ctx, Entry{Event: tollkey.Event{Count: 1}}); err != nil || !r.Admitted {
				t.Error(r, err)
			}
		}
		if store.count() != 1 || c.Waiting() != 10 {
			t.Errorf("%d batches, %d waiting; the answers came from the commit", store.count(), c.Waiting())
		}
		time.Sleep(100 * time.Millisecond) // of the bubble's time
		synctest.Wait()
		if store.count() != 2 || c.Waiting() != 0 {
			t.Errorf("after 100 ms: %d batches, %d waiting", store.count(), c.Waiting())
		}
		if _, err := c.Commit(ctx, Entry{Event: tollkey.Event{Count: 1}}); err != nil {
			t.Error(err)
		}
		cancel()
		runner.Wait()
		if store.count() != 3 {
			t.Error("the end of the process lost an answered event")
		}
	})
}

// TestDrainEnds stops a committer whose store never answers.
func TestDrainEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &faulty{batches: map[BatchID][]byte{}, faults: slices.Repeat([]string{"before"}, 10_000)}
		c := NewCommitter(store, Options{})
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := c.Commit(t.Context(), Entry{}); err == nil {
				t.Error("a commit that never happened was answered")
			}
		})
		synctest.Wait()
		all.Go(func() { c.Run(ctx, 10*time.Second) })
		time.Sleep(time.Second)
		cancel()
		begin := time.Now()
		all.Wait()
		if took := time.Since(begin); took > 11*time.Second {
			t.Errorf("the drain took %v", took)
		}
	})
}
