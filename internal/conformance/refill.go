package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/ledger"
	"github.com/tollkey/tollkey/internal/refill"
	"github.com/tollkey/tollkey/internal/store"
)

// Books is a store with the ledger's part.
type Books interface {
	store.Store
	ledger.Store
}

// Refills proves store.Refills and store.Uses, beside the ledger. open makes an empty store for one test.
func Refills(t *testing.T, open func(t *testing.T) Books) {
	for name, test := range map[string]func(*testing.T, Books){
		"Rules":        refillRules,
		"Interrupted":  refillInterrupted,
		"BesideSpends": refillBesideSpends,
		"LastUsed":     lastUsed,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// fallsDue is a midnight at the end of a month of 30 days; the keys of a test are older.
var fallsDue = time.Date(2027, 6, 30, 0, 0, 0, 0, time.UTC)

// settledAt makes the store one in which refills are done up to the day before at.
func settledAt(t *testing.T, s Books, at time.Time) {
	t.Helper()
	if _, _, err := refill.Step(t.Context(), s, at.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
}

func refillAll(t *testing.T, s Books, at time.Time) (refilled int64) {
	t.Helper()
	for {
		done, n, err := refill.Step(context.Background(), s, at)
		if err != nil {
			t.Error(err)
			return refilled
		}
		refilled += n
		if done == refill.DayOf(at) {
			return refilled
		}
	}
}

func readKey(t *testing.T, s Books, id tollkey.KeyID) (k *tollkey.Key) {
	t.Helper()
	err := s.View(t.Context(), func(r store.Reader) (err error) { k, err = r.Key(t.Context(), ws, id); return err })
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func refilling(id string, remaining int64, r tollkey.Refill) *tollkey.Key {
	k := key(id)
	k.Credits.Refill = &r
	if remaining >= 0 {
		k.Credits.Remaining = &remaining
	}
	return k
}

func refillRules(t *testing.T, s Books) {
	daily, monthly := tollkey.RefillDaily, tollkey.RefillMonthly
	young := refilling("key_young", 1, tollkey.Refill{Interval: daily, Amount: 10})
	young.CreatedAt = fallsDue
	disabled := refilling("key_disabled", 0, tollkey.Refill{Interval: daily, Amount: 10})
	disabled.Enabled, disabled.Expires = false, now
	seed(t, s)
	cases := []struct {
		key      *tollkey.Key
		want     int64
		refilled bool
	}{
		{refilling("key_below", 9, tollkey.Refill{Interval: daily, Amount: 10}), 10, true},
		{refilling("key_at", 10, tollkey.Refill{Interval: daily, Amount: 10}), 10, false},
		{refilling("key_above", 11, tollkey.Refill{Interval: daily, Amount: 10}), 11, false},
		{refilling("key_unlimited", -1, tollkey.Refill{Interval: daily, Amount: tollkey.MaxAmount}), tollkey.MaxAmount, true},
		{disabled, 10, true},
		{young, 1, false},
		{refilling("key_30", 0, tollkey.Refill{Interval: monthly, Amount: 10, Day: 30}), 10, true},
		{refilling("key_31", 0, tollkey.Refill{Interval: monthly, Amount: 10, Day: 31}), 10, true},
		{refilling("key_29", 0, tollkey.Refill{Interval: monthly, Amount: 10, Day: 29}), 0, false},
		{refilling("key_1", 0, tollkey.Refill{Interval: monthly, Amount: 10, Day: 1}), 0, false},
		{refilling("key_day", 0, tollkey.Refill{Interval: daily, Amount: 10, Day: 1}), 10, true}, // the day is passed over
	}
	gone := refilling("key_gone", 0, tollkey.Refill{Interval: daily, Amount: 10})
	update(t, s, func(tx store.Tx) error {
		err := tx.CreateKeys(t.Context(), []*tollkey.Key{gone, key("key_none")})
		for _, c := range cases {
			err = errors.Join(err, tx.CreateKeys(t.Context(), []*tollkey.Key{c.key}))
		}
		return errors.Join(err, tx.DeleteKey(t.Context(), ws, "key_gone", false))
	})
	settledAt(t, s, fallsDue)
	at := fallsDue.Add(2 * time.Second)
	head, _ := s.Head(t.Context())
	if n := refillAll(t, s, at); n != 6 {
		t.Errorf("%d were refilled", n)
	}
	for _, c := range cases {
		k := readKey(t, s, c.key.ID)
		if *k.Credits.Remaining != c.want || c.refilled != k.UpdatedAt.Equal(at) || *k.Credits.Refill != *readKey(t, s, k.ID).Credits.Refill {
			t.Errorf("%s: %d, updated %v", k.ID, *k.Credits.Remaining, k.UpdatedAt)
		}
	}
	if k := readKey(t, s, "key_none"); k.Credits.Remaining != nil || !k.UpdatedAt.IsZero() {
		t.Errorf("a key without a refill: %+v", k)
	}
	if left, _, _ := s.Balance(t.Context(), "key_gone"); left != 0 {
		t.Error("a deleted key was refilled")
	}
	changes, err := s.ChangesAfter(t.Context(), head.Number, 10)
	if err != nil || len(changes) != 1 || len(changes[0].Cells) != 1 || changes[0].Cells[0] != "key_unlimited" {
		t.Errorf("only what became limited is announced: %+v %v", changes, err)
	}
	spend(t, s, "key_below", 5)
	if n := refillAll(t, s, at.Add(23*time.Hour)); n != 0 {
		t.Errorf("%d were refilled twice on one day", n)
	}
	// The 1st of July was missed; the young key and the spent one get their daily refill once.
	if n := refillAll(t, s, at.Add(72*time.Hour)); n != 3 || *readKey(t, s, "key_1").Credits.Remaining != 10 {
		t.Errorf("%d were refilled after two missed days", n)
	}
}

func spend(t *testing.T, s Books, id tollkey.BalanceID, n int64) {
	t.Helper()
	err := s.Settle(context.Background(), ledger.BatchID{Boot: ledger.NewBoot(), Seq: 1}, []tollkey.BalanceID{id}, func(have map[tollkey.BalanceID]int64) ledger.Settlement {
		return ledger.Settlement{Balances: map[tollkey.BalanceID]int64{id: have[id] - n}, Data: []byte{1}}
	})
	if err != nil {
		t.Error(err)
	}
}

// refillInterrupted stops a run after every chunk, with spends from refilled keys in between, and goes on on the next day.
func refillInterrupted(t *testing.T, s Books) {
	seed(t, s)
	var keys []*tollkey.Key
	for i := range 350 {
		keys = append(keys, refilling(fmt.Sprintf("key_%03d", i), int64(i%2)-1, tollkey.Refill{Interval: tollkey.RefillDaily, Amount: 10}))
	}
	update(t, s, func(tx store.Tx) error { return tx.CreateKeys(t.Context(), keys) })
	settledAt(t, s, fallsDue)
	today := int64(refill.DayOf(fallsDue))
	p, _ := s.RefillProgress(t.Context(), today)
	run := store.RefillProgress{Done: p.Done, Day: today}
	if err := errors.Join(s.MoveRefill(t.Context(), p, run), s.MoveRefill(t.Context(), p, store.RefillProgress{Done: 1, Day: 1})); err != nil {
		t.Fatal(err)
	}
	slice := store.RefillSlice{From: run, Before: fallsDue, Now: fallsDue}
	first, err := s.RefillSlice(t.Context(), slice)
	if err != nil || first < 50 || first > 300 {
		t.Fatalf("without a budget %d keys were refilled: %v", first, err)
	}
	if again, err := s.RefillSlice(t.Context(), slice); err != nil || again != 0 {
		t.Errorf("%d were refilled by a node that came too late: %v", again, err)
	}
	spend(t, s, "key_001", 7)
	spend(t, s, "key_049", 7)
	tomorrow := fallsDue.Add(24 * time.Hour)
	for range 6 { // the rest of the run, and no more
		if p, _ = s.RefillProgress(t.Context(), today); p.Slot > 0 {
			break
		}
		slice.From, slice.Now = p, tomorrow
		if _, err := s.RefillSlice(t.Context(), slice); err != nil {
			t.Fatal(err)
		}
	}
	if p.Slot != 1 || p.Day != today || *readKey(t, s, "key_349").Credits.Remaining != 10 {
		t.Errorf("the run did not go on: %+v", p)
	}
	if *readKey(t, s, "key_001").Credits.Remaining != 3 || !readKey(t, s, "key_049").UpdatedAt.Equal(fallsDue) {
		t.Error("a key was refilled twice in one run")
	}
	if n := refillAll(t, s, tomorrow); n != 2 {
		t.Errorf("%d were refilled on the next day", n)
	}
}

// refillBesideSpends runs two refillers at once beside spends in batches and updates of keys: nobody waits for ever, no spend is undone, every key
// is refilled once.
func refillBesideSpends(t *testing.T, s Books) {
	seed(t, s)
	const n, amount = 400, 1000
	var keys []*tollkey.Key
	var ids []tollkey.BalanceID
	for i := range n {
		k := refilling(fmt.Sprintf("key_%03d", i), 100, tollkey.Refill{Interval: tollkey.RefillDaily, Amount: amount})
		keys, ids = append(keys, k), append(ids, tollkey.BalanceID(k.ID))
	}
	update(t, s, func(tx store.Tx) error { return tx.CreateKeys(t.Context(), keys) })
	settledAt(t, s, fallsDue)
	var work sync.WaitGroup
	var refilled atomic.Int64
	for range 2 {
		work.Go(func() { refilled.Add(refillAll(t, s, fallsDue)) })
	}
	work.Go(func() {
		for i := range 30 {
			batch := ids[i*7 : i*7+90]
			if err := s.Settle(context.Background(), ledger.BatchID{Boot: 5, Seq: int64(i + 1)}, batch, func(have map[tollkey.BalanceID]int64) ledger.Settlement {
				for id := range have {
					have[id]--
				}
				return ledger.Settlement{Balances: have, Data: []byte{1}}
			}); err != nil {
				t.Error(err)
			}
		}
	})
	work.Go(func() {
		name := "n"
		for i := range 50 {
			if _, err := s.Update(context.Background(), now, func(tx store.Tx) error {
				return tx.UpdateKey(context.Background(), ws, keys[i*8].ID, store.KeyUpdate{Name: &name})
			}); err != nil {
				t.Error(err)
			}
			use := []store.Use{{Key: keys[i*3].ID, At: now}, {Key: keys[i*2].ID, At: now}}
			if _, err := s.PutLastUsed(context.Background(), use, time.Second); err != nil {
				t.Error(err)
			}
		}
	})
	work.Wait()
	if refilled.Load() != n {
		t.Errorf("%d refills of %d keys", refilled.Load(), n)
	}
	for i, id := range ids {
		spends := int64(0)
		for b := range 30 {
			if i >= b*7 && i < b*7+90 {
				spends++
			}
		}
		if left, _, err := s.Balance(t.Context(), id); err != nil || left > amount || left < amount-spends {
			t.Errorf("%s: %d left after at most %d spends: %v", id, left, spends, err)
		}
	}
}

func lastUsed(t *testing.T, s Books) {
	seed(t, s)
	ctx := t.Context()
	update(t, s, func(tx store.Tx) error {
		root := &tollkey.RootKey{ID: "key_root", Workspace: ws, Digest: tollkey.Digest{9}, Enabled: true, CreatedAt: now}
		return errors.Join(tx.CreateKeys(ctx, []*tollkey.Key{key("key_1"), key("key_2")}), tx.CreateRootKey(ctx, root))
	})
	later := now.Add(time.Minute)
	for _, uses := range [][]store.Use{
		{{Key: "key_2", At: now}, {Key: "key_1", At: later}, {Key: "key_root", Root: true, At: later}, {Key: "key_unknown", At: now}},
		{{Key: "key_1", At: now}, {Key: "key_root", Root: true, At: now}},
		{{Key: "key_root", At: later.Add(time.Hour)}, {Key: "key_1", Root: true, At: later.Add(time.Hour)}}, // not of that kind
	} {
		if done, err := s.PutLastUsed(ctx, uses, time.Second); err != nil || done != len(uses) {
			t.Errorf("%d %v", done, err)
		}
	}
	if a, b := readKey(t, s, "key_1"), readKey(t, s, "key_2"); !a.LastUsedAt.Equal(later) || !b.LastUsedAt.Equal(now) || !a.UpdatedAt.IsZero() {
		t.Errorf("%v %v", a.LastUsedAt, b.LastUsedAt)
	}
	err := s.View(ctx, func(r store.Reader) error {
		k, err := r.RootKey(ctx, ws, "key_root")
		if err == nil && !k.LastUsedAt.Equal(later) {
			t.Errorf("the root key: %v", k.LastUsedAt)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	many := make([]store.Use, 1000)
	for i := range many {
		many[i] = store.Use{Key: tollkey.KeyID(fmt.Sprint("key_", i)), At: now}
	}
	if done, err := s.PutLastUsed(ctx, many, 0); err != nil || done == 0 || done == len(many) {
		t.Errorf("without a budget some are written: %d %v", done, err)
	}
}
