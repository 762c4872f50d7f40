package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// What a row of qKeyByDigest is. The columns of keySelect carry the fields of the other parts too, wherever the types agree.
const (
	partKey = iota
	partPermission
	partRole
	partRolePermission
	partRateLimit
)

var (
	// qKeyByDigest reads a key with all that belongs to it, in one statement and hence one snapshot and one round
	// trip. SQLite joins in the order written where it says cross.
	qKeyByDigest = hotQuery(`with found (id, workspace_id, api_id, digest, start, name, meta, enabled, expires_at, refill_interval, refill_amount,
	refill_day, created_at, updated_at, last_used_at, owner, external_id, owner_meta, remaining, gone_at, allow, workspace_enabled)
	as materialized (` + keySelect + `k.digest = $1)
	select 0, id, workspace_id, api_id, digest, start, name, meta, enabled, expires_at, refill_interval, refill_amount,
		refill_day, created_at, updated_at, last_used_at, owner, external_id, owner_meta, remaining, gone_at, allow, workspace_enabled from found
	union all select 1, p.id, p.name, p.slug, null, p.description, '', ` + unused + `
		from found cross join key_permissions l cross join permissions p where l.key_id = found.id and p.id = l.permission_id
	union all select 2, r.id, r.name, '', null, r.description, '', ` + unused + `
		from found cross join key_roles l cross join roles r where l.key_id = found.id and r.id = l.role_id
	union all select 3, p.id, p.name, p.slug, null, p.description, m.role_id, ` + unused + `
		from found cross join key_roles l cross join role_permissions m cross join permissions p
		where l.key_id = found.id and m.role_id = l.role_id and p.id = m.permission_id
	union all select 4, l.id, l.owner_id, '', null, '', l.name, null, l.auto_apply, l.max, null, l.duration, null, null, null, null, null, null, null, null, null, '', false
		from found cross join ratelimits l where l.owner_id in (found.id, found.owner)`)
	qRootKeyByDigest = hotQuery(rootKeySelect + `r.digest = $1`)
)

// unused stands for the columns after the name.
const unused = `null, false, null, null, null, null, null, null, null, null, null, null, null, null, '', false`

// KeyByDigest implements store.Lookups.
func (db *DB) KeyByDigest(ctx context.Context, d tollkey.Digest) (*store.KeyRecord, error) {
	rows, err := db.main.reads.QueryContext(ctx, qKeyByDigest, d[:])
	if err != nil {
		return nil, db.main.dialect.classify(err)
	}
	defer func() { _ = rows.Close() }()
	var k *store.KeyRecord
	var others []keyRow
	var kinds []int
	for rows.Next() {
		var kind int
		var row keyRow
		if err := rows.Scan(append([]any{&kind}, row.columns()...)...); err != nil {
			return nil, db.main.dialect.classify(err)
		}
		if kind == partKey {
			k = row.record()
		} else {
			others, kinds = append(others, row), append(kinds, kind)
		}
	}
	if err := rows.Err(); err != nil || k == nil {
		return nil, db.main.dialect.classify(err)
	}
	assemble(k, others, kinds)
	return k, nil
}

// assemble adds the other parts to a key.
func assemble(k *store.KeyRecord, rows []keyRow, kinds []int) {
	held := map[tollkey.RoleID][]tollkey.Permission{}
	for i := range rows {
		r := &rows[i].key
		permission := tollkey.Permission{ID: tollkey.PermissionID(r.ID), Name: string(r.Workspace), Slug: string(r.API), Description: r.Start}
		switch kinds[i] {
		case partPermission:
			k.Permissions = append(k.Permissions, permission)
		case partRole:
			k.Roles = append(k.Roles, tollkey.Role{ID: tollkey.RoleID(r.ID), Name: string(r.Workspace), Description: r.Start})
		case partRolePermission:
			held[tollkey.RoleID(r.Name)] = append(held[tollkey.RoleID(r.Name)], permission)
		case partRateLimit:
			limit := tollkey.RateLimit{
				ID: tollkey.RateLimitID(r.ID), Name: r.Name, Limit: *rows[i].expires, Duration: time.Duration(*rows[i].amount) * time.Millisecond, AutoApply: r.Enabled,
			}
			if string(r.Workspace) == string(k.ID) {
				k.RateLimits = append(k.RateLimits, limit)
			} else {
				k.Identity.RateLimits = append(k.Identity.RateLimits, limit)
			}
		}
	}
	sortPermissions(k.Permissions)
	slices.SortFunc(k.Roles, func(a, b tollkey.Role) int { return strings.Compare(a.Name, b.Name) })
	for i := range k.Roles {
		k.Roles[i].Permissions = held[k.Roles[i].ID]
		sortPermissions(k.Roles[i].Permissions)
	}
	sortRateLimits(k.RateLimits)
	if k.Identity != nil {
		sortRateLimits(k.Identity.RateLimits)
	}
}

// RootKeyByDigest implements store.Lookups.
func (db *DB) RootKeyByDigest(ctx context.Context, d tollkey.Digest) (*store.RootKeyRecord, error) {
	r, err := scanRootKey(db.main.reads.QueryRowContext(ctx, qRootKeyByDigest, d[:]))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return r, db.main.dialect.classify(err)
}

var (
	qDigests     = hotQuery(`select id, digest from keys where id > $1 and id <= $2 order by id limit 2000`)
	qDigestsFrom = hotQuery(`select id, digest from keys where id = $1 and id <= $2`)
	qRootDigests = query(`select id, digest from root_keys where id > $1 and id <= $2 order by id limit 2000`)
)

// lastID is above every id: ids are prefixes of lower-case letters, an underscore, and lower-case letters and digits.
const lastID = "zzzz"

// Digests implements store.Lookups. Each slice is a statement of its own.
func (db *DB) Digests(ctx context.Context, first, last tollkey.KeyID, fn func([]tollkey.Digest) error) error {
	texts, after, until := []string{qDigests, qRootDigests}, "", lastID
	if first != "" { // the range is closed, and pages begin above an id
		if err := db.digests(ctx, qDigestsFrom, string(first), string(last), true, fn); err != nil {
			return db.main.dialect.classify(err)
		}
		texts, after, until = []string{qDigests}, string(first), string(last)
	}
	for _, text := range texts {
		if err := db.digests(ctx, text, after, until, false, fn); err != nil {
			return db.main.dialect.classify(err)
		}
	}
	return nil
}

func (db *DB) digests(ctx context.Context, text, after, until string, once bool, fn func([]tollkey.Digest) error) error {
	for {
		var slice []tollkey.Digest
		err := eachRow(ctx, db.main.reads, func(rows *sql.Rows) error {
			var digest []byte
			if err := rows.Scan(&after, &digest); err != nil {
				return err
			}
			slice = append(slice, tollkey.Digest(digest))
			return nil
		}, text, after, until)
		if err != nil || len(slice) == 0 {
			return err
		}
		if err := fn(slice); err != nil || once {
			return err
		}
	}
}
