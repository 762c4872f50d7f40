package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// searches are literal, without regard to letter case, and paged.
func searches(t *testing.T, s store.Store) {
	ctx := t.Context()
	update(t, s, func(tx store.Tx) error {
		for i, p := range []tollkey.Permission{
			{Name: "100% ÄRGER", Slug: "a.one"},
			{Name: "under_score", Slug: "a.two"},
			{Name: `back\slash`, Slug: "a.three"},
			{Name: "plain", Slug: "A.Four", Description: "Straße! 1000"},
		} {
			p.ID = tollkey.PermissionID(fmt.Sprint("perm_", i))
			role := tollkey.Role{ID: tollkey.RoleID(fmt.Sprint("role_", i)), Name: p.Name, Description: p.Description}
			if err := errors.Join(tx.CreatePermission(ctx, ws, &p), tx.CreateRole(ctx, ws, &role)); err != nil {
				return err
			}
		}
		return tx.CreatePermission(ctx, "ws_2", &tollkey.Permission{ID: "perm_9", Name: "plain", Slug: "a.four"})
	})
	for search, want := range map[string]string{
		"": "0123", "%": "0", "_": "0123", "r_s": "1", `\`: "2", "ärger": "0", "STRASSE": "", "straße!": "3", "a.f": "3", "PERM_2": "2", "0% ä": "0", "!": "3", "%%": "",
	} {
		view(t, s, func(r store.Reader) error {
			permissions, err := r.ListPermissions(ctx, ws, search, store.Page{Limit: 10})
			var got strings.Builder
			for _, p := range permissions {
				got.WriteString(strings.TrimPrefix(string(p.ID), "perm_"))
			}
			if err != nil || got.String() != want {
				t.Errorf("permissions with %q: %q, want %q %v", search, got.String(), want, err)
			}
			roles, err := r.ListRoles(ctx, ws, search, store.Page{Limit: 10})
			if err != nil || search == "ärger" && (len(roles) != 1 || roles[0].ID != "role_0") {
				t.Errorf("roles with %q: %v %v", search, roles, err)
			}
			return nil
		})
	}
	view(t, s, func(r store.Reader) error {
		page, err := r.ListPermissions(ctx, ws, "", store.Page{From: "perm_1", Limit: 2})
		if err != nil || len(page) != 2 || page[0].ID != "perm_1" || page[1].ID != "perm_2" {
			t.Errorf("%v %v", page, err)
		}
		if p, err := r.Permission(ctx, ws, "a.FOUR"); err != nil || p.ID != "perm_3" || p.Slug != "A.Four" {
			t.Errorf("%v %v", p, err)
		}
		if _, err := r.Permission(ctx, ws, "PERM_3"); !tollkey.IsReason(err, tollkey.ReasonPermissionNotFound) {
			t.Errorf("ids are case-sensitive: %v", err)
		}
		if _, err := r.Role(ctx, "ws_2", "role_1"); !tollkey.IsReason(err, tollkey.ReasonRoleNotFound) {
			t.Errorf("a foreign role: %v", err)
		}
		return nil
	})
}

// changesOfOneKey adds and removes different permissions of one key at once.
func changesOfOneKey(t *testing.T, s store.Store) {
	seed(t, s)
	ctx := context.Background()
	update(t, s, func(tx store.Tx) error {
		k := key("key_1")
		for i := range 10 {
			all, _, err := tx.PutPermissions(ctx, ws, []string{fmt.Sprint("old.", i)})
			if err != nil {
				return err
			}
			k.Permissions = append(k.Permissions, all...)
		}
		return tx.CreateKeys(ctx, []*tollkey.Key{k})
	})
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			_, err := s.Update(ctx, now, func(tx store.Tx) error {
				k, err := tx.LockKey(ctx, ws, "key_1")
				if err != nil {
					return err
				}
				if i < 10 {
					return tx.ChangeKeyLinks(ctx, ws, k.ID, store.KeyLinks{}, store.KeyLinks{Permissions: []tollkey.PermissionID{k.Permissions[0].ID}})
				}
				all, _, err := tx.PutPermissions(ctx, ws, []string{fmt.Sprint("z.new.", i), "z.new.shared"})
				if err != nil {
					return err
				}
				return tx.ChangeKeyLinks(ctx, ws, k.ID, store.KeyLinks{Permissions: permissionIDs(all)}, store.KeyLinks{})
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	view(t, s, func(r store.Reader) error {
		k, err := r.Key(ctx, ws, "key_1")
		if err != nil || len(k.Permissions) != 11 {
			t.Errorf("%v %v", k, err)
		}
		return nil
	})
}

func permissionIDs(list []tollkey.Permission) []tollkey.PermissionID {
	out := make([]tollkey.PermissionID, len(list))
	for i, p := range list {
		out[i] = p.ID
	}
	return out
}
