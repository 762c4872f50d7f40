package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/ledger"
)

// Ledger proves an implementation of ledger.Store. open makes a store for one test that holds these balances and nothing else.
func Ledger(t *testing.T, open func(t *testing.T, balances map[tollkey.BalanceID]int64) ledger.Store) {
	for name, test := range map[string]func(*testing.T, ledger.Store){
		"Settle":        settle,
		"SettleOnce":    settleOnce,
		"Contention":    contention,
		"Committer":     committer,
		"Batches":       batches,
		"Fold":          fold,
		"FoldIsExact":   foldIsExact,
		"Counters":      counters,
		"PruneCounters": pruneCounters,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t, map[tollkey.BalanceID]int64{"a": 500, "b": 500}))
		})
	}
}

// row is a settlement that writes a batch and no balance.
func row(map[tollkey.BalanceID]int64) ledger.Settlement { return ledger.Settlement{Data: []byte{1}} }

func wantBalance(t *testing.T, s ledger.Store, id tollkey.BalanceID, want int64) {
	t.Helper()
	if left, ok, err := s.Balance(t.Context(), id); left != want || !ok || err != nil {
		t.Errorf("%d are left of %s, want %d: %v %v", left, id, want, ok, err)
	}
}

func settle(t *testing.T, s ledger.Store) {
	ctx := t.Context()
	err := s.Settle(ctx, ledger.BatchID{Boot: 1, Seq: 1}, []tollkey.BalanceID{"a", "b", "none"}, func(have map[tollkey.BalanceID]int64) ledger.Settlement {
		if len(have) != 2 || have["a"] != 500 || have["b"] != 500 {
			t.Errorf("%v", have)
		}
		return ledger.Settlement{Balances: map[tollkey.BalanceID]int64{"a": 0}, Data: []byte("events")}
	})
	if err != nil {
		t.Fatal(err)
	}
	wantBalance(t, s, "a", 0)
	wantBalance(t, s, "b", 500)
	if left, ok, err := s.Balance(ctx, "none"); left != 0 || ok || err != nil {
		t.Errorf("a balance of nothing: %d %v %v", left, ok, err)
	}
	list, err := s.Batches(ctx, 9)
	if err != nil || len(list) != 1 || list[0].ID != (ledger.BatchID{Boot: 1, Seq: 1}) || string(list[0].Data) != "events" {
		t.Errorf("%+v %v", list, err)
	}
	empty := func(map[tollkey.BalanceID]int64) ledger.Settlement { return ledger.Settlement{} }
	if err := s.Settle(ctx, ledger.BatchID{Boot: 1, Seq: 2}, []tollkey.BalanceID{"a"}, empty); err != nil {
		t.Error(err)
	}
	if list, err := s.Batches(ctx, 9); err != nil || len(list) != 1 {
		t.Errorf("a settlement without data made a row: %+v %v", list, err)
	}
}

// settleOnce: a batch that is committed again is refused whole.
func settleOnce(t *testing.T, s ledger.Store) {
	ctx, id := t.Context(), ledger.BatchID{Boot: 7, Seq: 1}
	if ok, err := s.Committed(ctx, id); ok || err != nil {
		t.Error(ok, err)
	}
	spend := func(have map[tollkey.BalanceID]int64) ledger.Settlement {
		return ledger.Settlement{Balances: map[tollkey.BalanceID]int64{"a": have["a"] - 10}, Data: []byte{1}}
	}
	if err := s.Settle(ctx, id, []tollkey.BalanceID{"a"}, spend); err != nil {
		t.Fatal(err)
	}
	if ok, err := s.Committed(ctx, id); !ok || err != nil {
		t.Error(ok, err)
	}
	if err := s.Settle(ctx, id, []tollkey.BalanceID{"a"}, spend); err == nil {
		t.Error("one batch was committed twice")
	}
	if err := s.Settle(ctx, id, nil, row); err == nil {
		t.Error("one batch was committed twice")
	}
	wantBalance(t, s, "a", 490)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	late := ledger.BatchID{Boot: 7, Seq: 2}
	err := s.Settle(ended, late, []tollkey.BalanceID{"a"}, spend)
	if ok, err2 := s.Committed(ctx, late); err2 != nil || ok != (err == nil) {
		t.Errorf("committed %v, told %v: %v", ok, err, err2)
	}
}

// contention: many committers spend from the same two balances; no spend is lost and nobody waits for ever.
func contention(t *testing.T, s ledger.Store) {
	var wg sync.WaitGroup
	for boot := range 8 {
		wg.Go(func() {
			for i := range 20 {
				err := s.Settle(t.Context(), ledger.BatchID{Boot: int64(boot + 1), Seq: int64(i + 1)}, []tollkey.BalanceID{"a", "b"}, func(have map[tollkey.BalanceID]int64) ledger.Settlement {
					after := map[tollkey.BalanceID]int64{"a": have["a"] - 1}
					if i%2 == 0 {
						after = map[tollkey.BalanceID]int64{"b": have["b"] - 2}
					}
					return ledger.Settlement{Balances: after, Data: []byte{1}}
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	wantBalance(t, s, "a", 420)
	wantBalance(t, s, "b", 340)
}

// committer lets the real committer serve 64 callers of one balance, to the last credit.
func committer(t *testing.T, s ledger.Store) {
	c := ledger.NewCommitter(s, ledger.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	var runner, callers sync.WaitGroup
	runner.Go(func() { c.Run(ctx, time.Minute) })
	var mu sync.Mutex
	admitted := 0
	for range 64 {
		callers.Go(func() {
			for range 10 {
				r, err := c.Commit(context.Background(), spendOne())
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				if r.Admitted {
					admitted++
				}
				mu.Unlock()
			}
		})
	}
	callers.Wait()
	cancel()
	runner.Wait()
	if admitted != 500 {
		t.Errorf("%d admitted", admitted)
	}
	wantBalance(t, s, "a", 0)
	events := map[tollkey.Outcome]int64{}
	list, err := s.Batches(t.Context(), 1000)
	for _, b := range list {
		decoded, err := ledger.Decode(b.Data)
		if err != nil {
			t.Error(err)
		}
		for i := range decoded {
			events[decoded[i].Outcome] += decoded[i].Count
		}
	}
	if err != nil || events[tollkey.OutcomeValid] != 500 || events[tollkey.OutcomeUsageExceeded] != 140 {
		t.Errorf("%v %v", events, err)
	}
}

// spendOne takes a credit of balance a and one from a bucket.
func spendOne() ledger.Entry {
	return ledger.Entry{
		Event: tollkey.Event{
			Time: now, Workspace: ws, Key: "a", Count: 1, Credits: 1,
			Takes: []tollkey.Take{{Bucket: tollkey.BucketID{1}, Duration: time.Hour, Window: 5, Cost: 1}},
		},
		Spends: []tollkey.Spend{{Balance: "a", Amount: 1}},
	}
}

// putBatches stores batches 1 to n of a boot.
func putBatches(t *testing.T, s ledger.Store, boot, n int64) {
	t.Helper()
	for seq := range n {
		if err := s.Settle(t.Context(), ledger.BatchID{Boot: boot, Seq: seq + 1}, nil, row); err != nil {
			t.Fatal(err)
		}
	}
}

func wantBatches(t *testing.T, s ledger.Store, limit int, want string) {
	t.Helper()
	list, err := s.Batches(t.Context(), limit)
	ids := []ledger.BatchID{}
	for _, b := range list {
		ids = append(ids, b.ID)
	}
	if err != nil || fmt.Sprint(ids) != want {
		t.Errorf("batches %v, want %s: %v", ids, want, err)
	}
}

func batches(t *testing.T, s ledger.Store) {
	ctx := t.Context()
	for _, boot := range []int64{ledger.MaxBoot, 1} {
		putBatches(t, s, boot, 2)
	}
	if err := s.Settle(ctx, ledger.BatchID{Boot: 1, Seq: ledger.MaxSeq}, nil, row); err != nil {
		t.Fatal(err)
	}
	wantBatches(t, s, 9, fmt.Sprintf("[{1 1} {1 2} {1 %d} {%d 1} {%[2]d 2}]", ledger.MaxSeq, ledger.MaxBoot))
	wantBatches(t, s, 2, "[{1 1} {1 2}]")
	if seq, ok, err := s.OldestBatch(ctx, 1); seq != 1 || !ok || err != nil {
		t.Error(seq, ok, err)
	}
	if _, err := s.Fold(ctx, map[int64]int64{1: 2}, 2, nil); err != nil {
		t.Fatal(err)
	}
	if seq, ok, err := s.OldestBatch(ctx, 1); seq != ledger.MaxSeq || !ok || err != nil {
		t.Error(seq, ok, err)
	}
	if seq, ok, err := s.OldestBatch(ctx, 2); ok || err != nil {
		t.Error(seq, ok, err)
	}
}

// fold: a batch is remembered as committed after it is gone, and counters are added to.
func fold(t *testing.T, s ledger.Store) {
	ctx := t.Context()
	putBatches(t, s, 7, 3)
	putBatches(t, s, 8, 1)
	counter := ledger.Counter{Bucket: tollkey.BucketID{2}, DurationMillis: 1000, Window: 1, Used: 4}
	if _, err := s.Fold(ctx, map[int64]int64{7: 2}, 2, []ledger.Counter{counter}); err != nil {
		t.Fatal(err)
	}
	wantBatches(t, s, 9, "[{7 3} {8 1}]")
	if _, err := s.Fold(ctx, map[int64]int64{7: 3, 8: 1}, 2, []ledger.Counter{counter}); err != nil {
		t.Fatal(err)
	}
	wantBatches(t, s, 9, "[]")
	for id, want := range map[ledger.BatchID]bool{{Boot: 7, Seq: 1}: true, {Boot: 7, Seq: 3}: true, {Boot: 7, Seq: 4}: false, {Boot: 8, Seq: 1}: true, {Boot: 8, Seq: 2}: false, {Boot: 9, Seq: 1}: false} {
		if ok, err := s.Committed(ctx, id); ok != want || err != nil {
			t.Errorf("%v: %v %v", id, ok, err)
		}
	}
	if got, err := s.Counter(ctx, tollkey.BucketID{2}); err != nil || len(got) != 1 || got[0].Used != 8 {
		t.Errorf("%+v %v", got, err)
	}
	// Of a committer that did not learn that its batch was committed, a retry spends nothing.
	spend := func(have map[tollkey.BalanceID]int64) ledger.Settlement {
		return ledger.Settlement{Balances: map[tollkey.BalanceID]int64{"a": have["a"] - 10}, Data: []byte{1}}
	}
	if err := s.Settle(ctx, ledger.BatchID{Boot: 7, Seq: 3}, []tollkey.BalanceID{"a"}, spend); !tollkey.IsReason(err, tollkey.ReasonConflict) {
		t.Errorf("a batch that was rolled up is committed again: %v", err)
	}
	wantBalance(t, s, "a", 500)
	wantBatches(t, s, 9, "[]")
}

// foldIsExact: a fold that does not meet the batches that its caller read changes nothing.
func foldIsExact(t *testing.T, s ledger.Store) {
	ctx := t.Context()
	putBatches(t, s, 7, 3)
	counter := []ledger.Counter{{Bucket: tollkey.BucketID{2}, DurationMillis: 1000, Window: 1, Used: 4}}
	for _, c := range []struct {
		upTo    map[int64]int64
		batches int
	}{{map[int64]int64{7: 3}, 2}, {map[int64]int64{7: 2}, 3}, {map[int64]int64{7: 2, 8: 1}, 3}, {map[int64]int64{8: 1}, 1}} {
		if _, err := s.Fold(ctx, c.upTo, c.batches, counter); err == nil {
			t.Errorf("%+v was folded", c)
		}
		wantBatches(t, s, 9, "[{7 1} {7 2} {7 3}]")
		if ok, err := s.Committed(ctx, ledger.BatchID{Boot: 8, Seq: 1}); ok || err != nil {
			t.Errorf("%+v was remembered: %v", c, err)
		}
	}
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() { _, errs[i] = s.Fold(ctx, map[int64]int64{7: 3}, 3, counter) })
	}
	wg.Wait()
	failed := slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if got, err := s.Counter(ctx, tollkey.BucketID{2}); err != nil || len(got) != 1 || got[0].Used != 4 || len(failed) != 3 {
		t.Errorf("of 4 rollers %d failed: %+v %v", len(failed), got, err)
	}
}

// threeWindows folds counters of three windows of bucket 1 and one window of bucket 2, and leaves one batch.
func threeWindows(t *testing.T, s ledger.Store) {
	t.Helper()
	putBatches(t, s, 1, 2)
	list := []ledger.Counter{{Bucket: tollkey.BucketID{2}, DurationMillis: 60_000, Window: 1, Used: 9}}
	for w := range int64(3) {
		list = append(list, ledger.Counter{Bucket: tollkey.BucketID{1}, DurationMillis: 1000, Window: w + 1, Used: w + 1})
	}
	if _, err := s.Fold(t.Context(), map[int64]int64{1: 1}, 1, list); err != nil {
		t.Fatal(err)
	}
}

func counters(t *testing.T, s ledger.Store) {
	threeWindows(t, s)
	ctx := t.Context()
	got, err := s.Counter(ctx, tollkey.BucketID{1})
	if err != nil || len(got) != 3 {
		t.Errorf("%+v %v", got, err)
	}
	if none, err := s.Counter(ctx, tollkey.BucketID{3}); err != nil || len(none) != 0 {
		t.Errorf("%+v %v", none, err)
	}
	var seen []string
	err = s.Counters(ctx, 3999, func(c ledger.Counter) {
		seen = append(seen, fmt.Sprint(c.Bucket[0], c.DurationMillis, c.Window, c.Used))
	}, func(b ledger.Batch) error {
		slices.Sort(seen)
		seen = append(seen, fmt.Sprint(b.ID, len(b.Data)))
		return nil
	})
	if err != nil || !slices.Equal(seen, []string{"1 1000 2 2", "1 1000 3 3", "2 60000 1 9", "{1 2} 1"}) {
		t.Errorf("%q %v", seen, err)
	}
	refused := errors.New("refused")
	err = s.Counters(ctx, 0, func(ledger.Counter) {}, func(ledger.Batch) error { return refused })
	if !errors.Is(err, refused) {
		t.Errorf("a refused batch: %v", err)
	}
}

func pruneCounters(t *testing.T, s ledger.Store) {
	threeWindows(t, s)
	ctx := t.Context()
	for _, c := range []struct {
		now          int64
		limit        int
		pruned, left int
	}{{2999, 9, 0, 3}, {3000, 9, 1, 2}, {10_000, 1, 1, 1}, {10_000, 9, 1, 0}, {10_000, 9, 0, 0}} {
		n, err := s.PruneCounters(ctx, c.now, c.limit)
		left, err2 := s.Counter(ctx, tollkey.BucketID{1})
		if err := errors.Join(err, err2); err != nil || n != c.pruned || len(left) != c.left {
			t.Errorf("%+v: %d pruned, %d left: %v", c, n, len(left), err)
		}
	}
	if other, err := s.Counter(ctx, tollkey.BucketID{2}); err != nil || len(other) != 1 {
		t.Errorf("%+v %v", other, err)
	}
}
