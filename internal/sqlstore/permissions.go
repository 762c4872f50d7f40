package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// fold is how names that are unique without regard to case are compared, the same on every engine.
func fold(s string) string { return tollkey.Fold(s) }

const permissionSelect = `select id, name, slug, description from permissions where workspace_id = $1 and `

var (
	qPermission        = hotQuery(permissionSelect + `(id = $2 or folded = $3) order by case when id = $2 then 0 else 1 end limit 1`)
	qListPermissions   = hotQuery(permissionSelect + `id >= $2 order by id limit $3`)
	qSearchPermissions = hotQuery(permissionSelect + `id >= $2 and search like $4 escape '!' order by id limit $3`)
	qPermissionsBy     = inList(2, permissionSelect+`folded in `, "", true)
	qInsertPermissions = rowList(`insert into permissions (id, workspace_id, name, slug, folded, description, search)`, 7,
		` on conflict (workspace_id, folded) do nothing returning id, name, slug, description`)
	qDeletePermission = query(`delete from permissions where workspace_id = $1 and id = (select id from permissions
		where workspace_id = $1 and (id = $2 or folded = $3) order by case when id = $2 then 0 else 1 end limit 1) returning id, name, slug, description`)
	qLinkPermissions = inList(2, `insert into key_permissions (key_id, permission_id) select $1, id from permissions where id in `,
		` on conflict do nothing`, false)
	qUnlinkPermissions  = query(`delete from key_permissions where key_id = $1`)
	qUnlinkPermissionIn = inList(2, `delete from key_permissions where key_id = $1 and permission_id in `, "", false)
	qForgetPermission   = query(`delete from role_permissions where permission_id = $1 returning role_id`)
	qPrunePermission    = query(`delete from key_permissions where permission_id = $1 and key_id in (select key_id from key_permissions where permission_id = $1 limit $2)`)
	qInsertRemoved      = query(`insert into removed (id) values ($1) on conflict do nothing`)
	qRemoved            = query(`select id from removed order by id limit 1`)
	qDeleteRemoved      = query(`delete from removed where id = $1`)
)

var (
	slugTaken         = tollkey.NewError(tollkey.CodeConflict, tollkey.ReasonPermissionExists, "A permission with this slug exists already.")
	permissionMissing = tollkey.NotFound(tollkey.ReasonPermissionNotFound, "There is no such permission.")
)

func sortPermissions(list []tollkey.Permission) {
	slices.SortFunc(list, func(a, b tollkey.Permission) int { return strings.Compare(a.Slug, b.Slug) })
}

func scanPermission(row interface{ Scan(...any) error }) (p tollkey.Permission, err error) {
	err = row.Scan(&p.ID, &p.Name, &p.Slug, &p.Description)
	return p, err
}

// Permission implements store.Reader.
func (r reader) Permission(ctx context.Context, ws tollkey.WorkspaceID, ref string) (*tollkey.Permission, error) {
	p, err := scanPermission(r.q.QueryRowContext(ctx, qPermission, string(ws), ref, fold(ref)))
	return &p, notFound(err, permissionMissing)
}

// ListPermissions implements store.Reader.
func (r reader) ListPermissions(ctx context.Context, ws tollkey.WorkspaceID, search string, page store.Page) ([]tollkey.Permission, error) {
	var out []tollkey.Permission
	text, args := searching(qListPermissions, qSearchPermissions, search, string(ws), page.From, page.Limit)
	err := eachRow(ctx, r.q, func(rows *sql.Rows) error {
		p, err := scanPermission(rows)
		out = append(out, p)
		return err
	}, text, args...)
	return out, err
}

// PermissionsBySlug implements store.Reader.
func (r reader) PermissionsBySlug(ctx context.Context, ws tollkey.WorkspaceID, slugs []string) ([]tollkey.Permission, error) {
	return r.permissionsBySlug(ctx, ws, slugs, "")
}

// PermissionsBySlug implements store.Tx: what it returns cannot be deleted before the commit, so that it can be linked.
func (t *tx) PermissionsBySlug(ctx context.Context, ws tollkey.WorkspaceID, slugs []string) ([]tollkey.Permission, error) {
	return t.permissionsBySlug(ctx, ws, slugs, t.keepRow)
}

func (r reader) permissionsBySlug(ctx context.Context, ws tollkey.WorkspaceID, slugs []string, lock string) ([]tollkey.Permission, error) {
	var out []tollkey.Permission
	err := r.eachWith(ctx, qPermissionsBy, lock, []any{string(ws)}, folded(slugs), func(rows *sql.Rows) error {
		p, err := scanPermission(rows)
		out = append(out, p)
		return err
	})
	sortPermissions(out)
	return out, err
}

// PutPermissions implements store.Tx.
func (t *tx) PutPermissions(ctx context.Context, ws tollkey.WorkspaceID, slugs []string) (all, created []tollkey.Permission, err error) {
	spelled := map[string]string{} // of several spellings the first counts
	for _, slug := range slugs {
		if _, ok := spelled[fold(slug)]; !ok {
			spelled[fold(slug)] = slug
		}
	}
	// What exists is kept until the commit; what does not is made, unless another transaction makes it at this moment: then it exists.
	const attempts = 10
	for range attempts {
		if all, err = t.PermissionsBySlug(ctx, ws, slugs); err != nil || len(all) == len(spelled) {
			return all, created, err
		}
		made, err := t.insertPermissions(ctx, ws, missing(spelled, all, t.now))
		if err != nil {
			return nil, nil, err
		}
		created = append(created, made...)
	}
	return nil, nil, tollkey.NewError(tollkey.CodeInternal, tollkey.ReasonUnexpected, "A permission was deleted as often as it was made.")
}

// missing returns the permissions to make: those of spelled that all lacks, in one order for everybody, since each may have to wait for another
// transaction that makes the same.
func missing(spelled map[string]string, all []tollkey.Permission, now time.Time) (out []tollkey.Permission) {
	exists := make(map[string]bool, len(all))
	for _, p := range all {
		exists[fold(p.Slug)] = true
	}
	for _, key := range slices.Sorted(maps.Keys(spelled)) {
		if !exists[key] {
			out = append(out, tollkey.Permission{ID: tollkey.PermissionID(tollkey.NewID("perm", now)), Name: spelled[key], Slug: spelled[key]})
		}
	}
	return out
}

// insertPermissions returns those that were new.
func (t *tx) insertPermissions(ctx context.Context, ws tollkey.WorkspaceID, list []tollkey.Permission) (made []tollkey.Permission, err error) {
	rows := make([][]any, len(list))
	for i, p := range list {
		rows[i] = []any{string(p.ID), string(ws), p.Name, p.Slug, fold(p.Slug), p.Description, searchable(string(p.ID), p.Name, p.Slug, p.Description)}
	}
	err = t.insertRows(ctx, qInsertPermissions, rows, func(rows *sql.Rows) error {
		p, err := scanPermission(rows)
		made = append(made, p)
		return err
	})
	return made, err
}

// CreatePermission implements store.Tx.
func (t *tx) CreatePermission(ctx context.Context, ws tollkey.WorkspaceID, p *tollkey.Permission) error {
	made, err := t.insertPermissions(ctx, ws, []tollkey.Permission{*p})
	if err == nil && len(made) == 0 {
		return slugTaken
	}
	return err
}

// DeletePermission implements store.Tx.
func (t *tx) DeletePermission(ctx context.Context, ws tollkey.WorkspaceID, ref string) (*tollkey.Permission, []tollkey.RoleID, error) {
	p, err := scanPermission(t.q.QueryRowContext(ctx, qDeletePermission, string(ws), ref, fold(ref)))
	if err != nil {
		return nil, nil, notFound(err, permissionMissing)
	}
	// The row was locked first: whoever was linking it has committed, and is seen here.
	var roles []tollkey.RoleID
	err = eachRow(ctx, t.q, func(rows *sql.Rows) error {
		var id tollkey.RoleID
		err := rows.Scan(&id)
		roles = append(roles, id)
		return err
	}, qForgetPermission, string(p.ID))
	if err != nil {
		return nil, nil, err
	}
	return &p, roles, t.unlinkKeys(ctx, qPrunePermission, string(p.ID))
}

// linkSlice is how many links one transaction removes: a million at once would hold the writer for seconds.
const linkSlice = 500

// unlinkKeys removes the links of keys to a permission or role that was deleted: a slice now, and the rest with PruneLinks. Nobody sees them
// meanwhile: what they lead to is gone, and ids are not used again.
func (t *tx) unlinkKeys(ctx context.Context, prune, id string) error {
	result, err := t.q.ExecContext(ctx, prune, id, linkSlice)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n < linkSlice {
		return err
	}
	_, err = t.q.ExecContext(ctx, qInsertRemoved, id)
	return err
}

// PruneLinks implements store.Store.
func (db *DB) PruneLinks(ctx context.Context, limit int) (n int, err error) {
	err = db.main.updateRelaxed(ctx, func(q querier) error {
		n = 0
		var id string
		switch err := q.QueryRowContext(ctx, qRemoved).Scan(&id); {
		case errors.Is(err, sql.ErrNoRows):
			return nil
		case err != nil:
			return err
		}
		for _, text := range []string{qPrunePermission, qPruneRole} {
			result, err := q.ExecContext(ctx, text, id, limit)
			if err != nil {
				return err
			}
			gone, err := result.RowsAffected()
			if err != nil {
				return err
			}
			n += int(gone)
		}
		if n < limit {
			_, err := q.ExecContext(ctx, qDeleteRemoved, id)
			return err
		}
		return nil
	})
	return n, err
}
