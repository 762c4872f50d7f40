package sqlstore

import (
	"context"
	"strings"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

const rootKeySelect = `select r.id, r.workspace_id, r.digest, r.start, r.name, r.permissions, r.enabled, r.expires_at, r.created_at, r.last_used_at,
	w.enabled, w.requests_per_minute from root_keys r left join workspaces w on w.id = r.workspace_id where `

var (
	qRootKey       = hotQuery(rootKeySelect + `r.id = $1 and r.workspace_id = $2`)
	qListRootKeys  = hotQuery(rootKeySelect + `r.workspace_id = $1 and r.id >= $2 order by r.id limit $3`)
	qInsertRootKey = query(`insert into root_keys (id, workspace_id, digest, start, name, permissions, enabled, expires_at, created_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`)
	qRootKeyName        = query(`update root_keys set name = $3 where id = $1 and workspace_id = $2`)
	qRootKeyPermissions = query(`update root_keys set permissions = $3 where id = $1 and workspace_id = $2`)
	qRootKeyEnabled     = query(`update root_keys set enabled = $3 where id = $1 and workspace_id = $2`)
	qRootKeyExpires     = query(`update root_keys set expires_at = $3 where id = $1 and workspace_id = $2`)
	qDeleteRootKey      = query(`delete from root_keys where id = $1 and workspace_id = $2`)
	qLockWorkspace      = query(`update workspaces set name = name where id = $1`)
)

var rootKeyMissing = tollkey.NotFound(tollkey.ReasonKeyNotFound, "There is no such root key.")

func scanRootKey(row interface{ Scan(...any) error }) (*store.RootKeyRecord, error) {
	var r store.RootKeyRecord
	var digest []byte
	var permissions string
	var expires, used, perMinute *int64
	var created int64
	var enabled *bool
	err := row.Scan(&r.ID, &r.Workspace, &digest, &r.Start, &r.Name, &permissions, &r.Enabled, &expires, &created, &used, &enabled, &perMinute)
	if err != nil {
		return nil, err
	}
	copy(r.Digest[:], digest)
	if permissions != "" {
		r.Permissions = strings.Split(permissions, "\n")
	}
	r.Expires, r.CreatedAt, r.LastUsedAt = timeOf(expires), time.UnixMilli(created), timeOf(used)
	r.WorkspaceMissing, r.WorkspaceEnabled, r.RequestsPerMinute = enabled == nil, enabled != nil && *enabled, -1
	if perMinute != nil {
		r.RequestsPerMinute = *perMinute
	}
	return &r, nil
}

// RootKey implements store.Reader.
func (r reader) RootKey(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.KeyID) (*tollkey.RootKey, error) {
	found, err := scanRootKey(r.q.QueryRowContext(ctx, qRootKey, string(id), string(ws)))
	if err != nil {
		return nil, notFound(err, rootKeyMissing)
	}
	return &found.RootKey, nil
}

// ListRootKeys implements store.Reader.
func (r reader) ListRootKeys(ctx context.Context, ws tollkey.WorkspaceID, page store.Page) ([]tollkey.RootKey, error) {
	rows, err := r.q.QueryContext(ctx, qListRootKeys, string(ws), page.From, page.Limit)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []tollkey.RootKey
	for rows.Next() {
		k, err := scanRootKey(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, k.RootKey)
	}
	return out, rows.Err()
}

// CreateRootKey implements store.Tx.
func (t *tx) CreateRootKey(ctx context.Context, k *tollkey.RootKey) error {
	_, err := t.q.ExecContext(ctx, qInsertRootKey, string(k.ID), string(k.Workspace), k.Digest[:], k.Start, k.Name,
		strings.Join(k.Permissions, "\n"), k.Enabled, millis(k.Expires), k.CreatedAt.UnixMilli())
	return err
}

// UpdateRootKey implements store.Tx.
func (t *tx) UpdateRootKey(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.KeyID, u store.RootKeyUpdate) error {
	set := func(text string, value any) error {
		return t.one(ctx, rootKeyMissing, text, string(id), string(ws), value)
	}
	if _, err := t.RootKey(ctx, ws, id); err != nil {
		return err
	}
	if u.Name != nil {
		if err := set(qRootKeyName, *u.Name); err != nil {
			return err
		}
	}
	if u.Permissions != nil {
		if err := set(qRootKeyPermissions, strings.Join(*u.Permissions, "\n")); err != nil {
			return err
		}
	}
	if u.Enabled != nil {
		if err := set(qRootKeyEnabled, *u.Enabled); err != nil {
			return err
		}
	}
	if u.Expires != nil {
		return set(qRootKeyExpires, millis(*u.Expires))
	}
	return nil
}

// DeleteRootKey implements store.Tx.
func (t *tx) DeleteRootKey(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.KeyID) error {
	return t.one(ctx, rootKeyMissing, qDeleteRootKey, string(id), string(ws))
}

// LockRootKeys implements store.Tx.
func (t *tx) LockRootKeys(ctx context.Context, ws tollkey.WorkspaceID) error {
	return t.one(ctx, workspaceMissing, qLockWorkspace, string(ws))
}
