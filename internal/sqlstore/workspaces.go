package sqlstore

import (
	"context"
	"database/sql"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

const workspaceSelect = `select id, name, slug, enabled, requests_per_minute, retention_days, created_at from workspaces where `

var (
	qWorkspace       = hotQuery(workspaceSelect + `id = $1`)
	qListWorkspaces  = hotQuery(workspaceSelect + `id >= $1 order by id limit $2`)
	qCountWorkspaces = query(`select count(*) from workspaces`)
	qInsertWorkspace = query(`insert into workspaces (id, name, slug, enabled, requests_per_minute, retention_days, created_at)
		values ($1, $2, $3, $4, $5, $6, $7) on conflict (slug) do nothing`)
	qWorkspaceName      = query(`update workspaces set name = $2 where id = $1`)
	qWorkspaceRequests  = query(`update workspaces set requests_per_minute = $2 where id = $1`)
	qWorkspaceRetention = query(`update workspaces set retention_days = $2 where id = $1`)
)

var (
	workspaceMissing = tollkey.NotFound(tollkey.ReasonWorkspaceNotFound, "There is no such workspace.")
	workspaceTaken   = tollkey.NewError(tollkey.CodeConflict, tollkey.ReasonWorkspaceExists, "There is a workspace with this slug already.")
)

func scanWorkspace(row interface{ Scan(...any) error }) (w tollkey.Workspace, err error) {
	var created int64
	err = row.Scan(&w.ID, &w.Name, &w.Slug, &w.Enabled, &w.RequestsPerMinute, &w.RetentionDays, &created)
	w.CreatedAt = time.UnixMilli(created)
	return w, err
}

// Workspace implements store.Reader.
func (r reader) Workspace(ctx context.Context, id tollkey.WorkspaceID) (*tollkey.Workspace, error) {
	w, err := scanWorkspace(r.q.QueryRowContext(ctx, qWorkspace, string(id)))
	return &w, notFound(err, workspaceMissing)
}

// ListWorkspaces implements store.Reader.
func (r reader) ListWorkspaces(ctx context.Context, page store.Page) ([]tollkey.Workspace, error) {
	return list(ctx, r.q, func(rows *sql.Rows) (tollkey.Workspace, error) { return scanWorkspace(rows) }, qListWorkspaces, page.From, page.Limit)
}

// CountWorkspaces implements store.Reader.
func (r reader) CountWorkspaces(ctx context.Context) (n int64, err error) {
	err = r.q.QueryRowContext(ctx, qCountWorkspaces).Scan(&n)
	return n, err
}

// CreateWorkspace implements store.Tx.
func (t *tx) CreateWorkspace(ctx context.Context, w *tollkey.Workspace) error {
	return t.one(ctx, workspaceTaken, qInsertWorkspace, string(w.ID), w.Name, w.Slug, w.Enabled, w.RequestsPerMinute, w.RetentionDays, w.CreatedAt.UnixMilli())
}

// UpdateWorkspace implements store.Tx.
func (t *tx) UpdateWorkspace(ctx context.Context, id tollkey.WorkspaceID, u store.WorkspaceUpdate) error {
	set := func(text string, value any) error { return t.one(ctx, workspaceMissing, text, string(id), value) }
	if u.Name != nil {
		if err := set(qWorkspaceName, *u.Name); err != nil {
			return err
		}
	}
	if u.RequestsPerMinute != nil {
		if err := set(qWorkspaceRequests, *u.RequestsPerMinute); err != nil {
			return err
		}
	}
	if u.RetentionDays != nil {
		return set(qWorkspaceRetention, *u.RetentionDays)
	}
	return nil
}
