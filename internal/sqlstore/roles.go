package sqlstore

import (
	"context"
	"database/sql"
	"slices"
	"strings"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

const roleSelect = `select id, name, description from roles where workspace_id = $1 and `

var (
	qRole            = hotQuery(roleSelect + `(id = $2 or folded = $3) order by case when id = $2 then 0 else 1 end limit 1`)
	qRoleByID        = hotQuery(roleSelect + `id = $2`)
	qListRoles       = hotQuery(roleSelect + `id >= $2 order by id limit $3`)
	qSearchRoles     = hotQuery(roleSelect + `id >= $2 and search like $4 escape '!' order by id limit $3`)
	qRolesBy         = inList(2, roleSelect+`folded in `, "", true)
	qRolePermissions = inList(1, `select l.role_id, p.id, p.name, p.slug, p.description from role_permissions l
		join permissions p on p.id = l.permission_id where l.role_id in `, "", true)
	qInsertRole = query(`insert into roles (id, workspace_id, name, folded, description, search) values ($1, $2, $3, $4, $5, $6)
		on conflict (workspace_id, folded) do nothing`)
	qDeleteRole = query(`delete from roles where workspace_id = $1 and id = (select id from roles
		where workspace_id = $1 and (id = $2 or folded = $3) order by case when id = $2 then 0 else 1 end limit 1) returning id, name, description`)
	qLinkRoles = inList(2, `insert into key_roles (key_id, role_id) select $1, id from roles where id in `,
		` on conflict do nothing`, false)
	qUnlinkRoles         = query(`delete from key_roles where key_id = $1`)
	qUnlinkRoleIn        = inList(2, `delete from key_roles where key_id = $1 and role_id in `, "", false)
	qLinkRolePermissions = inList(2, `insert into role_permissions (role_id, permission_id) select $1, id from permissions where id in `,
		` on conflict do nothing`, false)
	qUnlinkRolePermissionIn = inList(2, `delete from role_permissions where role_id = $1 and permission_id in `, "", false)
	qForgetRole             = query(`delete from role_permissions where role_id = $1`)
	qPruneRole              = query(`delete from key_roles where role_id = $1 and key_id in (select key_id from key_roles where role_id = $1 limit $2)`)
)

var (
	roleTaken   = tollkey.NewError(tollkey.CodeConflict, tollkey.ReasonRoleExists, "A role with this name exists already.")
	roleMissing = tollkey.NotFound(tollkey.ReasonRoleNotFound, "There is no such role.")
)

func scanRole(row interface{ Scan(...any) error }) (role tollkey.Role, err error) {
	err = row.Scan(&role.ID, &role.Name, &role.Description)
	return role, err
}

// Role implements store.Reader.
func (r reader) Role(ctx context.Context, ws tollkey.WorkspaceID, ref string) (*tollkey.Role, error) {
	return r.role(ctx, qRole, string(ws), ref, fold(ref))
}

func (r reader) role(ctx context.Context, text string, args ...any) (*tollkey.Role, error) {
	role, err := scanRole(r.q.QueryRowContext(ctx, text, args...))
	if err != nil {
		return nil, notFound(err, roleMissing)
	}
	held, err := r.permissionsOf(ctx, []string{string(role.ID)})
	role.Permissions = held[role.ID]
	return &role, err
}

// ListRoles implements store.Reader.
func (r reader) ListRoles(ctx context.Context, ws tollkey.WorkspaceID, search string, page store.Page) ([]tollkey.Role, error) {
	text, args := searching(qListRoles, qSearchRoles, search, string(ws), page.From, page.Limit)
	return r.roles(ctx, func(scan func(*sql.Rows) error) error { return eachRow(ctx, r.q, scan, text, args...) })
}

// RolesByName implements store.Reader.
func (r reader) RolesByName(ctx context.Context, ws tollkey.WorkspaceID, names []string) ([]tollkey.Role, error) {
	return r.rolesByName(ctx, ws, names, "")
}

// RolesByName implements store.Tx: what it returns cannot be deleted before the commit, so that it can be linked.
func (t *tx) RolesByName(ctx context.Context, ws tollkey.WorkspaceID, names []string) ([]tollkey.Role, error) {
	return t.rolesByName(ctx, ws, names, t.keepRow)
}

func (r reader) rolesByName(ctx context.Context, ws tollkey.WorkspaceID, names []string, lock string) ([]tollkey.Role, error) {
	out, err := r.roles(ctx, func(scan func(*sql.Rows) error) error {
		return r.eachWith(ctx, qRolesBy, lock, []any{string(ws)}, folded(names), scan)
	})
	slices.SortFunc(out, func(a, b tollkey.Role) int { return strings.Compare(a.Name, b.Name) })
	return out, err
}

// roles completes the roles that read finds with their permissions.
func (r reader) roles(ctx context.Context, read func(scan func(*sql.Rows) error) error) ([]tollkey.Role, error) {
	var out []tollkey.Role
	var ids []string
	err := read(func(rows *sql.Rows) error {
		role, err := scanRole(rows)
		out, ids = append(out, role), append(ids, string(role.ID))
		return err
	})
	if err != nil {
		return nil, err
	}
	held, err := r.permissionsOf(ctx, ids)
	for i := range out {
		out[i].Permissions = held[out[i].ID]
	}
	return out, err
}

// permissionsOf returns what each of the roles holds, ordered by slug.
func (r reader) permissionsOf(ctx context.Context, roles []string) (map[tollkey.RoleID][]tollkey.Permission, error) {
	slices.Sort(roles)
	held := map[tollkey.RoleID][]tollkey.Permission{}
	err := r.each(ctx, qRolePermissions, nil, slices.Compact(roles), func(rows *sql.Rows) error {
		var role tollkey.RoleID
		var p tollkey.Permission
		err := rows.Scan(&role, &p.ID, &p.Name, &p.Slug, &p.Description)
		held[role] = append(held[role], p)
		return err
	})
	for _, list := range held {
		sortPermissions(list)
	}
	return held, err
}

func folded(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = fold(n)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// CreateRole implements store.Tx.
func (t *tx) CreateRole(ctx context.Context, ws tollkey.WorkspaceID, r *tollkey.Role) error {
	search := searchable(string(r.ID), r.Name, r.Description)
	if err := t.one(ctx, roleTaken, qInsertRole, string(r.ID), string(ws), r.Name, fold(r.Name), r.Description, search); err != nil {
		return err
	}
	return t.ChangeRolePermissions(ctx, r.ID, permissionIDs(r.Permissions), nil)
}

// LockRole implements store.Tx.
func (t *tx) LockRole(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.RoleID) (*tollkey.Role, error) {
	if _, err := scanRole(t.q.QueryRowContext(ctx, qRoleByID+t.lockRow, string(ws), string(id))); err != nil {
		return nil, notFound(err, roleMissing)
	}
	return t.role(ctx, qRoleByID, string(ws), string(id)) // read after the wait for the lock
}

// ChangeRolePermissions implements store.Tx.
func (t *tx) ChangeRolePermissions(ctx context.Context, id tollkey.RoleID, add, remove []tollkey.PermissionID) error {
	if err := t.changeLinks(ctx, qUnlinkRolePermissionIn, string(id), texts(remove)); err != nil {
		return err
	}
	return t.changeLinks(ctx, qLinkRolePermissions, string(id), texts(add))
}

// DeleteRole implements store.Tx.
func (t *tx) DeleteRole(ctx context.Context, ws tollkey.WorkspaceID, ref string) (*tollkey.Role, error) {
	role, err := scanRole(t.q.QueryRowContext(ctx, qDeleteRole, string(ws), ref, fold(ref)))
	if err != nil {
		return nil, notFound(err, roleMissing)
	}
	if _, err := t.q.ExecContext(ctx, qForgetRole, string(role.ID)); err != nil {
		return nil, err
	}
	return &role, t.unlinkKeys(ctx, qPruneRole, string(role.ID))
}

// LockKey implements store.Tx.
func (t *tx) LockKey(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.KeyID) (*tollkey.Key, error) {
	var locked string
	if err := t.q.QueryRowContext(ctx, qLiveKey+t.lockRow, string(id), string(ws)).Scan(&locked); err != nil {
		return nil, notFound(err, keyMissing)
	}
	return t.Key(ctx, ws, id) // read after the wait for the lock
}

// ChangeKeyLinks implements store.Tx.
func (t *tx) ChangeKeyLinks(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.KeyID, add, remove store.KeyLinks) error {
	if err := t.one(ctx, keyMissing, qTouchKey, string(id), string(ws), t.now.UnixMilli()); err != nil {
		return err
	}
	for _, c := range []struct {
		text map[int]string
		ids  []string
	}{
		{qUnlinkPermissionIn, texts(remove.Permissions)},
		{qUnlinkRoleIn, texts(remove.Roles)},
		{qLinkPermissions, texts(add.Permissions)},
		{qLinkRoles, texts(add.Roles)},
	} {
		if err := t.changeLinks(ctx, c.text, string(id), c.ids); err != nil {
			return err
		}
	}
	return nil
}

// changeLinks runs a statement that adds or removes links of owner, over ids.
func (t *tx) changeLinks(ctx context.Context, text map[int]string, owner string, ids []string) error {
	return t.each(ctx, text, []any{owner}, ids, func(*sql.Rows) error { return nil })
}

// replaceLinks makes the links of a key exactly ids.
func (t *tx) replaceLinks(ctx context.Context, clear string, add map[int]string, key tollkey.KeyID, ids []string) error {
	if _, err := t.q.ExecContext(ctx, clear, string(key)); err != nil {
		return err
	}
	return t.changeLinks(ctx, add, string(key), ids)
}

func permissionIDs(list []tollkey.Permission) []tollkey.PermissionID {
	out := make([]tollkey.PermissionID, len(list))
	for i, p := range list {
		out[i] = p.ID
	}
	return out
}

func roleIDs(list []tollkey.Role) []tollkey.RoleID {
	out := make([]tollkey.RoleID, len(list))
	for i, r := range list {
		out[i] = r.ID
	}
	return out
}
