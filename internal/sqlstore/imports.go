package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

const migrationSelect = `select id, workspace_id, name, algorithm, separator, part, created_at from migrations where workspace_id = $1 and `

var (
	qMigration       = hotQuery(migrationSelect + `id = $2`)
	qListMigrations  = hotQuery(migrationSelect + `id >= $2 order by id limit $3`)
	qInsertMigration = query(`insert into migrations (id, workspace_id, name, algorithm, separator, part, created_at) values ($1, $2, $3, $4, $5, $6, $7)`)
	qDeleteMigration = query(`delete from migrations where workspace_id = $1 and id = $2`)
	qForeignHash     = hotQuery(`select key_id, migration_id, hash from foreign_hashes where digest = $1 and hash is not null`)
	qImportHashes    = rowList(`insert into foreign_hashes (digest, source, key_id, migration_id, hash)`, 5, ` on conflict do nothing returning key_id`)
	qForgetHash      = query(`delete from foreign_hashes where key_id = $1`)
	qDropHash        = query(`update foreign_hashes set hash = null where digest = $1`)
	qRehashKey       = query(`update keys set digest = $3, start = $4 where digest = $1 and workspace_id = $2 and deleted_at is null
		and not exists (select 1 from keys other where other.digest = $3)`)
	qImportKeys = rowList(`insert into keys (id, workspace_id, api_id, digest, start, name, meta, identity_id, enabled, expires_at,
		refill_interval, refill_amount, refill_day, created_at)`, 14, ` on conflict (digest) do nothing returning id`)
	qImportBalances    = rowList(`insert into balances (id, remaining)`, 2, "")
	qImportLimits      = rowList(`insert into ratelimits (id, workspace_id, owner_id, name, max, duration, auto_apply)`, 7, "")
	qImportPermissions = rowList(`insert into key_permissions (key_id, permission_id)`, 2, "")
	qImportRoles       = rowList(`insert into key_roles (key_id, role_id)`, 2, "")
	qImportIdentities  = rowList(`insert into identities (id, workspace_id, external_id, created_at, search)`, 5,
		` on conflict (workspace_id, external_id) where deleted_at is null do nothing returning id, external_id`)
	qIdentitiesBy = inList(2, `select id, external_id from identities where workspace_id = $1 and deleted_at is null and external_id in `, "", true)
)

var migrationMissing = tollkey.NotFound(tollkey.ReasonMigrationNotFound, "There is no such migration.")

func scanMigration(row interface{ Scan(...any) error }) (m tollkey.Migration, err error) {
	var created int64
	err = row.Scan(&m.ID, &m.Workspace, &m.Name, &m.Algorithm, &m.Lookup.Separator, &m.Lookup.Part, &created)
	m.CreatedAt = time.UnixMilli(created)
	return m, err
}

// Migration implements store.Lookups.
func (db *DB) Migration(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.MigrationID) (*tollkey.Migration, error) {
	m, err := scanMigration(db.main.reads.QueryRowContext(ctx, qMigration, string(ws), string(id)))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return &m, db.main.dialect.classify(err)
}

// ListMigrations implements store.Reader.
func (r reader) ListMigrations(ctx context.Context, ws tollkey.WorkspaceID, page store.Page) ([]tollkey.Migration, error) {
	return list(ctx, r.q, func(rows *sql.Rows) (tollkey.Migration, error) { return scanMigration(rows) }, qListMigrations, string(ws), page.From, page.Limit)
}

// CreateMigration implements store.Tx.
func (t *tx) CreateMigration(ctx context.Context, m *tollkey.Migration) error {
	_, err := t.q.ExecContext(ctx, qInsertMigration, string(m.ID), string(m.Workspace), m.Name, string(m.Algorithm), m.Lookup.Separator, m.Lookup.Part,
		m.CreatedAt.UnixMilli())
	return err
}

// DeleteMigration implements store.Tx.
func (t *tx) DeleteMigration(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.MigrationID) error {
	return t.one(ctx, migrationMissing, qDeleteMigration, string(ws), string(id))
}

// ForeignHash implements store.Lookups.
func (db *DB) ForeignHash(ctx context.Context, standIn tollkey.Digest) (*store.ForeignHash, error) {
	h := store.ForeignHash{Digest: standIn}
	err := db.main.reads.QueryRowContext(ctx, qForeignHash, standIn[:]).Scan(&h.Key, &h.Migration, &h.Hash)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return &h, db.main.dialect.classify(err)
}

// ImportKeys implements store.Tx. Everything is inserted in the order of the digests, so that no two imports wait for each other.
func (t *tx) ImportKeys(ctx context.Context, keys []store.ImportedKey) (map[tollkey.KeyID]bool, error) {
	keys = slices.SortedFunc(slices.Values(keys), func(a, b store.ImportedKey) int { return bytes.Compare(a.Digest[:], b.Digest[:]) })
	fresh := map[tollkey.KeyID]bool{}
	scan := func(rows *sql.Rows) error {
		var id tollkey.KeyID
		err := rows.Scan(&id)
		fresh[id] = true
		return err
	}
	var hashes, rows [][]any
	for _, k := range keys {
		if f := k.Foreign; f != nil {
			hashes = append(hashes, []any{f.Digest[:], f.Source[:], string(k.ID), string(f.Migration), f.Hash})
		}
	}
	if err := t.insertRows(ctx, qImportHashes, hashes, scan); err != nil {
		return nil, err
	}
	for _, k := range keys {
		if k.Foreign == nil || fresh[k.ID] {
			rows = append(rows, keyRowOf(k.Key))
		}
	}
	fresh = map[tollkey.KeyID]bool{}
	if err := t.insertRows(ctx, qImportKeys, rows, scan); err != nil {
		return nil, err
	}
	keys = slices.DeleteFunc(keys, func(k store.ImportedKey) bool { return !fresh[k.ID] })
	for _, k := range keys {
		t.count(k.API, 1)
	}
	return fresh, t.importParts(ctx, keys)
}

// keyRowOf is a row of qImportKeys.
func keyRowOf(k *tollkey.Key) []any {
	var owner *string
	if k.Identity != nil {
		owner = orNull(string(k.Identity.ID))
	}
	interval, amount, day := refillColumns(k.Credits.Refill)
	return []any{
		string(k.ID), string(k.Workspace), string(k.API), k.Digest[:], k.Start, k.Name, textOf(k.Meta), owner, k.Enabled, millis(k.Expires),
		interval, amount, day, k.CreatedAt.UnixMilli(),
	}
}

// importParts inserts what belongs to keys that are new.
func (t *tx) importParts(ctx context.Context, keys []store.ImportedKey) error {
	var balances, limits, permissions, roles [][]any
	for _, k := range keys {
		id := string(k.ID)
		if k.Credits.Remaining != nil {
			balances = append(balances, []any{id, *k.Credits.Remaining})
		}
		for _, l := range k.RateLimits {
			limits = append(limits, []any{string(l.ID), string(k.Workspace), id, l.Name, l.Limit, l.Duration.Milliseconds(), l.AutoApply})
		}
		for _, p := range k.Permissions {
			permissions = append(permissions, []any{id, string(p.ID)})
		}
		for _, r := range k.Roles {
			roles = append(roles, []any{id, string(r.ID)})
		}
	}
	for _, part := range []struct {
		texts map[int]string
		rows  [][]any
	}{{qImportBalances, balances}, {qImportLimits, limits}, {qImportPermissions, permissions}, {qImportRoles, roles}} {
		if err := t.insertRows(ctx, part.texts, part.rows, func(*sql.Rows) error { return nil }); err != nil {
			return err
		}
	}
	return nil
}

// RehashKey implements store.Tx.
func (t *tx) RehashKey(ctx context.Context, ws tollkey.WorkspaceID, standIn, digest tollkey.Digest, start string) (bool, error) {
	result, err := t.q.ExecContext(ctx, qRehashKey, standIn[:], string(ws), digest[:], start)
	if err != nil {
		return false, err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return false, err
	}
	_, err = t.q.ExecContext(ctx, qDropHash, standIn[:])
	return err == nil, err
}

// PutIdentities implements store.Tx.
func (t *tx) PutIdentities(ctx context.Context, ws tollkey.WorkspaceID, externalIDs []string) (map[string]tollkey.IdentityID, []tollkey.Identity, error) {
	wanted := slices.Compact(slices.Sorted(slices.Values(externalIDs)))
	ids := make(map[string]tollkey.IdentityID, len(wanted))
	var created []tollkey.Identity
	find := func(rows *sql.Rows) error {
		var id tollkey.IdentityID
		var external string
		err := rows.Scan(&id, &external)
		ids[external] = id
		return err
	}
	insert := func(rows *sql.Rows) error {
		i := tollkey.Identity{Workspace: ws, CreatedAt: t.now}
		err := rows.Scan(&i.ID, &i.ExternalID)
		ids[i.ExternalID], created = i.ID, append(created, i)
		return err
	}
	// One that exists may be deleted before it is locked, and one that does not exist may be made: then it is looked for again.
	const attempts = 10
	for range attempts {
		if err := t.each(ctx, qIdentitiesBy, []any{string(ws)}, wanted, find); err != nil {
			return nil, nil, err
		}
		if wanted = slices.DeleteFunc(wanted, func(e string) bool { return ids[e] != "" }); len(wanted) == 0 {
			return ids, created, nil
		}
		rows := make([][]any, len(wanted))
		for i, external := range wanted {
			id := tollkey.NewID("id", t.now)
			rows[i] = []any{id, string(ws), external, t.now.UnixMilli(), searchable(id, external)}
		}
		if err := t.insertRows(ctx, qImportIdentities, rows, insert); err != nil {
			return nil, nil, err
		}
		if wanted = slices.DeleteFunc(wanted, func(e string) bool { return ids[e] != "" }); len(wanted) == 0 {
			return ids, created, nil
		}
	}
	return nil, nil, tollkey.NewError(tollkey.CodeInternal, tollkey.ReasonUnexpected, "An identity was deleted as often as it was made.")
}

// PutRoles implements store.Tx.
func (t *tx) PutRoles(ctx context.Context, ws tollkey.WorkspaceID, names []string) (all, created []tollkey.Role, err error) {
	spelled := map[string]string{} // of several spellings the first counts
	for _, name := range names {
		if _, ok := spelled[fold(name)]; !ok {
			spelled[fold(name)] = name
		}
	}
	// As in PutPermissions: what exists is kept until the commit, and what does not is made in one order for everybody.
	const attempts = 10
	for range attempts {
		if all, err = t.RolesByName(ctx, ws, names); err != nil || len(all) == len(spelled) {
			return all, created, err
		}
		exists := map[string]bool{}
		for _, r := range all {
			exists[fold(r.Name)] = true
		}
		for _, name := range folded(names) {
			if exists[name] {
				continue
			}
			r := tollkey.Role{ID: tollkey.RoleID(tollkey.NewID("role", t.now)), Name: spelled[name]}
			switch err := t.CreateRole(ctx, ws, &r); {
			case err == nil:
				created = append(created, r)
			case !tollkey.IsReason(err, roleTaken.Reason):
				return nil, nil, err
			}
		}
	}
	return nil, nil, tollkey.NewError(tollkey.CodeInternal, tollkey.ReasonUnexpected, "A role was deleted as often as it was made.")
}
