package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

const (
	portalColumns  = `select id, workspace_id, slug, name, api_ids, primary_color, logo_url, return_url, enabled, created_at, `
	portalFrom     = ` from portals where workspace_id = $1 and deleted_at is null and `
	sessionColumns = `s.id, s.workspace_id, s.portal_id, s.external_id, s.api_ids, s.scopes, s.preview, s.return_url, s.created_at, s.expires_at`
	// livePortal is true while the portal of session s and its workspace may be used.
	livePortal = `exists (select 1 from portals p join workspaces w on w.id = p.workspace_id where p.id = s.portal_id and p.enabled and p.deleted_at is null
		and s.created_at >= p.sessions_from and w.enabled)`
)

var (
	qPortal       = hotQuery(portalColumns + `0 as place` + portalFrom + `id = $2 union all ` + portalColumns + `1` + portalFrom + `slug = $2 order by place limit 1`)
	qListPortals  = hotQuery(portalColumns + `0` + portalFrom + `id >= $2 order by id limit $3`)
	qInsertPortal = query(`insert into portals (id, workspace_id, slug, name, api_ids, primary_color, logo_url, return_url, enabled, sessions_from, created_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, $10) on conflict (workspace_id, slug) where deleted_at is null do nothing`)
	qUpdatePortal = query(`update portals set slug = $3, name = $4, api_ids = $5, primary_color = $6, logo_url = $7, return_url = $8, enabled = $9,
		sessions_from = case when $9 then sessions_from else $10 end
		where id = $1 and workspace_id = $2 and deleted_at is null and not exists
		(select 1 from portals other where other.workspace_id = $2 and other.slug = $3 and other.id <> $1 and other.deleted_at is null)`)
	qDeletePortal  = query(`update portals set deleted_at = $3 where id = $1 and workspace_id = $2 and deleted_at is null`)
	qInsertSession = query(`insert into portal_sessions (id, workspace_id, portal_id, external_id, api_ids, scopes, preview, return_url, code, created_at, expires_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`)
	qOpenSession = query(`update portal_sessions as s set token = $2, expires_at = $3
		where s.code = $1 and s.token is null and s.revoked_at is null and s.expires_at > $4 and ` + livePortal + ` returning ` + strings.ReplaceAll(sessionColumns, "s.", ""))
	qSession  = hotQuery(`select ` + sessionColumns + ` from portal_sessions s where s.token = $1 and s.revoked_at is null and s.expires_at > $2 and ` + livePortal)
	qSessions = hotQuery(`select ` + sessionColumns + ` from portal_sessions s
		where s.workspace_id = $1 and s.external_id = $2 and s.id >= $3 and s.revoked_at is null and s.expires_at > $4 order by s.id limit $5`)
	qAllSessions = hotQuery(`select ` + sessionColumns + ` from portal_sessions s
		where s.workspace_id = $1 and s.id >= $2 and s.revoked_at is null and s.expires_at > $3 order by s.id limit $4`)
	qRevokeSession = query(`update portal_sessions set revoked_at = $3 where id = $1 and workspace_id = $2 and revoked_at is null and expires_at > $3`)
	qPruneSessions = hotQuery(`delete from portal_sessions where id in (select id from portal_sessions where expires_at < $1 order by expires_at limit $2)`)
)

var (
	portalMissing  = tollkey.NotFound(tollkey.ReasonPortalNotFound, "There is no such portal.")
	portalTaken    = tollkey.NewError(tollkey.CodeConflict, tollkey.ReasonPortalExists, "A portal with this slug exists already.")
	sessionMissing = tollkey.NotFound(tollkey.ReasonSessionNotFound, "There is no such portal session.")
)

func scanPortal(row interface{ Scan(...any) error }) (p tollkey.Portal, err error) {
	var apis string
	var created, place int64
	err = row.Scan(&p.ID, &p.Workspace, &p.Slug, &p.Name, &apis, &p.PrimaryColor, &p.LogoURL, &p.ReturnURL, &p.Enabled, &created, &place)
	p.APIs, p.CreatedAt = lined[tollkey.APIID](apis), time.UnixMilli(created)
	return p, err
}

// lined reads a list that is stored with a line for each.
func lined[T ~string](text string) (out []T) {
	for line := range strings.SplitSeq(text, "\n") {
		if line != "" {
			out = append(out, T(line))
		}
	}
	return out
}

func lines[T ~string](list []T) string { return strings.Join(texts(list), "\n") }

// Portal implements store.Reader.
func (r reader) Portal(ctx context.Context, ws tollkey.WorkspaceID, ref string) (*tollkey.Portal, error) {
	p, err := scanPortal(r.q.QueryRowContext(ctx, qPortal, string(ws), ref))
	if err != nil {
		return nil, notFound(err, portalMissing)
	}
	return &p, nil
}

// ListPortals implements store.Reader.
func (r reader) ListPortals(ctx context.Context, ws tollkey.WorkspaceID, page store.Page) ([]tollkey.Portal, error) {
	return list(ctx, r.q, func(rows *sql.Rows) (tollkey.Portal, error) { return scanPortal(rows) }, qListPortals, string(ws), page.From, page.Limit)
}

// CreatePortal implements store.Tx.
func (t *tx) CreatePortal(ctx context.Context, p *tollkey.Portal) error {
	return t.one(ctx, portalTaken, qInsertPortal, string(p.ID), string(p.Workspace), p.Slug, p.Name, lines(p.APIs), p.PrimaryColor, p.LogoURL, p.ReturnURL, p.Enabled,
		p.CreatedAt.UnixMilli())
}

// UpdatePortal implements store.Tx.
func (t *tx) UpdatePortal(ctx context.Context, p *tollkey.Portal) error {
	err := t.one(ctx, portalTaken, qUpdatePortal, string(p.ID), string(p.Workspace), p.Slug, p.Name, lines(p.APIs), p.PrimaryColor, p.LogoURL, p.ReturnURL, p.Enabled,
		t.now.UnixMilli()+1)
	if !errors.Is(err, portalTaken) {
		return err
	}
	if _, err := t.Portal(ctx, p.Workspace, string(p.ID)); err != nil {
		return err
	}
	return portalTaken
}

// DeletePortal implements store.Tx.
func (t *tx) DeletePortal(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.PortalID) error {
	return t.one(ctx, portalMissing, qDeletePortal, string(id), string(ws), t.now.UnixMilli())
}

func scanSession(row interface{ Scan(...any) error }) (s tollkey.PortalSession, err error) {
	var apis, scopes string
	var created, expires int64
	err = row.Scan(&s.ID, &s.Workspace, &s.Portal, &s.ExternalID, &apis, &scopes, &s.Preview, &s.ReturnURL, &created, &expires)
	s.APIs, s.Scopes, s.CreatedAt, s.Expires = lined[tollkey.APIID](apis), lined[string](scopes), time.UnixMilli(created), time.UnixMilli(expires)
	return s, err
}

// CreatePortalSession implements store.Tx.
func (t *tx) CreatePortalSession(ctx context.Context, s *tollkey.PortalSession, code tollkey.Digest) error {
	_, err := t.q.ExecContext(ctx, qInsertSession, string(s.ID), string(s.Workspace), string(s.Portal), s.ExternalID, lines(s.APIs), lines(s.Scopes), s.Preview, s.ReturnURL,
		code[:], s.CreatedAt.UnixMilli(), s.Expires.UnixMilli())
	return err
}

// OpenPortalSession implements store.Tx.
func (t *tx) OpenPortalSession(ctx context.Context, code, token tollkey.Digest, expires time.Time) (*tollkey.PortalSession, error) {
	s, err := scanSession(t.q.QueryRowContext(ctx, qOpenSession, code[:], token[:], expires.UnixMilli(), t.now.UnixMilli()))
	if err != nil {
		return nil, notFound(err, sessionMissing)
	}
	return &s, nil
}

// RevokePortalSession implements store.Tx.
func (t *tx) RevokePortalSession(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.SessionID) error {
	return t.one(ctx, sessionMissing, qRevokeSession, string(id), string(ws), t.now.UnixMilli())
}

// ListPortalSessions implements store.Reader.
func (r reader) ListPortalSessions(ctx context.Context, ws tollkey.WorkspaceID, externalID string, now time.Time, page store.Page) ([]tollkey.PortalSession, error) {
	scan := func(rows *sql.Rows) (tollkey.PortalSession, error) { return scanSession(rows) }
	if externalID == "" {
		return list(ctx, r.q, scan, qAllSessions, string(ws), page.From, now.UnixMilli(), page.Limit)
	}
	return list(ctx, r.q, scan, qSessions, string(ws), externalID, page.From, now.UnixMilli(), page.Limit)
}

// PortalSession implements store.Lookups.
func (db *DB) PortalSession(ctx context.Context, token tollkey.Digest, now time.Time) (*tollkey.PortalSession, error) {
	s, err := scanSession(db.main.reads.QueryRowContext(ctx, qSession, token[:], now.UnixMilli()))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return &s, db.main.dialect.classify(err)
}

// PrunePortalSessions implements store.Store.
func (db *DB) PrunePortalSessions(ctx context.Context, before time.Time, limit int) (n int, err error) {
	err = db.main.updateRelaxed(ctx, func(q querier) error {
		result, err := q.ExecContext(ctx, qPruneSessions, before.UnixMilli(), limit)
		if err != nil {
			return err
		}
		gone, err := result.RowsAffected()
		n = int(gone)
		return err
	})
	return n, err
}
