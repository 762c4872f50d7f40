package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// richKey makes key_1 with everything that a key can have.
func richKey(ctx context.Context, tx store.Tx) error {
	owner, created, err := tx.PutIdentity(ctx, ws, "user_1")
	if err != nil || !created {
		return fmt.Errorf("created %v: %w", created, err)
	}
	permissions, fresh, err := tx.PutPermissions(ctx, ws, []string{"b", "a", "b"})
	if err != nil || len(permissions) != 2 || len(fresh) != 2 {
		return fmt.Errorf("permissions %v, fresh %v: %w", permissions, fresh, err)
	}
	role := &tollkey.Role{ID: "role_1", Name: "Admin", Permissions: permissions[:1]}
	if err := tx.CreateRole(ctx, ws, role); err != nil {
		return err
	}
	five := int64(5)
	k := key("key_1")
	k.Name, k.Meta, k.Identity = "n", []byte(`{"a":1}`), &tollkey.Identity{ID: owner}
	k.Permissions, k.Roles, k.Expires = permissions[1:], []tollkey.Role{*role}, now.Add(time.Hour)
	k.Credits = tollkey.Credits{Remaining: &five, Refill: &tollkey.Refill{Interval: tollkey.RefillMonthly, Amount: 9, Day: 31}}
	k.RateLimits = []tollkey.RateLimit{{ID: "rl_1", Name: "x", Limit: 3, Duration: time.Second, AutoApply: true}}
	return tx.CreateKeys(ctx, []*tollkey.Key{k})
}

func keyRoundTrip(t *testing.T, s store.Store) {
	seed(t, s)
	ctx := t.Context()
	update(t, s, func(tx store.Tx) error { return richKey(ctx, tx) })
	r, err := s.KeyByDigest(ctx, digest("key_1"))
	if err != nil || r == nil {
		t.Fatal(r, err)
	}
	if len(r.IPAllowList) != 2 || !r.WorkspaceEnabled || r.APIDeleted {
		t.Errorf("%+v", r)
	}
	view(t, s, func(reader store.Reader) error {
		k, err := reader.Key(ctx, ws, "key_1")
		if err != nil {
			return err
		}
		for _, k := range []*tollkey.Key{k, &r.Key} {
			if k.Name != "n" || string(k.Meta) != `{"a":1}` || k.Identity == nil || k.Identity.ExternalID != "user_1" || !k.Expires.Equal(now.Add(time.Hour)) ||
				*k.Credits.Remaining != 5 || *k.Credits.Refill != (tollkey.Refill{Interval: "monthly", Amount: 9, Day: 31}) ||
				len(k.RateLimits) != 1 || k.RateLimits[0].Duration != time.Second || k.Permissions[0].Slug != "b" ||
				k.Roles[0].Permissions[0].Slug != "a" || !k.CreatedAt.Equal(now) || !k.UpdatedAt.IsZero() || !k.LastUsedAt.IsZero() {
				t.Errorf("%+v", k)
			}
		}
		return nil
	})
}

func keyUpdates(t *testing.T, s store.Store) {
	seed(t, s)
	ctx := t.Context()
	update(t, s, func(tx store.Tx) error { return richKey(ctx, tx) })
	limits := []tollkey.RateLimit{{ID: "rl_9", Name: "x", Limit: 4, Duration: time.Minute}, {ID: "rl_2", Name: "y", Limit: 1, Duration: time.Second}}
	name, permissions, none := "", []tollkey.PermissionID{}, (*int64)(nil)
	update(t, s, func(tx store.Tx) error {
		return tx.UpdateKey(ctx, ws, "key_1", store.KeyUpdate{Name: &name, Remaining: &none, RateLimits: &limits, Permissions: &permissions})
	})
	view(t, s, func(r store.Reader) error {
		k, err := r.Key(ctx, ws, "key_1")
		if err != nil || k.Name != "" || k.Credits.Remaining != nil || len(k.RateLimits) != 2 || k.RateLimits[0].ID != "rl_1" ||
			k.RateLimits[0].Limit != 4 || len(k.Permissions) != 0 || len(k.Roles) != 1 || k.UpdatedAt.IsZero() {
			t.Errorf("after the first update: %+v %v", k, err)
		}
		if err == nil && (k.Meta == nil || k.Identity == nil || k.Expires.IsZero() || k.Credits.Refill == nil || !k.Enabled) {
			t.Errorf("a field was written that the update did not hold: %+v", k)
		}
		return nil
	})
	var (
		meta    []byte
		owner   tollkey.IdentityID
		expires time.Time
		refill  *tollkey.Refill
		roles   []tollkey.RoleID
		seven   = int64(7)
		some    = &seven
		fresh   = digest("another")
		start   = "sk_wxyz"
	)
	update(t, s, func(tx store.Tx) error {
		return tx.UpdateKey(ctx, ws, "key_1", store.KeyUpdate{
			Meta: &meta, Identity: &owner, Expires: &expires, Refill: &refill, Roles: &roles, Remaining: &some, Digest: &fresh, Start: &start,
		})
	})
	if old, err := s.KeyByDigest(ctx, digest("key_1")); old != nil || err != nil {
		t.Errorf("the old secret is still found: %v %v", old, err)
	}
	k, err := s.KeyByDigest(ctx, fresh)
	if err != nil || k == nil || k.Meta != nil || k.Identity != nil || !k.Expires.IsZero() || k.Credits.Refill != nil || len(k.Roles) != 0 ||
		*k.Credits.Remaining != 7 || k.Start != start || len(k.RateLimits) != 2 {
		t.Errorf("after the second update: %+v %v", k, err)
	}
}

// separateFields: of updates at the same time of different fields, each stays.
func separateFields(t *testing.T, s store.Store) {
	seed(t, s)
	ctx := t.Context()
	update(t, s, func(tx store.Tx) error { return tx.CreateKeys(ctx, []*tollkey.Key{key("key_1")}) })
	for i := range 10 {
		name, meta, on := fmt.Sprint("n", i), fmt.Appendf(nil, `{"n":%d}`, i), i%2 == 0
		var wg sync.WaitGroup
		for _, u := range []store.KeyUpdate{{Name: &name}, {Meta: &meta}, {Enabled: &on}} {
			wg.Go(func() {
				if _, err := s.Update(ctx, now, func(tx store.Tx) error { return tx.UpdateKey(ctx, ws, "key_1", u) }); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if k, err := s.KeyByDigest(ctx, digest("key_1")); err != nil || k.Name != name || string(k.Meta) != string(meta) || k.Enabled != on {
			t.Fatalf("%+v %v", k, err)
		}
	}
}

func deletedThings(t *testing.T, s store.Store) {
	seed(t, s)
	ctx := t.Context()
	update(t, s, func(tx store.Tx) error {
		return tx.CreateKeys(ctx, []*tollkey.Key{key("key_1"), key("key_2"), key("key_3")})
	})
	update(t, s, func(tx store.Tx) error {
		return errors.Join(tx.DeleteKey(ctx, ws, "key_1", false), tx.DeleteKey(ctx, ws, "key_2", true))
	})
	for _, id := range []tollkey.KeyID{"key_1", "key_2"} {
		if r, err := s.KeyByDigest(ctx, digest(string(id))); r != nil || err != nil {
			t.Errorf("%s: %v %v", id, r, err)
		}
		for _, permanent := range []bool{false, true} {
			_, err := s.Update(ctx, now, func(tx store.Tx) error { return tx.DeleteKey(ctx, ws, id, permanent) })
			wantError(t, "deleting again", err, tollkey.CodeNotFound, tollkey.ReasonKeyNotFound)
		}
		_, err := s.Update(ctx, now, func(tx store.Tx) error { return tx.UpdateKey(ctx, ws, id, store.KeyUpdate{}) })
		wantError(t, "updating a deleted key", err, tollkey.CodeNotFound, tollkey.ReasonKeyNotFound)
	}
	_, err := s.Update(ctx, now, func(tx store.Tx) error { return tx.CreateKeys(ctx, []*tollkey.Key{key("key_1")}) })
	wantError(t, "the digest of a key that was marked as deleted", err, tollkey.CodeConflict, "")
	update(t, s, func(tx store.Tx) error { return tx.CreateKeys(ctx, []*tollkey.Key{key("key_2")}) }) // it left nothing

	update(t, s, func(tx store.Tx) error { return tx.DeleteAPI(ctx, ws, "api_1") })
	if r, err := s.KeyByDigest(ctx, digest("key_3")); err != nil || r == nil || !r.APIDeleted {
		t.Errorf("a key of a deleted API: %+v %v", r, err)
	}
	_, err = s.Update(ctx, now, func(tx store.Tx) error { return tx.DeleteAPI(ctx, ws, "api_1") })
	wantError(t, "deleting an API again", err, tollkey.CodeNotFound, tollkey.ReasonAPINotFound)
	view(t, s, func(r store.Reader) error {
		_, err := r.API(ctx, ws, "api_1")
		wantError(t, "a deleted API", err, tollkey.CodeNotFound, tollkey.ReasonAPINotFound)
		_, err = r.Key(ctx, ws, "key_3")
		wantError(t, "a key of a deleted API", err, tollkey.CodeNotFound, tollkey.ReasonKeyNotFound)
		if page, err := r.ListKeys(ctx, ws, store.KeyFilter{API: "api_1"}, store.Page{Limit: 9}); len(page) != 0 || err != nil {
			t.Errorf("keys of a deleted API: %v %v", page, err)
		}
		return nil
	})
}

func listKeys(t *testing.T, s store.Store) {
	seed(t, s)
	ctx := t.Context()
	update(t, s, func(tx store.Tx) error {
		if err := errors.Join(richKey(ctx, tx), tx.CreateAPI(ctx, &tollkey.API{ID: "api_2", Workspace: ws, CreatedAt: now})); err != nil {
			return err
		}
		other := key("key_9")
		other.API = "api_2"
		return errors.Join(tx.CreateKeys(ctx, []*tollkey.Key{key("key_4"), key("key_2"), key("key_3"), other}), tx.DeleteKey(ctx, ws, "key_3", false))
	})
	one := store.KeyFilter{API: "api_1"}
	for _, c := range []struct {
		ws     tollkey.WorkspaceID
		filter store.KeyFilter
		page   store.Page
		want   string
	}{
		{ws, one, store.Page{Limit: 9}, "[key_1 key_2 key_4]"},
		{ws, one, store.Page{Limit: 2}, "[key_1 key_2]"},
		{ws, one, store.Page{From: "key_2", Limit: 9}, "[key_2 key_4]"},
		{ws, one, store.Page{From: "key_5", Limit: 9}, "[]"},
		{ws, store.KeyFilter{API: "api_2"}, store.Page{Limit: 9}, "[key_9]"},
		{ws, store.KeyFilter{API: "api_1", ExternalID: "user_1"}, store.Page{Limit: 9}, "[key_1]"},
		{ws, store.KeyFilter{API: "api_2", ExternalID: "user_1"}, store.Page{Limit: 9}, "[]"},
		{ws, store.KeyFilter{API: "api_1", ExternalID: "user_1"}, store.Page{From: "key_2", Limit: 9}, "[]"},
		{ws, store.KeyFilter{API: "api_1", ExternalID: "nobody"}, store.Page{Limit: 9}, "[]"},
		{foreign, one, store.Page{Limit: 9}, "[]"},
	} {
		view(t, s, func(r store.Reader) error {
			page, err := r.ListKeys(ctx, c.ws, c.filter, c.page)
			ids := []tollkey.KeyID{}
			for i := range page {
				ids = append(ids, page[i].ID)
				if whole := page[i].Roles != nil && page[i].Permissions != nil && page[i].RateLimits != nil; whole != (page[i].ID == "key_1") {
					t.Errorf("%s is not whole: %+v", page[i].ID, page[i])
				}
			}
			if fmt.Sprint(ids) != c.want {
				t.Errorf("%+v: %v, want %s", c, ids, c.want)
			}
			return err
		})
	}
}

// listsByName asks for more names than a statement would name, in any letter case.
func listsByName(t *testing.T, s store.Store) {
	seed(t, s)
	ctx := t.Context()
	var slugs, asked []string
	for i := range 230 {
		slugs = append(slugs, fmt.Sprintf("docs.%03d", i))
		asked = append(asked, fmt.Sprintf("DOCS.%03d", 229-i), fmt.Sprint("nothing.", i))
	}
	update(t, s, func(tx store.Tx) error {
		all, created, err := tx.PutPermissions(ctx, ws, slugs)
		if err != nil || len(all) != 230 || len(created) != 230 {
			return fmt.Errorf("%d permissions, %d new: %w", len(all), len(created), err)
		}
		all, created, err = tx.PutPermissions(ctx, ws, []string{"new", "Docs.001", "docs.000"})
		if err != nil || len(all) != 3 || all[0].Slug != "docs.000" || all[1].Slug != "docs.001" || len(created) != 1 || created[0].Slug != "new" {
			return fmt.Errorf("%v, new: %v: %w", all, created, err)
		}
		return errors.Join(tx.CreateRole(ctx, ws, &tollkey.Role{ID: "role_1", Name: "Writer", Permissions: all[:2]}),
			tx.CreateRole(ctx, ws, &tollkey.Role{ID: "role_2", Name: "Admin"}))
	})
	view(t, s, func(r store.Reader) error {
		found, err := r.PermissionsBySlug(ctx, ws, asked)
		if err != nil || len(found) != 230 {
			return fmt.Errorf("%d permissions: %w", len(found), err)
		}
		for i := range found {
			if found[i].Slug != slugs[i] {
				return fmt.Errorf("%s at place %d", found[i].Slug, i)
			}
		}
		roles, err := r.RolesByName(ctx, ws, []string{"WRITER", "nothing", "admin"})
		if err != nil || len(roles) != 2 || roles[0].ID != "role_2" || len(roles[1].Permissions) != 2 || roles[1].Permissions[0].Slug != "docs.000" {
			t.Errorf("%+v %v", roles, err)
		}
		none, err := r.PermissionsBySlug(ctx, foreign, asked)
		roles, err2 := r.RolesByName(ctx, foreign, []string{"admin"})
		if len(none)+len(roles) != 0 {
			t.Errorf("from another workspace: %v %v", none, roles)
		}
		return errors.Join(err, err2)
	})
}

func concurrentPuts(t *testing.T, s store.Store) {
	seed(t, s)
	var mu sync.Mutex
	ids := map[any]int{}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			_, err := s.Update(context.Background(), now, func(tx store.Tx) error {
				owner, _, err := tx.PutIdentity(context.Background(), ws, "user_1")
				if err != nil {
					return err
				}
				slug := []string{"Docs.Read", "docs.read"}[i%2]
				all, _, err := tx.PutPermissions(context.Background(), ws, []string{slug})
				if err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				ids[owner]++
				ids[all[0].ID]++
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(ids) != 2 {
		t.Errorf("%v", ids)
	}
}

// addCredits goes to both ends of what a balance can hold, beside others who do the same.
func addCredits(t *testing.T, s store.Store) {
	seed(t, s)
	ctx, five := context.Background(), int64(5)
	update(t, s, func(tx store.Tx) error {
		limited := key("key_1")
		limited.Credits.Remaining = &five
		return tx.CreateKeys(ctx, []*tollkey.Key{limited, key("key_2")})
	})
	for _, c := range []struct {
		key          tollkey.KeyID
		amount, want int64
		done         bool
	}{
		{"key_1", 3, 8, true},
		{"key_1", 0, 8, true},
		{"key_1", -2, 6, true},
		{"key_1", -7, 0, true},
		{"key_1", -tollkey.MaxAmount, 0, true},
		{"key_1", tollkey.MaxAmount, tollkey.MaxAmount, true},
		{"key_1", 1, 0, false},
		{"key_1", -tollkey.MaxAmount + 1, 1, true},
		{"key_2", 1, 0, false},
		{"key_2", -1, 0, false},
		{"none", 1, 0, false},
	} {
		update(t, s, func(tx store.Tx) error {
			left, done, err := tx.AddCredits(ctx, c.key, c.amount)
			if left != c.want || done != c.done {
				t.Errorf("%+v: %d %v", c, left, done)
			}
			return err
		})
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, err := s.Update(ctx, now, func(tx store.Tx) error {
				if _, err := tx.LockKey(ctx, ws, "key_1"); err != nil {
					return err
				}
				_, _, err := tx.AddCredits(ctx, "key_1", 2)
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	view(t, s, func(r store.Reader) error {
		k, err := r.Key(ctx, ws, "key_1")
		if err == nil && (*k.Credits.Remaining != 41 || !k.UpdatedAt.IsZero()) {
			t.Errorf("%d credits, want 41; changed at %v", *k.Credits.Remaining, k.UpdatedAt)
		}
		return err
	})
}
