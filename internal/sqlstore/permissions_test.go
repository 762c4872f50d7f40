package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

const ws = tollkey.WorkspaceID("ws_1")

func update(t *testing.T, db *DB, fn func(store.Tx) error) {
	t.Helper()
	if _, err := db.Update(context.Background(), now, fn); err != nil {
		t.Fatal(err)
	}
}

// seed makes a workspace with an API.
func seed(t *testing.T, db *DB) {
	t.Helper()
	update(t, db, func(tx store.Tx) error {
		return errors.Join(
			tx.CreateWorkspace(t.Context(), &tollkey.Workspace{ID: ws, Name: "w", Slug: "w", Enabled: true, RequestsPerMinute: -1, CreatedAt: now}),
			tx.CreateAPI(t.Context(), &tollkey.API{ID: "api_1", Workspace: ws, Name: "a", CreatedAt: now}))
	})
}

func key(id string) *tollkey.Key {
	k := &tollkey.Key{ID: tollkey.KeyID(id), Workspace: ws, API: "api_1", Enabled: true, CreatedAt: now}
	copy(k.Digest[:], id)
	return k
}

func count(t *testing.T, db *DB, text string) (n int) {
	t.Helper()
	if err := db.main.pool.QueryRow(text).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// orphans counts links that lead nowhere.
func orphans(t *testing.T, db *DB) int {
	t.Helper()
	return count(t, db, `select (select count(*) from role_permissions where permission_id not in (select id from permissions) or role_id not in (select id from roles)) +
		(select count(*) from key_permissions where permission_id not in (select id from permissions)) +
		(select count(*) from key_roles where role_id not in (select id from roles))`)
}

// TestDeletedWithLinks gives a permission and a role to more keys than one transaction unlinks.
func TestDeletedWithLinks(t *testing.T) {
	onBoth(t, func(t *testing.T, db *DB) {
		seed(t, db)
		ctx := t.Context()
		const holders = linkSlice + 300
		update(t, db, func(tx store.Tx) error {
			all, _, err := tx.PutPermissions(ctx, ws, []string{"kept", "gone"})
			if err != nil {
				return err
			}
			role := tollkey.Role{ID: "role_1", Name: "Gone", Permissions: all}
			if err := tx.CreateRole(ctx, ws, &role); err != nil {
				return err
			}
			keys := make([]*tollkey.Key, holders)
			for i := range keys {
				keys[i] = key(fmt.Sprintf("key_%04d", i))
				keys[i].Permissions, keys[i].Roles = all, []tollkey.Role{role}
			}
			return tx.CreateKeys(ctx, keys)
		})
		update(t, db, func(tx store.Tx) error {
			p, roles, err := tx.DeletePermission(ctx, ws, "GONE")
			if err != nil || p.Slug != "gone" || !slices.Equal(roles, []tollkey.RoleID{"role_1"}) {
				return fmt.Errorf("%v %v: %w", p, roles, err)
			}
			return nil
		})
		look := func(permissions, roles, held int) {
			t.Helper()
			r, err := db.KeyByDigest(ctx, key("key_0799").Digest)
			if err != nil || len(r.Permissions) != permissions || len(r.Roles) != roles || roles > 0 && len(r.Roles[0].Permissions) != held {
				t.Errorf("%+v %v", r, err)
			}
		}
		look(1, 1, 1)
		update(t, db, func(tx store.Tx) error {
			_, err := tx.DeleteRole(ctx, ws, "gONE")
			return err
		})
		look(1, 0, 0)
		if left := orphans(t, db); left != 600 {
			t.Errorf("%d links are left for later, want 600", left)
		}
		removed := 0
		for {
			n, err := db.PruneLinks(ctx, 200)
			if removed += n; err != nil || n == 0 && count(t, db, "select count(*) from removed") == 0 {
				if err != nil {
					t.Fatal(err)
				}
				break
			}
		}
		if left, kept := orphans(t, db), count(t, db, "select count(*) from key_permissions"); removed != 600 || left != 0 || kept != holders {
			t.Errorf("%d removed, %d left, %d kept", removed, left, kept)
		}
		for _, delete := range []func(store.Tx) error{
			func(tx store.Tx) error { _, _, err := tx.DeletePermission(ctx, ws, "gone"); return err },
			func(tx store.Tx) error { _, _, err := tx.DeletePermission(ctx, "ws_2", "kept"); return err },
			func(tx store.Tx) error { _, err := tx.DeleteRole(ctx, ws, "role_1"); return err },
		} {
			var e *tollkey.Error
			if _, err := db.Update(ctx, now, delete); !errors.As(err, &e) || e.Code != tollkey.CodeNotFound {
				t.Errorf("%v", err)
			}
		}
	})
}

// TestLinkingAgainstDeleting links permissions to roles and keys, and roles to keys, while others delete them: no link may lead nowhere, and what
// DeletePermission says of the roles must be complete.
func TestLinkingAgainstDeleting(t *testing.T) {
	onBoth(t, func(t *testing.T, db *DB) {
		seed(t, db)
		ctx := context.Background()
		update(t, db, func(tx store.Tx) error {
			return errors.Join(tx.CreateKeys(ctx, []*tollkey.Key{key("key_1")}), tx.CreateRole(ctx, ws, &tollkey.Role{ID: "role_1", Name: "r"}))
		})
		var wg sync.WaitGroup
		do := func(fn func(tx store.Tx) error) {
			wg.Go(func() {
				var e *tollkey.Error
				if _, err := db.Update(ctx, now, fn); err != nil && (!errors.As(err, &e) || e.Code != tollkey.CodeNotFound) {
					t.Error(err)
				}
			})
		}
		for i := range 40 {
			name := fmt.Sprint("temp", i%4)
			do(func(tx store.Tx) error {
				if _, err := tx.LockRole(ctx, ws, "role_1"); err != nil {
					return err
				}
				all, _, err := tx.PutPermissions(ctx, ws, []string{"x." + name, "kept"})
				if err != nil {
					return err
				}
				return tx.ChangeRolePermissions(ctx, "role_1", permissionIDs(all), nil)
			})
			do(func(tx store.Tx) error {
				if _, err := tx.LockKey(ctx, ws, "key_1"); err != nil {
					return err
				}
				all, _, err := tx.PutPermissions(ctx, ws, []string{"X." + strings.ToUpper(name)})
				if err != nil {
					return err
				}
				roles, err := tx.RolesByName(ctx, ws, []string{name})
				if err != nil {
					return err
				}
				return tx.ChangeKeyLinks(ctx, ws, "key_1", store.KeyLinks{Permissions: permissionIDs(all), Roles: roleIDs(roles)}, store.KeyLinks{})
			})
			do(func(tx store.Tx) error {
				_, _, err := tx.DeletePermission(ctx, ws, "x."+name)
				return err
			})
			do(func(tx store.Tx) error {
				id := tollkey.RoleID(tollkey.NewID("role", now))
				if err := tx.CreateRole(ctx, ws, &tollkey.Role{ID: id, Name: name}); !tollkey.IsReason(err, tollkey.ReasonRoleExists) {
					return err
				}
				_, err := tx.DeleteRole(ctx, ws, name)
				return err
			})
		}
		wg.Wait()
		if left := orphans(t, db); left != 0 {
			t.Errorf("%d links lead nowhere", left)
		}
	})
}

// TestDeletingWaitsForLinking stops a transaction that has linked a permission to a role before its commit, and deletes the permission meanwhile.
func TestDeletingWaitsForLinking(t *testing.T) {
	onBoth(t, func(t *testing.T, db *DB) {
		ctx := context.Background()
		update(t, db, func(tx store.Tx) error {
			_, _, err := tx.PutPermissions(ctx, ws, []string{"p"})
			return errors.Join(err, tx.CreateRole(ctx, ws, &tollkey.Role{ID: "role_1", Name: "r"}))
		})
		deleted := make(chan struct{})
		update(t, db, func(tx store.Tx) error {
			all, _, err := tx.PutPermissions(ctx, ws, []string{"p"})
			if err != nil {
				return err
			}
			go func() {
				defer close(deleted)
				_, err := db.Update(ctx, now, func(tx store.Tx) error {
					_, roles, err := tx.DeletePermission(ctx, ws, "p")
					if err == nil && !slices.Equal(roles, []tollkey.RoleID{"role_1"}) {
						err = fmt.Errorf("held by %v", roles)
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}()
			for waits(t, db) == 0 {
				select {
				case <-deleted:
					return errors.New("the permission was deleted while it was being linked")
				case <-time.After(time.Millisecond):
				}
			}
			return tx.ChangeRolePermissions(ctx, "role_1", permissionIDs(all), nil)
		})
		<-deleted
		if left := orphans(t, db); left != 0 {
			t.Errorf("%d links lead nowhere", left)
		}
	})
}

// waits counts the transactions that wait for another.
func waits(t *testing.T, db *DB) int {
	if !db.Solo() {
		return count(t, db, "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'")
	}
	db.main.writer.mu.Lock()
	defer db.main.writer.mu.Unlock()
	return len(db.main.writer.normal)
}

// counting counts statements.
type counting struct {
	querier
	n int
}

func (c *counting) ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error) {
	c.n++
	return c.querier.ExecContext(ctx, text, args...)
}

func (c *counting) QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	c.n++
	return c.querier.QueryContext(ctx, text, args...)
}

// TestStatementsOfLongLists holds the number of statements to a small part of the lists' lengths.
func TestStatementsOfLongLists(t *testing.T) {
	onBoth(t, func(t *testing.T, db *DB) {
		seed(t, db)
		ctx := t.Context()
		err := db.main.update(ctx, func(q querier) error {
			c := &counting{querier: q}
			tx := &tx{reader: reader{c}, now: now, keepRow: db.main.dialect.keepRow}
			slugs := make([]string, 1000)
			for i := range slugs {
				slugs[i] = fmt.Sprintf("p.%04d", i)
			}
			all, created, err := tx.PutPermissions(ctx, ws, slugs)
			if err != nil || len(all) != 1000 || len(created) != 1000 || c.n > 30 {
				t.Errorf("1,000 new permissions: %d, %d in %d statements, %v", len(all), len(created), c.n, err)
			}
			k := key("key_1")
			k.Permissions = all
			if c.n = 0; err == nil {
				err = tx.CreateKeys(ctx, []*tollkey.Key{k})
			}
			for range 1000 {
				tx.Audit(tollkey.AuditEntry{ID: tollkey.NewID("log", now), Workspace: ws, Event: "key.create"})
			}
			if err == nil {
				_, err = tx.finish(ctx)
			}
			if err != nil || c.n > 25 {
				t.Errorf("1,000 links and audit entries in %d statements, %v", c.n, err)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}
