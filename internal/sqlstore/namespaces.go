package sqlstore

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

const namespaceSelect = `select n.id, n.workspace_id, n.name, n.created_at, n.deleted_at, 0 from ratelimit_namespaces n where n.workspace_id = $1 and `

var (
	// Two look-ups by index; the id comes first.
	qNamespace = hotQuery(`select n.id, n.workspace_id, n.name, n.created_at, n.deleted_at, 0 as place from ratelimit_namespaces n where n.workspace_id = $1 and n.id = $2
		union all select n.id, n.workspace_id, n.name, n.created_at, n.deleted_at, 1 from ratelimit_namespaces n where n.workspace_id = $1 and n.name = $2
		order by place limit 1`)
	qListNamespaces  = hotQuery(namespaceSelect + `n.id >= $2 and n.deleted_at is null order by n.id limit $3`)
	qInsertNamespace = query(`insert into ratelimit_namespaces (id, workspace_id, name, created_at) values ($1, $2, $3, $4) on conflict (workspace_id, name) do nothing`)
	qDeleteNamespace = query(`update ratelimit_namespaces set deleted_at = $3 where id = $1 and workspace_id = $2 and deleted_at is null`)
	qOverrides       = hotQuery(`select id, identifier, max, duration from ratelimit_overrides where namespace_id = $1 order by id`)
	qListOverrides   = hotQuery(`select id, identifier, max, duration from ratelimit_overrides where namespace_id = $1 and id >= $2 order by id limit $3`)
	qPutOverride     = query(`insert into ratelimit_overrides (id, namespace_id, identifier, max, duration) values ($1, $2, $3, $4, $5)
		on conflict (namespace_id, identifier) do update set max = excluded.max, duration = excluded.duration returning id`)
	qDeleteOverride = query(`delete from ratelimit_overrides where namespace_id = $1 and identifier = $2 returning id`)
)

var (
	namespaceMissing = tollkey.NotFound(tollkey.ReasonNamespaceNotFound, "There is no such namespace.")
	overrideMissing  = tollkey.NotFound(tollkey.ReasonOverrideNotFound, "There is no such override.")
)

func scanNamespace(row interface{ Scan(...any) error }) (n tollkey.Namespace, err error) {
	var created, place int64
	var deleted *int64
	err = row.Scan(&n.ID, &n.Workspace, &n.Name, &created, &deleted, &place)
	n.CreatedAt, n.Deleted = time.UnixMilli(created), deleted != nil
	return n, err
}

// Namespace implements store.Reader.
func (r reader) Namespace(ctx context.Context, ws tollkey.WorkspaceID, nameOrID string) (*tollkey.Namespace, error) {
	n, err := scanNamespace(r.q.QueryRowContext(ctx, qNamespace, string(ws), nameOrID))
	if err != nil {
		return nil, notFound(err, namespaceMissing)
	}
	return &n, nil
}

// Namespace implements store.Lookups.
func (db *DB) Namespace(ctx context.Context, ws tollkey.WorkspaceID, nameOrID string) (*store.NamespaceRecord, error) {
	var found *store.NamespaceRecord
	err := db.main.view(ctx, func(q querier) error {
		n, err := reader{q}.Namespace(ctx, ws, nameOrID)
		if tollkey.IsReason(err, namespaceMissing.Reason) {
			found = nil
			return nil
		}
		if err != nil {
			return err
		}
		overrides, err := reader{q}.overrides(ctx, qOverrides, string(n.ID))
		found = &store.NamespaceRecord{Namespace: *n, Overrides: overrides}
		return err
	})
	return found, err
}

// ListNamespaces implements store.Reader.
func (r reader) ListNamespaces(ctx context.Context, ws tollkey.WorkspaceID, page store.Page) ([]tollkey.Namespace, error) {
	return list(ctx, r.q, func(rows *sql.Rows) (tollkey.Namespace, error) { return scanNamespace(rows) }, qListNamespaces, string(ws), page.From, page.Limit)
}

// ListOverrides implements store.Reader.
func (r reader) ListOverrides(ctx context.Context, ns tollkey.NamespaceID, page store.Page) ([]tollkey.Override, error) {
	return r.overrides(ctx, qListOverrides, string(ns), page.From, page.Limit)
}

func (r reader) overrides(ctx context.Context, text string, args ...any) ([]tollkey.Override, error) {
	return list(ctx, r.q, func(rows *sql.Rows) (o tollkey.Override, err error) {
		var duration int64
		err = rows.Scan(&o.ID, &o.Identifier, &o.Limit, &duration)
		o.Duration = time.Duration(duration) * time.Millisecond
		return o, err
	}, text, args...)
}

// list reads all rows of a statement.
func list[T any](ctx context.Context, q querier, scan func(*sql.Rows) (T, error), text string, args ...any) ([]T, error) {
	var out []T
	err := eachRow(ctx, q, func(rows *sql.Rows) error {
		v, err := scan(rows)
		out = append(out, v)
		return err
	}, text, args...)
	return out, err
}

// PutNamespaces implements store.Tx. Names are inserted in order, so that no two transactions wait for each other.
func (t *tx) PutNamespaces(ctx context.Context, ws tollkey.WorkspaceID, names []string) (created []tollkey.Namespace, err error) {
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		n := tollkey.Namespace{ID: tollkey.NamespaceID(tollkey.NewID("rlns", t.now)), Workspace: ws, Name: name, CreatedAt: t.now}
		result, err := t.q.ExecContext(ctx, qInsertNamespace, string(n.ID), string(ws), name, t.now.UnixMilli())
		if err != nil {
			return nil, err
		}
		inserted, err := result.RowsAffected()
		if err != nil {
			return nil, err
		}
		if inserted > 0 {
			created = append(created, n)
		}
	}
	return created, nil
}

// DeleteNamespace implements store.Tx.
func (t *tx) DeleteNamespace(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.NamespaceID) error {
	return t.one(ctx, namespaceMissing, qDeleteNamespace, string(id), string(ws), t.now.UnixMilli())
}

// PutOverride implements store.Tx.
func (t *tx) PutOverride(ctx context.Context, ns tollkey.NamespaceID, o tollkey.Override) (id tollkey.OverrideID, err error) {
	fresh := tollkey.NewID("rlor", t.now)
	err = t.q.QueryRowContext(ctx, qPutOverride, fresh, string(ns), o.Identifier, o.Limit, o.Duration.Milliseconds()).Scan(&id)
	return id, err
}

// DeleteOverride implements store.Tx.
func (t *tx) DeleteOverride(ctx context.Context, ns tollkey.NamespaceID, identifier string) (id tollkey.OverrideID, err error) {
	err = t.q.QueryRowContext(ctx, qDeleteOverride, string(ns), identifier).Scan(&id)
	return id, notFound(err, overrideMissing)
}
