package conformance

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// Store proves an implementation of store.Store. open makes an empty store for one test.
func Store(t *testing.T, open func(t *testing.T) store.Store) {
	for name, test := range map[string]func(*testing.T, store.Store){
		"Missing":           missing,
		"Conflicts":         conflicts,
		"Transactions":      transactions,
		"Snapshot":          snapshot,
		"APISettings":       apiSettings,
		"KeyCount":          keyCount,
		"AddCredits":        addCredits,
		"KeyRoundTrip":      keyRoundTrip,
		"KeyUpdates":        keyUpdates,
		"Imports":           imports,
		"Rehash":            rehash,
		"ConcurrentImports": concurrentImports,
		"SeparateFields":    separateFields,
		"DeletedThings":     deletedThings,
		"ListKeys":          listKeys,
		"ListsByName":       listsByName,
		"ConcurrentPuts":    concurrentPuts,
		"Searches":          searches,
		"ChangesOfOneKey":   changesOfOneKey,
		"SealedSecrets":     sealedSecrets,
		"DataKeys":          dataKeys,
		"RootKeys":          rootKeys,
		"LockRootKeys":      lockRootKeys,
		"Namespaces":        namespaces,
		"Overrides":         overrides,
		"NamespacesMeet":    namespacesMeet,
		"Digests":           digests,
		"Changes":           changes,
		"ConcurrentChange":  concurrentChanges,
		"RangeOfKeys":       rangeOfKeys,
		"PruneChanges":      pruneChanges,
		"Nodes":             nodes,
		"Watch":             watch,
		"Lease":             lease,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

const (
	ws      = tollkey.WorkspaceID("ws_1")
	foreign = tollkey.WorkspaceID("ws_2")
)

var now = time.UnixMilli(1_790_000_000_000)

func update(t *testing.T, s store.Store, fn func(store.Tx) error) int64 {
	t.Helper()
	n, err := s.Update(context.Background(), now, fn)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func view(t *testing.T, s store.Store, fn func(store.Reader) error) {
	t.Helper()
	if err := s.View(context.Background(), fn); err != nil {
		t.Error(err)
	}
}

// seed makes two workspaces, the first with an API.
func seed(t *testing.T, s store.Store) {
	t.Helper()
	update(t, s, func(tx store.Tx) error {
		return errors.Join(
			tx.CreateWorkspace(t.Context(), &tollkey.Workspace{ID: ws, Name: "w", Slug: "w", Enabled: true, RequestsPerMinute: -1, CreatedAt: now}),
			tx.CreateWorkspace(t.Context(), &tollkey.Workspace{ID: foreign, Name: "f", Slug: "f", RequestsPerMinute: 7, CreatedAt: now}),
			tx.CreateAPI(t.Context(), &tollkey.API{ID: "api_1", Workspace: ws, Name: "a", CreatedAt: now, IPAllowList: []string{"10.0.0.0/8", "::1"}}),
		)
	})
}

func digest(of string) (d tollkey.Digest) {
	copy(d[:], of)
	return d
}

func key(id string) *tollkey.Key {
	return &tollkey.Key{ID: tollkey.KeyID(id), Workspace: ws, API: "api_1", Digest: digest(id), Start: "sk_abcd", Enabled: true, CreatedAt: now}
}

func rootKey(id string, workspace tollkey.WorkspaceID) *tollkey.RootKey {
	return &tollkey.RootKey{
		ID: tollkey.KeyID(id), Workspace: workspace, Digest: digest(id), Start: "root_ab", Name: "n", Permissions: []string{"api.*.create_api", "api.*.read_api"},
		Enabled: true, Expires: now.Add(time.Hour), CreatedAt: now,
	}
}

// wantError wants a *tollkey.Error of that code and, unless it is "", that reason.
func wantError(t *testing.T, what string, err error, code tollkey.Code, reason tollkey.Reason) {
	t.Helper()
	var e *tollkey.Error
	if !errors.As(err, &e) || e.Code != code || reason != "" && e.Reason != reason {
		t.Errorf("%s: %v", what, err)
	}
}

// missing asks every method for a thing that never was, and for one of another workspace: both are not found, and stay as they are.
func missing(t *testing.T, s store.Store) {
	seed(t, s)
	ctx, off := t.Context(), false
	update(t, s, func(tx store.Tx) error {
		_, _, err := tx.PutIdentity(ctx, ws, "user_1")
		return errors.Join(err, tx.CreateKeys(ctx, []*tollkey.Key{key("key_1")}), tx.CreateRootKey(ctx, rootKey("key_r", ws)))
	})
	for _, c := range []struct {
		name, id string
		reason   tollkey.Reason
		ask      func(tx store.Tx, w tollkey.WorkspaceID, id string) error
	}{
		{"API", "api_1", tollkey.ReasonAPINotFound, func(tx store.Tx, w tollkey.WorkspaceID, id string) error {
			_, err := tx.API(ctx, w, tollkey.APIID(id))
			return err
		}},
		{"Key", "key_1", tollkey.ReasonKeyNotFound, func(tx store.Tx, w tollkey.WorkspaceID, id string) error {
			_, err := tx.Key(ctx, w, tollkey.KeyID(id))
			return err
		}},
		{"RootKey", "key_r", tollkey.ReasonKeyNotFound, func(tx store.Tx, w tollkey.WorkspaceID, id string) error {
			_, err := tx.RootKey(ctx, w, tollkey.KeyID(id))
			return err
		}},
		{"Identity", "user_1", "", func(tx store.Tx, w tollkey.WorkspaceID, id string) error {
			_, err := tx.Identity(ctx, w, id)
			return err
		}},
		{"DeleteAPI", "api_1", tollkey.ReasonAPINotFound, func(tx store.Tx, w tollkey.WorkspaceID, id string) error {
			return tx.DeleteAPI(ctx, w, tollkey.APIID(id))
		}},
		{"UpdateKey", "key_1", tollkey.ReasonKeyNotFound, func(tx store.Tx, w tollkey.WorkspaceID, id string) error {
			return tx.UpdateKey(ctx, w, tollkey.KeyID(id), store.KeyUpdate{Enabled: &off})
		}},
		{"DeleteKey", "key_1", tollkey.ReasonKeyNotFound, func(tx store.Tx, w tollkey.WorkspaceID, id string) error {
			return tx.DeleteKey(ctx, w, tollkey.KeyID(id), false)
		}},
		{"DeleteKey for good", "key_1", tollkey.ReasonKeyNotFound, func(tx store.Tx, w tollkey.WorkspaceID, id string) error {
			return tx.DeleteKey(ctx, w, tollkey.KeyID(id), true)
		}},
		{"UpdateRootKey", "key_r", tollkey.ReasonKeyNotFound, func(tx store.Tx, w tollkey.WorkspaceID, id string) error {
			return tx.UpdateRootKey(ctx, w, tollkey.KeyID(id), store.RootKeyUpdate{Enabled: &off})
		}},
		{"DeleteRootKey", "key_r", tollkey.ReasonKeyNotFound, func(tx store.Tx, w tollkey.WorkspaceID, id string) error {
			return tx.DeleteRootKey(ctx, w, tollkey.KeyID(id))
		}},
	} {
		_, err := s.Update(ctx, now, func(tx store.Tx) error { return c.ask(tx, ws, "nothing") })
		wantError(t, c.name+" of nothing", err, tollkey.CodeNotFound, c.reason)
		_, err = s.Update(ctx, now, func(tx store.Tx) error { return c.ask(tx, foreign, c.id) })
		wantError(t, c.name+" from another workspace", err, tollkey.CodeNotFound, c.reason)
	}
	missingWorkspace(t, s)
	view(t, s, func(r store.Reader) error {
		k, err := r.Key(ctx, ws, "key_1")
		root, err2 := r.RootKey(ctx, ws, "key_r")
		if err := errors.Join(err, err2); err != nil || !k.Enabled || !root.Enabled {
			return fmt.Errorf("a key was touched from another workspace: %w", err)
		}
		return nil
	})
}

func missingWorkspace(t *testing.T, s store.Store) {
	ctx := t.Context()
	_, err := s.Update(ctx, now, func(tx store.Tx) error { return tx.LockRootKeys(ctx, "ws_9") })
	wantError(t, "LockRootKeys of nothing", err, tollkey.CodeNotFound, tollkey.ReasonWorkspaceNotFound)
	err = s.View(ctx, func(r store.Reader) error { _, err := r.Workspace(ctx, "ws_9"); return err })
	wantError(t, "Workspace of nothing", err, tollkey.CodeNotFound, tollkey.ReasonWorkspaceNotFound)
	if k, err := s.KeyByDigest(ctx, digest("nothing")); k != nil || err != nil {
		t.Errorf("KeyByDigest of nothing: %v %v", k, err)
	}
	if k, err := s.RootKeyByDigest(ctx, digest("nothing")); k != nil || err != nil {
		t.Errorf("RootKeyByDigest of nothing: %v %v", k, err)
	}
}

// conflicts makes everything that is unique twice; nothing of the second transaction stays.
func conflicts(t *testing.T, s store.Store) {
	seed(t, s)
	ctx := t.Context()
	update(t, s, func(tx store.Tx) error {
		return errors.Join(tx.CreateKeys(ctx, []*tollkey.Key{key("key_1")}), tx.CreateRootKey(ctx, rootKey("key_r", ws)),
			tx.CreatePermission(ctx, ws, &tollkey.Permission{ID: "perm_1", Name: "n", Slug: "Docs.Read"}),
			tx.CreateRole(ctx, ws, &tollkey.Role{ID: "role_1", Name: "Admin"}))
	})
	for name, c := range map[string]struct {
		reason tollkey.Reason
		create func(tx store.Tx) error
	}{
		"digest of a key": {"", func(tx store.Tx) error {
			k := key("key_2")
			k.Digest = digest("key_1")
			return tx.CreateKeys(ctx, []*tollkey.Key{key("key_0"), k})
		}},
		"digest of a root key": {"", func(tx store.Tx) error {
			k := rootKey("key_r2", foreign)
			k.Digest = digest("key_r")
			return tx.CreateRootKey(ctx, k)
		}},
		"workspace": {"", func(tx store.Tx) error {
			return tx.CreateWorkspace(ctx, &tollkey.Workspace{ID: "ws_3", Slug: "w", CreatedAt: now})
		}},
		"permission": {tollkey.ReasonPermissionExists, func(tx store.Tx) error {
			return tx.CreatePermission(ctx, ws, &tollkey.Permission{ID: "perm_2", Name: "n", Slug: "dOCS.rEAD"})
		}},
		"role": {tollkey.ReasonRoleExists, func(tx store.Tx) error {
			return tx.CreateRole(ctx, ws, &tollkey.Role{ID: "role_2", Name: "aDMIN"})
		}},
	} {
		number, err := s.Update(ctx, now, func(tx store.Tx) error {
			tx.Announce(store.Announcement{Cells: []string{"x"}})
			if err := tx.CreateAPI(ctx, &tollkey.API{ID: "api_x", Workspace: ws, CreatedAt: now}); err != nil {
				return err
			}
			return c.create(tx)
		})
		wantError(t, name, err, tollkey.CodeConflict, c.reason)
		if number != 0 {
			t.Errorf("%s: change %d", name, number)
		}
	}
	if err := s.View(ctx, func(r store.Reader) error { _, err := r.API(ctx, ws, "api_x"); return err }); err == nil {
		t.Error("a part of a refused transaction stayed")
	}
	if k, err := s.KeyByDigest(ctx, digest("key_0")); k != nil || err != nil {
		t.Errorf("a part of a refused batch stayed: %v %v", k, err)
	}
	update(t, s, func(tx store.Tx) error { // names belong to a workspace
		return errors.Join(tx.CreatePermission(ctx, foreign, &tollkey.Permission{ID: "perm_3", Name: "n", Slug: "docs.read"}),
			tx.CreateRole(ctx, foreign, &tollkey.Role{ID: "role_3", Name: "admin"}))
	})
}

// transactions: its own writes are seen, and an error is handed back as it is and leaves nothing.
func transactions(t *testing.T, s store.Store) {
	seed(t, s)
	ctx, refused := t.Context(), errors.New("refused")
	number, err := s.Update(ctx, now, func(tx store.Tx) error {
		tx.Announce(store.Announcement{Cells: []string{"api_2"}})
		if err := tx.CreateAPI(ctx, &tollkey.API{ID: "api_2", Workspace: ws, CreatedAt: tx.Now()}); err != nil {
			return err
		}
		if a, err := tx.API(ctx, ws, "api_2"); err != nil || !a.CreatedAt.Equal(now) {
			t.Errorf("its own API: %+v %v", a, err)
		}
		return refused
	})
	if number != 0 || !errors.Is(err, refused) {
		t.Errorf("a refused transaction: change %d, %v", number, err)
	}
	err = s.View(ctx, func(r store.Reader) error { _, err := r.API(ctx, ws, "api_2"); return err })
	wantError(t, "the API of a refused transaction", err, tollkey.CodeNotFound, tollkey.ReasonAPINotFound)
	if err := s.View(ctx, func(store.Reader) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("a refused view: %v", err)
	}
	if n := update(t, s, func(store.Tx) error { return nil }); n != 0 {
		t.Errorf("nothing was announced as change %d", n)
	}
	if head, err := s.Head(ctx); err != nil || head.Number != 0 {
		t.Errorf("%+v %v", head, err)
	}
}

// snapshot: what is committed while a view runs is not seen by it.
func snapshot(t *testing.T, s store.Store) {
	seed(t, s)
	ctx, made := t.Context(), false
	view(t, s, func(r store.Reader) error {
		before, err := r.CountWorkspaces(ctx)
		if err != nil {
			return err
		}
		if !made {
			made = true
			update(t, s, func(tx store.Tx) error {
				return tx.CreateWorkspace(ctx, &tollkey.Workspace{ID: "ws_3", Slug: "late", CreatedAt: now})
			})
		}
		if after, err := r.CountWorkspaces(ctx); err != nil || after != before {
			t.Errorf("%d workspaces became %d: %v", before, after, err)
		}
		_, err = r.Workspace(ctx, "ws_3")
		wantError(t, "a later workspace", err, tollkey.CodeNotFound, tollkey.ReasonWorkspaceNotFound)
		return nil
	})
	view(t, s, func(r store.Reader) error {
		if n, err := r.CountWorkspaces(ctx); err != nil || n != 3 {
			t.Errorf("%d workspaces, %v", n, err)
		}
		return nil
	})
}
