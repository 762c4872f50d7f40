package verify

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/foreignhash"
	"github.com/tollkey/tollkey/internal/store"
)

// TestSlowHashesAreBounded has many guess at once: as many are checked as there are cores to spare, 64 wait, and the others are told to come again.
func TestSlowHashesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newSlowHashes()
		var running, most, checked atomic.Int64
		h.check = func(tollkey.Algorithm, string, string) bool {
			if n := running.Add(1); n > most.Load() {
				most.Store(n)
			}
			checked.Add(1)
			time.Sleep(time.Second) // of the bubble
			running.Add(-1)
			return false
		}
		var refused atomic.Int64
		var callers sync.WaitGroup
		for i := range 1000 {
			callers.Go(func() {
				f := &store.ForeignHash{Key: tollkey.KeyID(fmt.Sprintf("key_%d", i))}
				ok, err := h.matches(t.Context(), time.Now(), tollkey.Bcrypt, f, "guess")
				var e *tollkey.Error
				switch {
				case errors.As(err, &e) && e.Code == tollkey.CodeTooManyRequests && e.RetryAfter > 0:
					refused.Add(1)
				case ok || err != nil:
					t.Error(ok, err)
				}
			})
		}
		callers.Wait()
		places := int64(cap(h.places))
		if places != int64(cap(h.cores))+maxWaiting || most.Load() != int64(cap(h.cores)) || checked.Load() != places || refused.Load() != 1000-places {
			t.Errorf("%d at a time, %d checked, %d refused", most.Load(), checked.Load(), refused.Load())
		}
	})
}

// TestGuessesOfOneKey holds that a key's wrong secrets are checked five times a minute, each once, and that a right one costs no attempt.
func TestGuessesOfOneKey(t *testing.T) {
	h := newSlowHashes()
	checked := 0
	h.check = func(_ tollkey.Algorithm, _, secret string) bool { checked++; return secret == "right" }
	now, f := time.UnixMilli(1_790_000_040_000), &store.ForeignHash{Key: "key_1"} // the start of a minute
	ask := func(secret string) string {
		ok, err := h.matches(t.Context(), now, tollkey.Bcrypt, f, secret)
		if err != nil {
			return "refused"
		}
		return fmt.Sprint(ok)
	}
	var got []string
	for _, secret := range []string{"right", "1", "1", "2", "3", "4", "right", "5", "6", "1", "right"} {
		got = append(got, ask(secret))
	}
	if want := "true false false false false false true false refused false true"; strings.Join(got, " ") != want || checked != 6 {
		t.Errorf("%v after %d checks, want %s", got, checked, want)
	}
	now = now.Add(2 * time.Minute)
	if ask("6") != "false" {
		t.Error("guesses are refused for ever")
	}
}

// TestInventedImports holds that a flood of invented keys reads nothing of the store, whatever migration they name.
func TestInventedImports(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	slow := &tollkey.Migration{ID: "mig_slow", Workspace: ws, Algorithm: tollkey.Bcrypt, Lookup: tollkey.Lookup{Separator: ".", Part: 0}}
	r.change(t, func(tx store.Tx) error {
		tx.Announce(store.Announcement{Cells: []string{"mig_slow", "mig_fast"}})
		return errors.Join(tx.CreateMigration(ctx, slow), tx.CreateMigration(ctx, &tollkey.Migration{ID: "mig_fast", Workspace: ws, Algorithm: tollkey.PrefixedAPIKey}))
	})
	checked := 0
	r.slow.check = func(tollkey.Algorithm, string, string) bool { checked++; return true }
	r.lookups = 0
	for i := range 1000 {
		for _, id := range []tollkey.MigrationID{"mig_slow", "mig_fast", "mig_none"} {
			v, err := r.Verify(ctx, r.caller, &Question{Secret: fmt.Sprintf("a_b_%d.x", i), Migration: id})
			if err != nil || v.Outcome != tollkey.OutcomeNotFound {
				t.Fatal(v.Outcome, err)
			}
		}
	}
	if r.lookups > 30 || checked > 0 { // the filter errs rarely
		t.Errorf("%d look-ups, %d checks", r.lookups, checked)
	}
	k := &tollkey.Key{ID: "key_1", Workspace: ws, API: "api_1", Digest: foreignhash.OfLookup(slow, "id"), Enabled: true, CreatedAt: time.UnixMilli(r.clock.Load())}
	r.change(t, func(tx store.Tx) error {
		tx.Announce(store.Announcement{Digests: []tollkey.Digest{k.Digest}, Keys: []tollkey.KeyID{k.ID}})
		_, err := tx.ImportKeys(ctx, []store.ImportedKey{{Key: k, Foreign: &store.ForeignHash{Digest: k.Digest, Source: tollkey.Digest{1}, Key: k.ID, Migration: slow.ID, Hash: "h"}}})
		return err
	})
	q := &Question{Secret: "id.secret", Migration: slow.ID}
	stranger := &tollkey.Principal{Workspace: ws}
	if v, err := r.Verify(ctx, stranger, q); err != nil || v.Outcome != tollkey.OutcomeNotFound || checked != 0 {
		t.Errorf("a caller without permission: %v, %v, %d checks", v.Outcome, err, checked)
	}
	var unhashed *Unhashed
	if _, err := r.Verify(ctx, r.caller, q); !errors.As(err, &unhashed) || unhashed.StandIn != k.Digest || unhashed.Digest != digestOf("id.secret") {
		t.Errorf("%v", err)
	}
	q.AsImported = true
	if v, err := r.Verify(ctx, r.caller, q); err != nil || v.Outcome != tollkey.OutcomeValid || checked != 1 {
		t.Errorf("%v, %v, %d checks", v.Outcome, err, checked)
	}
}
