package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

const auditSelect = `select e.seq, e.id, e.workspace_id, e.at, e.event, e.description, e.actor_type, e.actor_id, e.actor_name, e.remote_ip, e.user_agent,
	e.targets, e.correlation, e.hash from `

// The parts of a listing: where it begins, newest first, and the filters that no index serves.
const (
	auditUntil    = ` and (e.at, e.id) <= ($2, $3)`
	auditOfActor  = ` and ($5 = '' or e.actor_id = $5)`
	auditOfEvent  = ` and ($6 = '' or e.event = $6)`
	auditFromLast = ` order by e.at desc, e.id desc limit $4`
)

var (
	qInsertAudit = rowList(`insert into audit_entries (seq, id, workspace_id, at, event, description, actor_type, actor_id, actor_name, remote_ip, user_agent,
		targets, correlation, hash)`, 14, "")
	qInsertTargets = rowList(`insert into audit_targets (workspace_id, target_id, at, entry_id)`, 4, "")
	qAuditHash     = hotQuery(`select hash from audit_entries where seq = $1`)
	qAuditTime     = hotQuery(`select at from audit_entries where id = $1 and workspace_id = $2`)
	qAudited       = query(`select audited from feed where id = 1`)
	qAuditAfter    = hotQuery(auditSelect + `audit_entries e where e.seq > $1 order by e.seq limit $2`)

	// Each walks the index of one filter, from the newest entry on. There is no lower bound of the time in them: with it SQLite takes another index.
	qListAudit         = hotQuery(auditSelect + `audit_entries e where e.workspace_id = $1` + auditUntil + auditOfActor + auditOfEvent + auditFromLast)
	qListAuditByActor  = hotQuery(auditSelect + `audit_entries e where e.workspace_id = $1 and e.actor_id = $5` + auditUntil + auditOfEvent + auditFromLast)
	qListAuditByEvent  = hotQuery(auditSelect + `audit_entries e where e.workspace_id = $1 and e.event = $6` + auditUntil + auditOfActor + auditFromLast)
	qListAuditByTarget = hotQuery(auditSelect + `audit_targets t join audit_entries e on e.id = t.entry_id
		where t.workspace_id = $1 and t.target_id = $7 and (t.at, t.entry_id) <= ($2, $3)` + auditOfActor + auditOfEvent + `
		order by t.at desc, t.entry_id desc limit $4`)
)

// insertTargets writes by what the entries can be found. It needs no place in the chain, and so it is done before the feed is locked.
func (t *tx) insertTargets(ctx context.Context) error {
	var rows [][]any
	for i := range t.audit {
		e := &t.audit[i]
		e.Time = t.now
		readable(e)
		for j, target := range e.Targets {
			if !slices.ContainsFunc(e.Targets[:j], func(other tollkey.AuditTarget) bool { return other.ID == target.ID }) {
				rows = append(rows, []any{string(e.Workspace), target.ID, t.now.UnixMilli(), e.ID})
			}
		}
	}
	return t.insertRows(ctx, qInsertTargets, rows, nil)
}

// readable makes the texts that come from outside what both engines give back as it was: the hash is over what will be read.
func readable(e *tollkey.AuditEntry) {
	clean := func(text *string) { *text = strings.ReplaceAll(strings.ToValidUTF8(*text, "\uFFFD"), "\x00", "\uFFFD") }
	clean(&e.Actor.Name)
	clean(&e.Actor.RemoteIP)
	clean(&e.Actor.UserAgent)
	e.Targets = slices.Clone(e.Targets)
	for i := range e.Targets {
		clean(&e.Targets[i].ID)
		clean(&e.Targets[i].Name)
	}
}

// insertAudit adds the entries to the chain behind the one whose place is last. previous gives its hash; where somebody has removed it, none, and
// the chain goes on from nothing, which its verification tells.
func (t *tx) insertAudit(ctx context.Context, last int64, previous *sql.Row) error {
	var hash []byte
	if err := previous.Scan(&hash); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	var link tollkey.AuditHash
	copy(link[:], hash)
	rows := make([][]any, len(t.audit))
	for i := range t.audit {
		e := &t.audit[i]
		e.Seq = last + int64(i) + 1
		link = e.Link(link)
		targets, err := json.Marshal(e.Targets)
		if err != nil {
			return err
		}
		e.Hash = link
		rows[i] = []any{
			e.Seq, e.ID, string(e.Workspace), e.Time.UnixMilli(), e.Event, e.Description, e.Actor.Type, e.Actor.ID, e.Actor.Name, e.Actor.RemoteIP,
			e.Actor.UserAgent, string(targets), e.Correlation, e.Hash[:],
		}
	}
	return t.insertRows(ctx, qInsertAudit, rows, nil)
}

func scanAudit(rows *sql.Rows) (e tollkey.AuditEntry, err error) {
	var at int64
	var targets string
	var hash []byte
	if err := rows.Scan(&e.Seq, &e.ID, &e.Workspace, &at, &e.Event, &e.Description, &e.Actor.Type, &e.Actor.ID, &e.Actor.Name, &e.Actor.RemoteIP,
		&e.Actor.UserAgent, &targets, &e.Correlation, &hash); err != nil {
		return e, err
	}
	e.Time = time.UnixMilli(at)
	copy(e.Hash[:], hash)
	// What somebody has made unreadable has no targets, and so another hash.
	if json.Unmarshal([]byte(targets), &e.Targets) != nil {
		e.Targets = nil
	}
	return e, nil
}

// ListAudit implements store.Reader.
func (r reader) ListAudit(ctx context.Context, ws tollkey.WorkspaceID, f store.AuditFilter, page store.Page) ([]tollkey.AuditEntry, error) {
	until, last := int64(math.MaxInt64), lastID
	if !f.Before.IsZero() {
		until = f.Before.UnixMilli() - 1
	}
	if page.From != "" {
		var at int64
		if err := r.q.QueryRowContext(ctx, qAuditTime, page.From, string(ws)).Scan(&at); err != nil {
			return nil, notFound(err, tollkey.Invalid("/cursor", "This is no cursor of a page before."))
		}
		if at <= until {
			until, last = at, page.From
		}
	}
	args := []any{string(ws), until, last, page.Limit, f.Actor, f.Event}
	text := qListAudit
	switch {
	case f.Target != "":
		text, args = qListAuditByTarget, append(args, f.Target)
	case f.Actor != "":
		text = qListAuditByActor
	case f.Event != "":
		text = qListAuditByEvent
	}
	found, err := list(ctx, r.q, scanAudit, text, args...)
	if i := slices.IndexFunc(found, func(e tollkey.AuditEntry) bool { return e.Time.Before(f.From) }); i >= 0 {
		found = found[:i]
	}
	return found, err
}

// Audited returns the place of the last audit entry in the chain.
func (v *View) Audited(ctx context.Context) (last int64, err error) {
	err = v.main.reads.QueryRowContext(ctx, qAudited).Scan(&last)
	return last, v.main.dialect.classify(err)
}

// AuditAfter returns up to limit entries of all workspaces whose place in the chain is above after, ascending.
func (v *View) AuditAfter(ctx context.Context, after int64, limit int) ([]tollkey.AuditEntry, error) {
	found, err := list(ctx, v.main.reads, scanAudit, qAuditAfter, after, limit)
	return found, v.main.dialect.classify(err)
}
