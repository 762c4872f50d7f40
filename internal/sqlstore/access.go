package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// fold is how names that are unique without regard to case are compared, the same on every engine.
func fold(s string) string { return strings.ToLower(s) }

// listSizes are the lengths of the lists in `in (…)`; a shorter list repeats its last value, so that there are few distinct statements.
var listSizes = []int{1, 10, 100}

// inList is a statement with a list at its end, in all sizes. first is the number of the list's first placeholder.
func inList(first int, head, tail string, hot bool) map[int]string {
	out := map[int]string{}
	for _, size := range listSizes {
		marks := make([]string, size)
		for i := range marks {
			marks[i] = fmt.Sprintf("$%d", first+i)
		}
		out[size] = register(head+"("+strings.Join(marks, ", ")+")"+tail, hot)
	}
	return out
}

// each runs a list statement over values, in chunks, and calls scan for every row.
func (r reader) each(ctx context.Context, texts map[int]string, fixed []any, values []string, scan func(*sql.Rows) error) error {
	for chunk := range slices.Chunk(values, listSizes[len(listSizes)-1]) {
		size := listSizes[slices.IndexFunc(listSizes, func(n int) bool { return n >= len(chunk) })]
		args := slices.Clone(fixed)
		for i := range size {
			args = append(args, chunk[min(i, len(chunk)-1)])
		}
		if err := eachRow(ctx, r.q, scan, texts[size], args...); err != nil {
			return err
		}
	}
	return nil
}

// eachRow runs a statement and calls scan for every row.
func eachRow(ctx context.Context, q querier, scan func(*sql.Rows) error, text string, args ...any) error {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

var (
	qKeyPermissions = inList(1, `select l.key_id, p.id, p.name, p.slug, p.description from key_permissions l
		join permissions p on p.id = l.permission_id where l.key_id in `, "", true)
	qKeyRoles = inList(1, `select l.key_id, r.id, r.name, r.description from key_roles l
		join roles r on r.id = l.role_id where l.key_id in `, "", true)
	qRolePermissions = inList(1, `select l.role_id, p.id, p.name, p.slug, p.description from role_permissions l
		join permissions p on p.id = l.permission_id where l.role_id in `, "", true)
	qRateLimits    = inList(1, `select owner_id, id, name, max, duration, auto_apply from ratelimits where owner_id in `, "", true)
	qPermissionsBy = inList(2, `select id, name, slug, description from permissions where workspace_id = $1 and folded in `, "", true)
	qRolesBy       = inList(2, `select id, name, description from roles where workspace_id = $1 and folded in `, "", true)
)

// complete adds to keys what belongs to them many to one.
func (r reader) complete(ctx context.Context, keys []store.KeyRecord) error {
	at, owners := map[string]int{}, map[string][]int{}
	var ids, roleOwners []string
	for i := range keys {
		id := string(keys[i].ID)
		at[id] = i
		ids = append(ids, id)
		owners[id] = append(owners[id], i)
		if keys[i].Identity != nil {
			owners[string(keys[i].Identity.ID)] = append(owners[string(keys[i].Identity.ID)], i)
		}
	}
	err := r.each(ctx, qKeyPermissions, nil, ids, func(rows *sql.Rows) error {
		var key string
		var p tollkey.Permission
		err := rows.Scan(&key, &p.ID, &p.Name, &p.Slug, &p.Description)
		keys[at[key]].Permissions = append(keys[at[key]].Permissions, p)
		return err
	})
	if err != nil {
		return err
	}
	err = r.each(ctx, qKeyRoles, nil, ids, func(rows *sql.Rows) error {
		var key string
		var role tollkey.Role
		err := rows.Scan(&key, &role.ID, &role.Name, &role.Description)
		keys[at[key]].Roles = append(keys[at[key]].Roles, role)
		roleOwners = append(roleOwners, string(role.ID))
		return err
	})
	if err != nil {
		return err
	}
	held, err := r.permissionsOf(ctx, roleOwners)
	if err != nil {
		return err
	}
	for i := range keys {
		sortPermissions(keys[i].Permissions)
		slices.SortFunc(keys[i].Roles, func(a, b tollkey.Role) int { return strings.Compare(a.Name, b.Name) })
		for j := range keys[i].Roles {
			keys[i].Roles[j].Permissions = held[keys[i].Roles[j].ID]
		}
	}
	return r.completeLimits(ctx, keys, owners)
}

func (r reader) completeLimits(ctx context.Context, keys []store.KeyRecord, owners map[string][]int) error {
	ids := make([]string, 0, len(owners))
	for id := range owners {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	limits := map[string][]tollkey.RateLimit{}
	err := r.each(ctx, qRateLimits, nil, ids, func(rows *sql.Rows) error {
		var owner string
		var l tollkey.RateLimit
		var duration int64
		err := rows.Scan(&owner, &l.ID, &l.Name, &l.Limit, &duration, &l.AutoApply)
		l.Duration = time.Duration(duration) * time.Millisecond
		limits[owner] = append(limits[owner], l)
		return err
	})
	for owner, list := range limits {
		sortRateLimits(list)
		for _, i := range owners[owner] {
			if string(keys[i].ID) == owner {
				keys[i].RateLimits = list
			} else {
				keys[i].Identity.RateLimits = list
			}
		}
	}
	return err
}

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

func sortPermissions(list []tollkey.Permission) {
	slices.SortFunc(list, func(a, b tollkey.Permission) int { return strings.Compare(a.Slug, b.Slug) })
}

func sortRateLimits(list []tollkey.RateLimit) {
	slices.SortFunc(list, func(a, b tollkey.RateLimit) int { return strings.Compare(a.Name, b.Name) })
}

// PermissionsBySlug implements store.Reader.
func (r reader) PermissionsBySlug(ctx context.Context, ws tollkey.WorkspaceID, slugs []string) ([]tollkey.Permission, error) {
	var out []tollkey.Permission
	err := r.each(ctx, qPermissionsBy, []any{string(ws)}, folded(slugs), func(rows *sql.Rows) error {
		var p tollkey.Permission
		err := rows.Scan(&p.ID, &p.Name, &p.Slug, &p.Description)
		out = append(out, p)
		return err
	})
	sortPermissions(out)
	return out, err
}

// RolesByName implements store.Reader.
func (r reader) RolesByName(ctx context.Context, ws tollkey.WorkspaceID, names []string) ([]tollkey.Role, error) {
	var out []tollkey.Role
	var ids []string
	err := r.each(ctx, qRolesBy, []any{string(ws)}, folded(names), func(rows *sql.Rows) error {
		var role tollkey.Role
		err := rows.Scan(&role.ID, &role.Name, &role.Description)
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
	slices.SortFunc(out, func(a, b tollkey.Role) int { return strings.Compare(a.Name, b.Name) })
	return out, err
}

func folded(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = fold(n)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

var (
	qIdentity       = hotQuery(`select id, external_id, meta, created_at from identities where workspace_id = $1 and external_id = $2 and deleted_at is null`)
	qInsertIdentity = query(`insert into identities (id, workspace_id, external_id, created_at) values ($1, $2, $3, $4)
		on conflict (workspace_id, external_id) where deleted_at is null do nothing`)
	qInsertPermission = query(`insert into permissions (id, workspace_id, name, slug, folded, description) values ($1, $2, $3, $4, $5, $6)
		on conflict (workspace_id, folded) do nothing`)
	qInsertRole = query(`insert into roles (id, workspace_id, name, folded, description) values ($1, $2, $3, $4, $5)
		on conflict (workspace_id, folded) do nothing`)
	qLinkPermission     = query(`insert into key_permissions (key_id, permission_id) values ($1, $2) on conflict do nothing`)
	qUnlinkPermissions  = query(`delete from key_permissions where key_id = $1`)
	qLinkRole           = query(`insert into key_roles (key_id, role_id) values ($1, $2) on conflict do nothing`)
	qUnlinkRoles        = query(`delete from key_roles where key_id = $1`)
	qLinkRolePermission = query(`insert into role_permissions (role_id, permission_id) values ($1, $2) on conflict do nothing`)
	qPutRateLimit       = query(`insert into ratelimits (id, workspace_id, owner_id, name, max, duration, auto_apply) values ($1, $2, $3, $4, $5, $6, $7)
		on conflict (owner_id, name) do update set max = excluded.max, duration = excluded.duration, auto_apply = excluded.auto_apply`)
	qDropRateLimit = query(`delete from ratelimits where owner_id = $1 and name = $2`)
)

var (
	identityMissing = tollkey.NotFound("identity_not_found", "There is no such identity.")
	slugTaken       = tollkey.NewError(tollkey.CodeConflict, tollkey.ReasonPermissionExists, "A permission with this slug exists already.")
	roleTaken       = tollkey.NewError(tollkey.CodeConflict, tollkey.ReasonRoleExists, "A role with this name exists already.")
)

// Identity implements store.Reader.
func (r reader) Identity(ctx context.Context, ws tollkey.WorkspaceID, externalID string) (*tollkey.Identity, error) {
	i := tollkey.Identity{Workspace: ws}
	var meta *string
	var created int64
	err := r.q.QueryRowContext(ctx, qIdentity, string(ws), externalID).Scan(&i.ID, &i.ExternalID, &meta, &created)
	i.Meta, i.CreatedAt = bytesOf(meta), time.UnixMilli(created)
	return &i, notFound(err, identityMissing)
}

// PutIdentity implements store.Tx.
func (t *tx) PutIdentity(ctx context.Context, ws tollkey.WorkspaceID, externalID string) (tollkey.IdentityID, bool, error) {
	id := tollkey.NewID("id", t.now)
	result, err := t.q.ExecContext(ctx, qInsertIdentity, id, string(ws), externalID, t.now.UnixMilli())
	if err != nil {
		return "", false, err
	}
	if n, err := result.RowsAffected(); err != nil || n > 0 {
		return tollkey.IdentityID(id), true, err
	}
	found, err := t.Identity(ctx, ws, externalID)
	if err != nil {
		return "", false, err
	}
	return found.ID, false, nil
}

// PutPermissions implements store.Tx.
func (t *tx) PutPermissions(ctx context.Context, ws tollkey.WorkspaceID, slugs []string) (all, created []tollkey.Permission, err error) {
	if len(slugs) == 0 {
		return nil, nil, nil
	}
	slugs = slices.Clone(slugs)
	slices.Sort(slugs) // concurrent calls take their locks in one order
	made := map[tollkey.PermissionID]bool{}
	for _, slug := range slices.Compact(slugs) {
		p := tollkey.Permission{ID: tollkey.PermissionID(tollkey.NewID("perm", t.now)), Name: slug, Slug: slug}
		fresh, err := t.insertPermission(ctx, ws, &p)
		if err != nil {
			return nil, nil, err
		}
		made[p.ID] = fresh
	}
	if all, err = t.PermissionsBySlug(ctx, ws, slugs); err != nil {
		return nil, nil, err
	}
	for _, p := range all {
		if made[p.ID] {
			created = append(created, p)
		}
	}
	return all, created, nil
}

func (t *tx) insertPermission(ctx context.Context, ws tollkey.WorkspaceID, p *tollkey.Permission) (bool, error) {
	result, err := t.q.ExecContext(ctx, qInsertPermission, string(p.ID), string(ws), p.Name, p.Slug, fold(p.Slug), p.Description)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// CreatePermission implements store.Tx.
func (t *tx) CreatePermission(ctx context.Context, ws tollkey.WorkspaceID, p *tollkey.Permission) error {
	made, err := t.insertPermission(ctx, ws, p)
	if err == nil && !made {
		return slugTaken
	}
	return err
}

// CreateRole implements store.Tx.
func (t *tx) CreateRole(ctx context.Context, ws tollkey.WorkspaceID, r *tollkey.Role) error {
	if err := t.one(ctx, roleTaken, qInsertRole, string(r.ID), string(ws), r.Name, fold(r.Name), r.Description); err != nil {
		return err
	}
	for _, p := range r.Permissions {
		if _, err := t.q.ExecContext(ctx, qLinkRolePermission, string(r.ID), string(p.ID)); err != nil {
			return err
		}
	}
	return nil
}

// setLinks makes the links of a key exactly ids; without clear it only adds.
func (t *tx) setLinks(ctx context.Context, add, clear string, key tollkey.KeyID, ids []string) error {
	if clear != "" {
		if _, err := t.q.ExecContext(ctx, clear, string(key)); err != nil {
			return err
		}
	}
	for _, id := range ids {
		if _, err := t.q.ExecContext(ctx, add, string(key), id); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) putRateLimits(ctx context.Context, ws tollkey.WorkspaceID, owner string, limits []tollkey.RateLimit) error {
	for _, l := range limits {
		_, err := t.q.ExecContext(ctx, qPutRateLimit, string(l.ID), string(ws), owner, l.Name, l.Limit, l.Duration.Milliseconds(), l.AutoApply)
		if err != nil {
			return err
		}
	}
	return nil
}

// replaceRateLimits makes the limits of owner exactly limits; one that keeps its name keeps its id.
func (t *tx) replaceRateLimits(ctx context.Context, ws tollkey.WorkspaceID, owner string, limits []tollkey.RateLimit) error {
	wanted := map[string]bool{}
	for _, l := range limits {
		wanted[l.Name] = true
	}
	var gone []string
	err := t.each(ctx, qRateLimits, nil, []string{owner}, func(rows *sql.Rows) error {
		var id, name string
		var limit, duration int64
		var auto bool
		err := rows.Scan(&id, &id, &name, &limit, &duration, &auto)
		if !wanted[name] {
			gone = append(gone, name)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, name := range gone {
		if _, err := t.q.ExecContext(ctx, qDropRateLimit, owner, name); err != nil {
			return err
		}
	}
	return t.putRateLimits(ctx, ws, owner, limits)
}
