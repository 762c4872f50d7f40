package sqlstore

import (
	"context"
	"strings"
	"time"

	"github.com/tollkey/tollkey"
)

var (
	qWorkspace = hotQuery(`select id, name, slug, enabled, requests_per_minute, created_at from workspaces where id = $1`)
	qCountWS   = query(`select count(*) from workspaces`)
	qInsertWS  = query(`insert into workspaces (id, name, slug, enabled, requests_per_minute, created_at) values ($1, $2, $3, $4, $5, $6)`)
	qAPI       = hotQuery(`select id, workspace_id, name, default_prefix, default_byte_length, delete_protection, ip_allow_list, created_at
		from apis where id = $1 and workspace_id = $2 and deleted_at is null`)
	qInsertAPI = query(`insert into apis (id, workspace_id, name, default_prefix, default_byte_length, delete_protection, ip_allow_list, created_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8)`)
	qDeleteAPI = query(`update apis set deleted_at = $3 where id = $1 and workspace_id = $2 and deleted_at is null`)
)

var (
	workspaceMissing = tollkey.NotFound(tollkey.ReasonWorkspaceNotFound, "There is no such workspace.")
	apiMissing       = tollkey.NotFound(tollkey.ReasonAPINotFound, "There is no such API.")
)

// Workspace implements store.Reader.
func (r reader) Workspace(ctx context.Context, id tollkey.WorkspaceID) (*tollkey.Workspace, error) {
	var w tollkey.Workspace
	var created int64
	err := r.q.QueryRowContext(ctx, qWorkspace, string(id)).Scan(&w.ID, &w.Name, &w.Slug, &w.Enabled, &w.RequestsPerMinute, &created)
	w.CreatedAt = time.UnixMilli(created)
	return &w, notFound(err, workspaceMissing)
}

// CountWorkspaces implements store.Reader.
func (r reader) CountWorkspaces(ctx context.Context) (n int64, err error) {
	err = r.q.QueryRowContext(ctx, qCountWS).Scan(&n)
	return n, err
}

// CreateWorkspace implements store.Tx.
func (t *tx) CreateWorkspace(ctx context.Context, w *tollkey.Workspace) error {
	_, err := t.q.ExecContext(ctx, qInsertWS, string(w.ID), w.Name, w.Slug, w.Enabled, w.RequestsPerMinute, w.CreatedAt.UnixMilli())
	return err
}

// API implements store.Reader.
func (r reader) API(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.APIID) (*tollkey.API, error) {
	var a tollkey.API
	var created int64
	var allow string
	err := r.q.QueryRowContext(ctx, qAPI, string(id), string(ws)).Scan(&a.ID, &a.Workspace, &a.Name, &a.DefaultPrefix,
		&a.DefaultByteLength, &a.DeleteProtection, &allow, &created)
	if allow != "" {
		a.IPAllowList = strings.Split(allow, "\n")
	}
	a.CreatedAt = time.UnixMilli(created)
	return &a, notFound(err, apiMissing)
}

// CreateAPI implements store.Tx.
func (t *tx) CreateAPI(ctx context.Context, a *tollkey.API) error {
	_, err := t.q.ExecContext(ctx, qInsertAPI, string(a.ID), string(a.Workspace), a.Name, a.DefaultPrefix, a.DefaultByteLength,
		a.DeleteProtection, strings.Join(a.IPAllowList, "\n"), a.CreatedAt.UnixMilli())
	return err
}

// DeleteAPI implements store.Tx.
func (t *tx) DeleteAPI(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.APIID) error {
	return t.one(ctx, apiMissing, qDeleteAPI, string(id), string(ws), t.now.UnixMilli())
}
