package sqlstore

import (
	"context"
	"database/sql"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

const identitySelect = `select id, external_id, meta, created_at, 0 as place from identities where workspace_id = $1 and deleted_at is null and `

var (
	qIdentity = hotQuery(identitySelect + `external_id = $2`)
	// Two look-ups by index; the id comes first.
	qFindIdentity = hotQuery(identitySelect + `id = $2 union all select id, external_id, meta, created_at, 1 from identities
		where workspace_id = $1 and deleted_at is null and external_id = $2 order by place limit 1`)
	qListIdentities   = hotQuery(identitySelect + `id >= $2 order by id limit $3`)
	qSearchIdentities = hotQuery(identitySelect + `id >= $2 and search like $4 escape '!' order by id limit $3`)
	qInsertIdentity   = query(`insert into identities (id, workspace_id, external_id, meta, created_at, search) values ($1, $2, $3, $4, $5, $6)
		on conflict (workspace_id, external_id) where deleted_at is null do nothing`)
	qLockIdentity    = query(`update identities set external_id = external_id where id = $1 and workspace_id = $2 and deleted_at is null`)
	qIdentityMeta    = query(`update identities set meta = $3 where id = $1 and workspace_id = $2 and deleted_at is null`)
	qDeleteIdentity  = query(`update identities set deleted_at = $3 where id = $1 and workspace_id = $2 and deleted_at is null`)
	qDropOwnedLimits = query(`delete from ratelimits where owner_id = $1`)
)

var (
	identityMissing = tollkey.NotFound(tollkey.ReasonIdentityNotFound, "There is no such identity.")
	identityTaken   = tollkey.NewError(tollkey.CodeConflict, tollkey.ReasonIdentityExists, "An identity with this externalId exists already.")
)

func scanIdentity(ws tollkey.WorkspaceID, row interface{ Scan(...any) error }) (tollkey.Identity, error) {
	i := tollkey.Identity{Workspace: ws}
	var meta *string
	var created, place int64
	err := row.Scan(&i.ID, &i.ExternalID, &meta, &created, &place)
	i.Meta, i.CreatedAt = bytesOf(meta), time.UnixMilli(created)
	return i, err
}

// Identity implements store.Reader.
func (r reader) Identity(ctx context.Context, ws tollkey.WorkspaceID, externalID string) (*tollkey.Identity, error) {
	i, err := scanIdentity(ws, r.q.QueryRowContext(ctx, qIdentity, string(ws), externalID))
	return &i, notFound(err, identityMissing)
}

// FindIdentity implements store.Reader.
func (r reader) FindIdentity(ctx context.Context, ws tollkey.WorkspaceID, ref string) (*tollkey.Identity, error) {
	i, err := scanIdentity(ws, r.q.QueryRowContext(ctx, qFindIdentity, string(ws), ref))
	if err != nil {
		return nil, notFound(err, identityMissing)
	}
	found := []tollkey.Identity{i}
	return &found[0], r.limitIdentities(ctx, found)
}

// ListIdentities implements store.Reader.
func (r reader) ListIdentities(ctx context.Context, ws tollkey.WorkspaceID, search string, page store.Page) ([]tollkey.Identity, error) {
	text, args := searching(qListIdentities, qSearchIdentities, search, string(ws), page.From, page.Limit)
	found, err := list(ctx, r.q, func(rows *sql.Rows) (tollkey.Identity, error) { return scanIdentity(ws, rows) }, text, args...)
	if err != nil {
		return nil, err
	}
	return found, r.limitIdentities(ctx, found)
}

// limitIdentities adds their limits to identities.
func (r reader) limitIdentities(ctx context.Context, found []tollkey.Identity) error {
	at := make(map[string]*tollkey.Identity, len(found))
	ids := make([]string, len(found))
	for i := range found {
		ids[i] = string(found[i].ID)
		at[ids[i]] = &found[i]
	}
	limits, err := r.rateLimitsOf(ctx, ids)
	for owner, list := range limits {
		at[owner].RateLimits = list
	}
	return err
}

// PutIdentity implements store.Tx.
func (t *tx) PutIdentity(ctx context.Context, ws tollkey.WorkspaceID, externalID string) (tollkey.IdentityID, bool, error) {
	id := tollkey.IdentityID(tollkey.NewID("id", t.now))
	err := t.CreateIdentity(ctx, &tollkey.Identity{ID: id, Workspace: ws, ExternalID: externalID, CreatedAt: t.now})
	if !tollkey.IsReason(err, identityTaken.Reason) {
		return id, err == nil, err
	}
	found, err := t.Identity(ctx, ws, externalID)
	if err != nil {
		return "", false, err
	}
	return found.ID, false, nil
}

// CreateIdentity implements store.Tx.
func (t *tx) CreateIdentity(ctx context.Context, i *tollkey.Identity) error {
	err := t.one(ctx, identityTaken, qInsertIdentity, string(i.ID), string(i.Workspace), i.ExternalID, textOf(i.Meta), i.CreatedAt.UnixMilli(),
		searchable(string(i.ID), i.ExternalID))
	if err != nil {
		return err
	}
	return t.putRateLimits(ctx, i.Workspace, string(i.ID), i.RateLimits)
}

// LockIdentity implements store.Tx.
func (t *tx) LockIdentity(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.IdentityID) error {
	return t.one(ctx, identityMissing, qLockIdentity, string(id), string(ws))
}

// UpdateIdentity implements store.Tx.
func (t *tx) UpdateIdentity(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.IdentityID, u store.IdentityUpdate) error {
	if u.Meta != nil {
		if err := t.one(ctx, identityMissing, qIdentityMeta, string(id), string(ws), textOf(*u.Meta)); err != nil {
			return err
		}
	}
	if u.RateLimits != nil {
		return t.replaceRateLimits(ctx, ws, string(id), *u.RateLimits)
	}
	return nil
}

// DeleteIdentity implements store.Tx.
func (t *tx) DeleteIdentity(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.IdentityID) error {
	if err := t.one(ctx, identityMissing, qDeleteIdentity, string(id), string(ws), t.now.UnixMilli()); err != nil {
		return err
	}
	_, err := t.q.ExecContext(ctx, qDropOwnedLimits, string(id))
	return err
}
