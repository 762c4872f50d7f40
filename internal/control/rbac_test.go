package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/access"
	"github.com/tollkey/tollkey/internal/conformance"
	"github.com/tollkey/tollkey/internal/sqlstore"
	"github.com/tollkey/tollkey/internal/store"
	"github.com/tollkey/tollkey/internal/vault"
)

// recorder is a store that remembers what the last committed transaction audited and announced.
type recorder struct {
	store.Store
	mu      sync.Mutex
	audited []tollkey.AuditEntry
	cells   []string
}

type recordingTx struct {
	store.Tx
	audited []tollkey.AuditEntry
	cells   []string
}

func (t *recordingTx) Audit(entries ...tollkey.AuditEntry) {
	t.audited = append(t.audited, entries...)
	t.Tx.Audit(entries...)
}

func (t *recordingTx) Announce(a store.Announcement) {
	t.cells = append(t.cells, a.Cells...)
	t.Tx.Announce(a)
}

func (r *recorder) Update(ctx context.Context, now time.Time, fn func(store.Tx) error) (int64, error) {
	var last *recordingTx
	n, err := r.Store.Update(ctx, now, func(tx store.Tx) error {
		last = &recordingTx{Tx: tx}
		return fn(last)
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.audited, r.cells = nil, nil
	if err == nil {
		r.audited, r.cells = last.audited, last.cells
	}
	return n, err
}

// lines shows each audit entry as its event and the names of its targets, ordered.
func (r *recorder) lines(t *testing.T) string {
	t.Helper()
	var out []string
	for _, e := range r.audited {
		var targets []string
		for _, target := range e.Targets {
			targets = append(targets, target.Type+":"+target.Name)
		}
		out = append(out, e.Event+"("+strings.Join(targets, " ")+")")
		if e.Correlation != r.audited[0].Correlation || e.Correlation == "" || e.Actor.ID != "key_root" {
			t.Errorf("%+v", e)
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

const ws = tollkey.WorkspaceID("ws_1")

func caller(workspace tollkey.WorkspaceID, without ...string) Caller {
	p := &tollkey.Principal{RootKey: "key_root", Workspace: workspace, Permissions: map[string]struct{}{}}
	for _, name := range access.All() {
		if !slices.Contains(without, name) {
			p.Permissions[name] = struct{}{}
		}
	}
	return Caller{Principal: p}
}

// onBoth runs a test on a Service over each engine, with an API and a key.
func onBoth(t *testing.T, test func(t *testing.T, s *Service, r *recorder, key tollkey.KeyID)) {
	for name, options := range map[string]func(t *testing.T) sqlstore.Options{
		"sqlite":   func(t *testing.T) sqlstore.Options { return sqlstore.Options{Dir: t.TempDir()} },
		"postgres": func(t *testing.T) sqlstore.Options { return sqlstore.Options{URL: conformance.Postgres(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			db, err := sqlstore.Open(t.Context(), options(t))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			})
			r := &recorder{Store: db}
			confirm := func(context.Context, int64) tollkey.Propagation {
				return tollkey.Propagation{Confirmed: true, Nodes: 1}
			}
			s := New(r, db, vault.New(nil), confirm, func() time.Time { return time.UnixMilli(1_790_000_000_000) })
			_, err = db.Update(t.Context(), s.now(), func(tx store.Tx) error {
				return tx.CreateWorkspace(t.Context(), &tollkey.Workspace{ID: ws, Name: "w", Slug: "w", Enabled: true, RequestsPerMinute: -1, CreatedAt: tx.Now()})
			})
			api, _, err2 := s.CreateAPI(t.Context(), caller(ws), "payments")
			key, _, _, err3 := s.CreateKey(t.Context(), caller(ws), NewKey{API: api, Name: "k", Enabled: true})
			if err := errors.Join(err, err2, err3); err != nil {
				t.Fatal(err)
			}
			test(t, s, r, key)
		})
	}
}

func slugs(list []tollkey.Permission) string {
	var out []string
	for _, p := range list {
		out = append(out, p.Slug)
	}
	return strings.Join(out, " ")
}

func names(list []tollkey.Role) string {
	var out []string
	for _, r := range list {
		out = append(out, r.Name+"("+slugs(r.Permissions)+")")
	}
	return strings.Join(out, " ")
}

// TestAuditAndCells checks after each change what it answered, audited and announced.
func TestAuditAndCells(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Service, r *recorder, key tollkey.KeyID) {
		ctx, me := t.Context(), caller(ws)
		var role tollkey.RoleID
		step := func(name, answer, wantAnswer, audited string, cells ...string) {
			t.Helper()
			if answer != wantAnswer {
				t.Errorf("%s: answers %q, want %q", name, answer, wantAnswer)
			}
			if got := r.lines(t); got != audited {
				t.Errorf("%s: audited\n%s\nwant\n%s", name, got, audited)
			}
			if slices.Sort(r.cells); !slices.Equal(r.cells, cells) {
				t.Errorf("%s: announced %v, want %v", name, r.cells, cells)
			}
		}
		of := func(list []tollkey.Permission, _ tollkey.Propagation, err error) string {
			return slugs(list) + errorText(err)
		}
		roles := func(list []tollkey.Role, _ tollkey.Propagation, err error) string {
			return names(list) + errorText(err)
		}
		done := func(_ tollkey.Propagation, err error) string { return errorText(err) }

		role, _, err := s.CreateRole(ctx, me, "Editor", "", []string{"b", "A", "a", "B"})
		step("createRole", errorText(err), "", "authorization.connect_role_and_permission(role:Editor permission:A)\n"+
			"authorization.connect_role_and_permission(role:Editor permission:b)\npermission.create(permission:A)\npermission.create(permission:b)\nrole.create(role:Editor)", string(role))
		step("add", of(s.AddKeyPermissions(ctx, me, key, []string{"z", "b", "B"})), "b z", "authorization.connect_permission_and_key(key:k permission:b)\n"+
			"authorization.connect_permission_and_key(key:k permission:z)\npermission.create(permission:z)", string(key))
		step("add again", of(s.AddKeyPermissions(ctx, me, key, []string{"Z"})), "b z", "")
		step("add more", of(s.AddKeyPermissions(ctx, me, key, []string{"c", "z", "a"})), "b z A c", "authorization.connect_permission_and_key(key:k permission:A)\n"+
			"authorization.connect_permission_and_key(key:k permission:c)\npermission.create(permission:c)", string(key))
		step("set", of(s.SetKeyPermissions(ctx, me, key, []string{"z", "d"})), "d z", "authorization.connect_permission_and_key(key:k permission:d)\n"+
			"authorization.disconnect_permission_and_key(key:k permission:A)\nauthorization.disconnect_permission_and_key(key:k permission:b)\n"+
			"authorization.disconnect_permission_and_key(key:k permission:c)\npermission.create(permission:d)", string(key))
		step("set again", of(s.SetKeyPermissions(ctx, me, key, []string{"D", "Z"})), "d z", "")
		step("remove", of(s.RemoveKeyPermissions(ctx, me, key, []string{"D", "c"})), "z", "authorization.disconnect_permission_and_key(key:k permission:d)", string(key))
		step("remove again", of(s.RemoveKeyPermissions(ctx, me, key, []string{"d"})), "z", "")
		step("remove what is unknown", of(s.RemoveKeyPermissions(ctx, me, key, []string{"z", "nope"})), "permission_not_found", "")
		step("roles", roles(s.AddKeyRoles(ctx, me, key, []string{"EDITOR", "Editor"})), "Editor(A b)", "authorization.connect_role_and_key(key:k role:Editor)", string(key))
		step("roles again", roles(s.SetKeyRoles(ctx, me, key, []string{"editor"})), "Editor(A b)", "")
		step("an unknown role", roles(s.SetKeyRoles(ctx, me, key, []string{"editor", "nope"})), "role_not_found", "")
		step("a role's id", roles(s.AddKeyRoles(ctx, me, key, []string{string(role)})), "role_not_found", "")
		step("set role", of(s.SetRolePermissions(ctx, me, role, []string{"e", "a"})), "A e", "authorization.connect_role_and_permission(role:Editor permission:e)\n"+
			"authorization.disconnect_role_and_permissions(role:Editor permission:b)\npermission.create(permission:e)", string(role))
		step("set role again", of(s.SetRolePermissions(ctx, me, role, []string{"A", "E", "a"})), "A e", "")
		e := permission(t, s, "e")
		step("delete a role's permission", done(s.DeletePermission(ctx, me, "E")), "", "permission.delete(permission:e)", sorted(string(role), string(e))...)
		step("remove roles", roles(s.RemoveKeyRoles(ctx, me, key, []string{"editor"})), "", "authorization.disconnect_role_and_key(key:k role:Editor)", string(key))
		step("delete role", done(s.DeleteRole(ctx, me, "EDITOR")), "", "role.delete(role:Editor)", string(role))
		step("delete role again", done(s.DeleteRole(ctx, me, string(role))), "role_not_found", "")
		step("set a deleted role", of(s.SetRolePermissions(ctx, me, role, nil)), "role_not_found", "")
		step("clear", of(s.SetKeyPermissions(ctx, me, key, nil)), "", "authorization.disconnect_permission_and_key(key:k permission:z)", string(key))
	})
}

func permission(t *testing.T, s *Service, ref string) tollkey.PermissionID {
	t.Helper()
	p, err := s.GetPermission(t.Context(), caller(ws), ref)
	if err != nil {
		t.Fatal(err)
	}
	return p.ID
}

func sorted(list ...string) []string {
	slices.Sort(list)
	return list
}

func errorText(err error) string {
	var e *tollkey.Error
	if errors.As(err, &e) {
		return string(e.Reason)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// TestRefusedLinksWriteNothing takes each permission that a call needs away, one at a time.
func TestRefusedLinksWriteNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Service, r *recorder, key tollkey.KeyID) {
		ctx, id := t.Context(), string(key)
		role, _, err := s.CreateRole(ctx, caller(ws), "r", "", []string{"held"})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.AddKeyPermissions(ctx, caller(ws), key, []string{"own"}); err != nil {
			t.Fatal(err)
		}
		calls := map[string]struct {
			call  func(Caller, string) error
			needs string
		}{
			"addPermissions": {func(c Caller, id string) error {
				_, _, err := s.AddKeyPermissions(ctx, c, tollkey.KeyID(id), []string{"new"})
				return err
			}, "api.*.update_key rbac.*.add_permission_to_key rbac.*.create_permission"},
			"setPermissions": {func(c Caller, id string) error {
				_, _, err := s.SetKeyPermissions(ctx, c, tollkey.KeyID(id), []string{"new"})
				return err
			}, "api.*.update_key rbac.*.add_permission_to_key rbac.*.remove_permission_from_key rbac.*.create_permission"},
			"removePermissions": {func(c Caller, id string) error {
				_, _, err := s.RemoveKeyPermissions(ctx, c, tollkey.KeyID(id), []string{"own"})
				return err
			}, "api.*.update_key rbac.*.remove_permission_from_key"},
			"addRoles": {func(c Caller, id string) error {
				_, _, err := s.AddKeyRoles(ctx, c, tollkey.KeyID(id), []string{"r"})
				return err
			}, "api.*.update_key rbac.*.add_role_to_key"},
			"setRoles": {func(c Caller, id string) error {
				_, _, err := s.SetKeyRoles(ctx, c, tollkey.KeyID(id), []string{"r"})
				return err
			}, "api.*.update_key"},
			"removeRoles": {func(c Caller, id string) error {
				_, _, err := s.RemoveKeyRoles(ctx, c, tollkey.KeyID(id), []string{"r"})
				return err
			}, "api.*.update_key"},
			"setRolePermissions": {func(c Caller, _ string) error {
				_, _, err := s.SetRolePermissions(ctx, c, role, []string{"new"})
				return err
			}, "rbac.*.add_permission_to_role rbac.*.remove_permission_from_role rbac.*.create_permission"},
			"createRole": {func(c Caller, _ string) error {
				_, _, err := s.CreateRole(ctx, c, "other", "", []string{"new"})
				return err
			}, "rbac.*.create_role rbac.*.add_permission_to_role rbac.*.create_permission"},
		}
		for name, c := range calls {
			for _, permission := range strings.Fields(c.needs) {
				err := c.call(caller(ws, permission), id)
				if !tollkey.IsReason(err, tollkey.ReasonInsufficientPermissions) || !strings.Contains(err.Error(), permission) {
					t.Errorf("%s without %s: %v", name, permission, err)
				}
			}
			if strings.HasPrefix(c.needs, "api.") {
				// What is missing, or another workspace's, is missing whatever the caller holds.
				for _, other := range []Caller{caller("ws_2"), {Principal: &tollkey.Principal{Workspace: ws}}} {
					missing := id
					if other.Workspace == ws {
						missing = "key_none"
					}
					if err := c.call(other, missing); !tollkey.IsReason(err, tollkey.ReasonKeyNotFound) {
						t.Errorf("%s of a missing key: %v", name, err)
					}
				}
			}
		}
		k, _, err := s.GetKey(ctx, caller(ws), key, false)
		if err != nil || slugs(k.Permissions) != "own" || len(k.Roles) != 0 {
			t.Errorf("%+v %v", k, err)
		}
		all, _, err := s.ListPermissions(ctx, caller(ws), "", store.Page{Limit: 100})
		if err != nil || slugs(all) != "held own" {
			t.Errorf("%v %v", all, err)
		}
	})
}

// TestParallelChangesOfOneKey adds at once; every addition stays, and those that share a new slug share one permission.
func TestParallelChangesOfOneKey(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Service, _ *recorder, key tollkey.KeyID) {
		for i := range 10 {
			if _, _, err := s.CreateRole(t.Context(), caller(ws), fmt.Sprint("r", i), "", nil); err != nil {
				t.Fatal(err)
			}
		}
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				_, _, err := s.AddKeyPermissions(context.Background(), caller(ws), key, []string{fmt.Sprint("p", i), []string{"Shared", "shared"}[i%2]})
				_, _, err2 := s.AddKeyRoles(context.Background(), caller(ws), key, []string{fmt.Sprint("r", i)})
				if err := errors.Join(err, err2); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		k, _, err := s.GetKey(t.Context(), caller(ws), key, false)
		if err != nil || len(k.Permissions) != 11 || len(k.Roles) != 10 {
			t.Errorf("%d permissions, %d roles, %v", len(k.Permissions), len(k.Roles), err)
		}
	})
}
