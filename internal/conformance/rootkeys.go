package conformance

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

func rootKeys(t *testing.T, s store.Store) {
	seed(t, s)
	ctx := t.Context()
	update(t, s, func(tx store.Tx) error {
		return errors.Join(tx.CreateRootKey(ctx, rootKey("key_b", ws)), tx.CreateRootKey(ctx, rootKey("key_a", ws)),
			tx.CreateRootKey(ctx, rootKey("key_c", ws)), tx.CreateRootKey(ctx, rootKey("key_f", foreign)), tx.CreateRootKey(ctx, rootKey("key_g", "ws_gone")))
	})
	k, err := s.RootKeyByDigest(ctx, digest("key_a"))
	if err != nil || k == nil || k.Workspace != ws || k.Name != "n" || len(k.Permissions) != 2 || !k.Expires.Equal(now.Add(time.Hour)) || !k.CreatedAt.Equal(now) ||
		!k.WorkspaceEnabled || k.WorkspaceMissing || k.RequestsPerMinute >= 0 {
		t.Errorf("%+v %v", k, err)
	}
	if f, err := s.RootKeyByDigest(ctx, digest("key_f")); err != nil || f.WorkspaceEnabled || f.WorkspaceMissing || f.RequestsPerMinute != 7 {
		t.Errorf("of a disabled workspace: %+v %v", f, err)
	}
	if g, err := s.RootKeyByDigest(ctx, digest("key_g")); err != nil || !g.WorkspaceMissing || g.WorkspaceEnabled {
		t.Errorf("of no workspace: %+v %v", g, err)
	}
	if k, err := s.KeyByDigest(ctx, digest("key_a")); k != nil || err != nil {
		t.Errorf("a root key is found as a key: %+v %v", k, err)
	}
	for _, c := range []struct {
		ws   tollkey.WorkspaceID
		page store.Page
		want string
	}{
		{ws, store.Page{Limit: 9}, "[key_a key_b key_c]"},
		{ws, store.Page{Limit: 2}, "[key_a key_b]"},
		{ws, store.Page{From: "key_b", Limit: 9}, "[key_b key_c]"},
		{foreign, store.Page{Limit: 9}, "[key_f]"},
	} {
		view(t, s, func(r store.Reader) error {
			page, err := r.ListRootKeys(ctx, c.ws, c.page)
			ids := []tollkey.KeyID{}
			for i := range page {
				ids = append(ids, page[i].ID)
			}
			if fmt.Sprint(ids) != c.want {
				t.Errorf("%+v: %v", c, ids)
			}
			return err
		})
	}
	rootKeyUpdates(t, s)
}

func rootKeyUpdates(t *testing.T, s store.Store) {
	ctx, off, name, permissions, never := t.Context(), false, "other", []string{"api.*.delete_api"}, time.Time{}
	for i, u := range []store.RootKeyUpdate{{}, {Name: &name}, {Permissions: &permissions}, {Enabled: &off}, {Expires: &never}} {
		update(t, s, func(tx store.Tx) error { return tx.UpdateRootKey(ctx, ws, "key_a", u) })
		k, err := s.RootKeyByDigest(ctx, digest("key_a"))
		if err != nil || (k.Name == name) != (i >= 1) || slices.Equal(k.Permissions, permissions) != (i >= 2) || k.Enabled != (i < 3) || k.Expires.IsZero() != (i >= 4) {
			t.Errorf("after update %d: %+v %v", i, k, err)
		}
	}
	update(t, s, func(tx store.Tx) error { return tx.DeleteRootKey(ctx, ws, "key_a") })
	if k, err := s.RootKeyByDigest(ctx, digest("key_a")); k != nil || err != nil {
		t.Errorf("a deleted root key: %+v %v", k, err)
	}
	_, err := s.Update(ctx, now, func(tx store.Tx) error { return tx.UpdateRootKey(ctx, ws, "key_a", store.RootKeyUpdate{}) })
	wantError(t, "updating a deleted root key", err, tollkey.CodeNotFound, tollkey.ReasonKeyNotFound)
}

// lockRootKeys has many transactions delete a root key each unless it is the last: one stays.
func lockRootKeys(t *testing.T, s store.Store) {
	seed(t, s)
	ctx, last := t.Context(), errors.New("the last one")
	const many = 8
	id := func(i int) string { return fmt.Sprint("key_", i) }
	update(t, s, func(tx store.Tx) error {
		for i := range many {
			if err := tx.CreateRootKey(ctx, rootKey(id(i), ws)); err != nil {
				return err
			}
		}
		return nil
	})
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			_, err := s.Update(ctx, now, func(tx store.Tx) error {
				if err := tx.LockRootKeys(ctx, ws); err != nil {
					return err
				}
				left, err := tx.ListRootKeys(ctx, ws, store.Page{Limit: 2})
				if err != nil {
					return err
				}
				if len(left) == 1 {
					return last
				}
				return tx.DeleteRootKey(ctx, ws, tollkey.KeyID(id(i)))
			})
			if err != nil && !errors.Is(err, last) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	view(t, s, func(r store.Reader) error {
		left, err := r.ListRootKeys(ctx, ws, store.Page{Limit: many})
		if len(left) != 1 {
			t.Errorf("%d root keys are left", len(left))
		}
		return err
	})
}
