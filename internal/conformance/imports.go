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
	"github.com/tollkey/tollkey/internal/store"
)

// imported is a key that is known by a foreign hash.
func imported(id string) store.ImportedKey {
	k := key(id)
	k.Start = ""
	return store.ImportedKey{Key: k, Foreign: &store.ForeignHash{
		Digest: k.Digest, Source: digest("source of " + id), Key: k.ID, Migration: "mig_1", Hash: "hash of " + id,
	}}
}

// imports brings keys of both kinds, whole, and again, when they have failed.
func imports(t *testing.T, s store.Store) {
	seed(t, s)
	ctx, five := t.Context(), int64(5)
	m := &tollkey.Migration{ID: "mig_1", Workspace: ws, Name: "m", Algorithm: tollkey.Bcrypt, Lookup: tollkey.Lookup{Separator: ".", Part: 1}, CreatedAt: now}
	update(t, s, func(tx store.Tx) error { return tx.CreateMigration(ctx, m) })
	if got, err := s.Migration(ctx, ws, "mig_1"); err != nil || got == nil || *got != *m {
		t.Error(got, err)
	}
	if got, err := s.Migration(ctx, foreign, "mig_1"); err != nil || got != nil {
		t.Error(got, err)
	}
	build := func(tx store.Tx) ([]store.ImportedKey, error) {
		owners, _, err := tx.PutIdentities(ctx, ws, []string{"user_1", "user_1", "user_2"})
		permissions, _, err2 := tx.PutPermissions(ctx, ws, []string{"a", "b"})
		roles, _, err3 := tx.PutRoles(ctx, ws, []string{"Admin"})
		full := imported("key_full")
		full.Identity, full.Permissions, full.Roles = &tollkey.Identity{ID: owners["user_1"]}, permissions, roles
		full.Credits = tollkey.Credits{Remaining: &five, Refill: &tollkey.Refill{Interval: tollkey.RefillDaily, Amount: 9}}
		full.RateLimits = []tollkey.RateLimit{{ID: "rl_1", Name: "x", Limit: 3, Duration: time.Second}, {ID: "rl_2", Name: "y", Limit: 3, Duration: time.Second}}
		all := []store.ImportedKey{full, {Key: key("key_native")}}
		for i := range 120 { // more than a statement takes
			all = append(all, imported(fmt.Sprintf("key_%03d", i)))
		}
		return all, errors.Join(err, err2, err3)
	}
	for round, want := range []int{122, 0} {
		update(t, s, func(tx store.Tx) error {
			all, err := build(tx)
			if err != nil {
				return err
			}
			fresh, err := tx.ImportKeys(ctx, all)
			if len(fresh) != want {
				t.Errorf("round %d: %d keys are new, not %d", round, len(fresh), want)
			}
			return err
		})
	}
	r, err := s.KeyByDigest(ctx, digest("key_full"))
	if err != nil || r == nil || *r.Credits.Remaining != 5 || r.Credits.Refill.Amount != 9 || len(r.RateLimits) != 2 || len(r.Permissions) != 2 ||
		len(r.Roles) != 1 || r.Identity.ExternalID != "user_1" {
		t.Errorf("%+v, %v", r, err)
	}
	h, err := s.ForeignHash(ctx, digest("key_full"))
	if err != nil || h == nil || h.Key != "key_full" || h.Hash != "hash of key_full" || h.Migration != "mig_1" {
		t.Errorf("%+v, %v", h, err)
	}
	if h, err := s.ForeignHash(ctx, digest("key_native")); h != nil || err != nil {
		t.Error(h, err)
	}
	reimports(t, s)
}

// reimports holds that a deleted key still stands in the way, and one that was deleted for good does not; nor do equal hashes under another look-up pass.
func reimports(t *testing.T, s store.Store) {
	ctx := t.Context()
	other := imported("key_other")
	other.Foreign.Source = digest("source of key_000")
	update(t, s, func(tx store.Tx) error {
		err := errors.Join(tx.DeleteKey(ctx, ws, "key_native", false), tx.DeleteKey(ctx, ws, "key_001", false), tx.DeleteKey(ctx, ws, "key_002", true))
		again := []store.ImportedKey{{Key: key("key_native")}, imported("key_001"), imported("key_002"), other}
		fresh, err2 := tx.ImportKeys(ctx, again)
		if len(fresh) != 1 || !fresh["key_002"] {
			t.Errorf("%v are new", fresh)
		}
		return errors.Join(err, err2)
	})
	view(t, s, func(r store.Reader) error {
		found, err := r.ListMigrations(ctx, ws, store.Page{Limit: 10})
		if len(found) != 1 || found[0].Lookup.Part != 1 {
			t.Errorf("%+v", found)
		}
		return err
	})
	_, err := s.Update(ctx, now, func(tx store.Tx) error { return tx.DeleteMigration(ctx, foreign, "mig_1") })
	wantError(t, "DeleteMigration of another workspace", err, tollkey.CodeNotFound, tollkey.ReasonMigrationNotFound)
	update(t, s, func(tx store.Tx) error { return tx.DeleteMigration(ctx, ws, "mig_1") })
}

// rehash gives keys their native digests: once, and not where another key has it.
func rehash(t *testing.T, s store.Store) {
	seed(t, s)
	ctx := t.Context()
	update(t, s, func(tx store.Tx) error {
		_, err := tx.ImportKeys(ctx, []store.ImportedKey{imported("key_1"), imported("key_2"), {Key: key("key_3")}})
		return errors.Join(err, tx.DeleteKey(ctx, ws, "key_3", false))
	})
	try := func(ws tollkey.WorkspaceID, id, native string, want bool) {
		t.Helper()
		update(t, s, func(tx store.Tx) error {
			done, err := tx.RehashKey(ctx, ws, digest(id), digest(native), "start")
			if done != want {
				t.Errorf("%s to %s: %v", id, native, done)
			}
			return err
		})
	}
	try(foreign, "key_1", "native", false)
	try(ws, "key_1", "key_3", false)
	try(ws, "key_1", "native", true)
	try(ws, "key_1", "native", false)
	try(ws, "key_2", "native", false)
	if k, err := s.KeyByDigest(ctx, digest("native")); err != nil || k == nil || k.ID != "key_1" || k.Start != "start" || !k.UpdatedAt.IsZero() {
		t.Errorf("%+v, %v", k, err)
	}
	if h, err := s.ForeignHash(ctx, digest("key_1")); h != nil || err != nil {
		t.Error(h, err)
	}
	update(t, s, func(tx store.Tx) error { // the hash is still known
		fresh, err := tx.ImportKeys(ctx, []store.ImportedKey{imported("key_1")})
		if len(fresh) != 0 {
			t.Error("a hash that was used is imported again")
		}
		return err
	})
}

// concurrentImports brings the same keys, customers and roles from several sides, in several orders; each is made once.
func concurrentImports(t *testing.T, s store.Store) {
	seed(t, s)
	ctx := context.Background()
	var mu sync.Mutex
	made := map[string]int{}
	var callers sync.WaitGroup
	for caller := range 4 {
		callers.Go(func() {
			var all []store.ImportedKey
			var owners, roles []string
			for i := range 30 {
				k := imported(fmt.Sprintf("key_%d_%02d", caller, i))
				k.Digest = digest(fmt.Sprintf("digest %d", i))
				k.Foreign.Digest, k.Foreign.Source = k.Digest, k.Digest
				all, owners, roles = append(all, k), append(owners, fmt.Sprintf("user_%d", i)), append(roles, fmt.Sprintf("Role %d", i))
			}
			if caller%2 == 1 {
				slices.Reverse(all)
				slices.Reverse(owners)
				slices.Reverse(roles)
			}
			var fresh map[tollkey.KeyID]bool
			var people []tollkey.Identity
			var created []tollkey.Role
			_, err := s.Update(ctx, now, func(tx store.Tx) (err error) {
				if _, people, err = tx.PutIdentities(ctx, ws, owners); err != nil {
					return err
				}
				if _, created, err = tx.PutRoles(ctx, ws, roles); err != nil {
					return err
				}
				fresh, err = tx.ImportKeys(ctx, all)
				return err
			})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			made["keys"] += len(fresh)
			made["identities"] += len(people)
			made["roles"] += len(created)
		})
	}
	callers.Wait()
	for what, n := range made {
		if n != 30 {
			t.Errorf("%d new %s, not 30", n, what)
		}
	}
}
