package sqlstore

import (
	"context"
	"strings"
	"time"

	"github.com/tollkey/tollkey"
)

var (
	qAPI = hotQuery(`select id, workspace_id, name, default_prefix, default_byte_length, delete_protection, ip_allow_list, created_at
		from apis where id = $1 and workspace_id = $2 and deleted_at is null`)
	qInsertAPI = query(`insert into apis (id, workspace_id, name, default_prefix, default_byte_length, delete_protection, ip_allow_list, created_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8)`)
	qDeleteAPI = query(`update apis set deleted_at = $3 where id = $1 and workspace_id = $2 and deleted_at is null`)
)

var apiMissing = tollkey.NotFound(tollkey.ReasonAPINotFound, "There is no such API.")

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
