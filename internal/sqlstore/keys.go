package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// keySelect reads keys with what belongs to them one to one. Every read of keys goes through it.
const keySelect = `select k.id, k.workspace_id, k.api_id, k.digest, k.start, k.name, k.meta, k.enabled, k.expires_at,
	k.refill_interval, k.refill_amount, k.refill_day, k.created_at, k.updated_at, k.last_used_at,
	i.id, i.external_id, i.meta, b.remaining, a.deleted_at, a.ip_allow_list, w.enabled
	from keys k
	join apis a on a.id = k.api_id
	join workspaces w on w.id = k.workspace_id
	left join identities i on i.id = k.identity_id and i.deleted_at is null
	left join balances b on b.id = k.id
	where k.deleted_at is null and `

var (
	qKey         = hotQuery(keySelect + `k.id = $1 and k.workspace_id = $2 and a.deleted_at is null`)
	qListKeys    = hotQuery(keySelect + `k.api_id = $1 and k.workspace_id = $2 and k.id >= $3 and a.deleted_at is null order by k.id limit $4`)
	qListOwnedIn = inList(5, keySelect+`k.identity_id = $1 and k.workspace_id = $2 and k.id >= $3 and a.deleted_at is null and k.api_id in `,
		` order by k.id limit $4`, true)
	qListOwned = hotQuery(keySelect + `k.identity_id = $1 and k.api_id = $2 and k.workspace_id = $3 and k.id >= $4 and a.deleted_at is null order by k.id limit $5`)
)

var keyMissing = tollkey.NotFound(tollkey.ReasonKeyNotFound, "There is no such key.")

// Key implements store.Reader.
func (r reader) Key(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.KeyID) (*tollkey.Key, error) {
	found, err := r.keys(ctx, qKey, string(id), string(ws))
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, keyMissing
	}
	return &found[0].Key, nil
}

// ListKeys implements store.Reader.
func (r reader) ListKeys(ctx context.Context, ws tollkey.WorkspaceID, f store.KeyFilter, page store.Page) ([]tollkey.Key, error) {
	var found []store.KeyRecord
	var err error
	if f.APIs != nil {
		return r.listOwned(ctx, ws, f, page)
	}
	if f.ExternalID == "" {
		found, err = r.keys(ctx, qListKeys, string(f.API), string(ws), page.From, page.Limit)
	} else {
		owner, err := r.Identity(ctx, ws, f.ExternalID)
		if err != nil {
			if tollkey.IsReason(err, identityMissing.Reason) {
				return nil, nil
			}
			return nil, err
		}
		found, err = r.keys(ctx, qListOwned, string(owner.ID), string(f.API), string(ws), page.From, page.Limit)
		if err != nil {
			return nil, err
		}
	}
	keys := make([]tollkey.Key, len(found))
	for i := range found {
		keys[i] = found[i].Key
	}
	return keys, err
}

func (r reader) listOwned(ctx context.Context, ws tollkey.WorkspaceID, f store.KeyFilter, page store.Page) ([]tollkey.Key, error) {
	owner, err := r.Identity(ctx, ws, f.ExternalID)
	if tollkey.IsReason(err, identityMissing.Reason) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	size, args := fit([]any{string(owner.ID), string(ws), page.From, page.Limit}, texts(f.APIs))
	found, err := r.keys(ctx, qListOwnedIn[size], args...)
	out := make([]tollkey.Key, len(found))
	for i := range found {
		out[i] = found[i].Key
	}
	return out, err
}

// keys runs a statement made of keySelect and completes what it finds, in a number of statements that does not depend on how many keys there are.
func (r reader) keys(ctx context.Context, text string, args ...any) ([]store.KeyRecord, error) {
	rows, err := r.q.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var found []store.KeyRecord
	for rows.Next() {
		var row keyRow
		if err := rows.Scan(row.columns()...); err != nil {
			return nil, err
		}
		found = append(found, *row.record())
	}
	if err := rows.Err(); err != nil || len(found) == 0 {
		return nil, err
	}
	return found, r.complete(ctx, found)
}

// keyRow receives one row of keySelect. What may be null is a pointer.
type keyRow struct {
	key                              store.KeyRecord
	digest                           []byte
	meta, interval, owner, ownMeta   *string
	external                         *string
	expires, amount, day, created    *int64
	updated, used, remaining, goneAt *int64
	allow                            string
}

func (r *keyRow) columns() []any {
	k := &r.key
	return []any{
		&k.ID, &k.Workspace, &k.API, &r.digest, &k.Start, &k.Name, &r.meta, &k.Enabled, &r.expires, &r.interval, &r.amount, &r.day,
		&r.created, &r.updated, &r.used, &r.owner, &r.external, &r.ownMeta, &r.remaining, &r.goneAt, &r.allow, &k.WorkspaceEnabled,
	}
}

// record returns the key as far as keySelect tells.
func (r *keyRow) record() *store.KeyRecord {
	k := &r.key
	copy(k.Digest[:], r.digest)
	k.Meta, k.Credits.Remaining, k.APIDeleted = bytesOf(r.meta), r.remaining, r.goneAt != nil
	k.Expires, k.CreatedAt, k.UpdatedAt, k.LastUsedAt = timeOf(r.expires), timeOf(r.created), timeOf(r.updated), timeOf(r.used)
	if r.interval != nil && r.amount != nil {
		k.Credits.Refill = &tollkey.Refill{Interval: tollkey.RefillInterval(*r.interval), Amount: *r.amount}
		if r.day != nil {
			k.Credits.Refill.Day = int(*r.day)
		}
	}
	if r.owner != nil {
		k.Identity = &tollkey.Identity{ID: tollkey.IdentityID(*r.owner), Workspace: k.Workspace, ExternalID: *r.external, Meta: bytesOf(r.ownMeta)}
	}
	if r.allow != "" {
		k.IPAllowList = strings.Split(r.allow, "\n")
	}
	return k
}

var (
	qInsertKey = query(`insert into keys (id, workspace_id, api_id, digest, start, name, meta, identity_id, enabled, expires_at,
		refill_interval, refill_amount, refill_day, created_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`)
	qInsertBalance = query(`insert into balances (id, remaining) values ($1, $2) on conflict (id) do update set remaining = excluded.remaining`)
	qDeleteBalance = query(`delete from balances where id = $1`)
	qMarkDeleted   = query(`update keys set deleted_at = $3 where id = $1 and workspace_id = $2 and deleted_at is null returning api_id`)
	qRemoveKey     = query(`delete from keys where id = $1 and workspace_id = $2 and deleted_at is null returning api_id`)
	qUnlimitKey    = query(`delete from ratelimits where owner_id = $1`)
	qLiveKey       = query(`select id from keys where id = $1 and workspace_id = $2 and deleted_at is null`)
	qTouchKey      = query(`update keys set updated_at = $3 where id = $1 and workspace_id = $2 and deleted_at is null`)
	qAddCredits    = query(`update balances set remaining = case when remaining + $2 < 0 then 0 else remaining + $2 end
		where id = $1 and remaining + $2 <= 1000000000000000 returning remaining`)
	qRefillKey = query(`update keys set refill_interval = $2, refill_amount = $3, refill_day = $4 where id = $1`)
)

// CreateKeys implements store.Tx.
func (t *tx) CreateKeys(ctx context.Context, keys []*tollkey.Key) error {
	for _, k := range keys {
		var owner *string
		if k.Identity != nil {
			id := string(k.Identity.ID)
			owner = &id
		}
		interval, amount, day := refillColumns(k.Credits.Refill)
		_, err := t.q.ExecContext(ctx, qInsertKey, string(k.ID), string(k.Workspace), string(k.API), k.Digest[:], k.Start, k.Name,
			textOf(k.Meta), owner, k.Enabled, millis(k.Expires), interval, amount, day, k.CreatedAt.UnixMilli())
		if err != nil {
			return err
		}
		if k.Credits.Remaining != nil {
			if _, err := t.q.ExecContext(ctx, qInsertBalance, string(k.ID), *k.Credits.Remaining); err != nil {
				return err
			}
		}
		if err := t.link(ctx, k); err != nil {
			return err
		}
		t.count(k.API, 1)
	}
	return nil
}

func (t *tx) link(ctx context.Context, k *tollkey.Key) error {
	if err := t.changeLinks(ctx, qLinkPermissions, string(k.ID), texts(permissionIDs(k.Permissions))); err != nil {
		return err
	}
	if err := t.changeLinks(ctx, qLinkRoles, string(k.ID), texts(roleIDs(k.Roles))); err != nil {
		return err
	}
	return t.putRateLimits(ctx, k.Workspace, string(k.ID), k.RateLimits)
}

// UpdateKey implements store.Tx. Each field is written by a statement of its own, so that two updates of different fields never
// undo each other.
func (t *tx) UpdateKey(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.KeyID, u store.KeyUpdate) error {
	// The first write also locks the row: updates of one key follow one another.
	updated := t.now
	if u.UpdatedAt != nil {
		updated = *u.UpdatedAt
	}
	if err := t.one(ctx, keyMissing, qTouchKey, string(id), string(ws), millis(updated)); err != nil {
		return err
	}
	for _, c := range keyColumns(u) {
		if _, err := t.q.ExecContext(ctx, setKeyColumn[c.name], string(id), c.value); err != nil {
			return err
		}
	}
	if u.Refill != nil {
		interval, amount, day := refillColumns(*u.Refill)
		if _, err := t.q.ExecContext(ctx, qRefillKey, string(id), interval, amount, day); err != nil {
			return err
		}
	}
	if u.Remaining != nil {
		if err := t.setBalance(ctx, id, *u.Remaining); err != nil {
			return err
		}
	}
	return t.updateLinks(ctx, ws, id, u)
}

func (t *tx) updateLinks(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.KeyID, u store.KeyUpdate) error {
	if u.Permissions != nil {
		if err := t.replaceLinks(ctx, qUnlinkPermissions, qLinkPermissions, id, texts(*u.Permissions)); err != nil {
			return err
		}
	}
	if u.Roles != nil {
		if err := t.replaceLinks(ctx, qUnlinkRoles, qLinkRoles, id, texts(*u.Roles)); err != nil {
			return err
		}
	}
	if u.RateLimits != nil {
		return t.replaceRateLimits(ctx, ws, string(id), *u.RateLimits)
	}
	return nil
}

type column struct {
	name  string
	value any
}

// setKeyColumn holds the statement for each column that can be set by itself.
var setKeyColumn = func() map[string]string {
	out := map[string]string{}
	for _, name := range []string{"name", "meta", "identity_id", "enabled", "expires_at", "digest", "start"} {
		out[name] = query(fmt.Sprintf("update keys set %s = $2 where id = $1", name))
	}
	return out
}()

func keyColumns(u store.KeyUpdate) (out []column) {
	if u.Name != nil {
		out = append(out, column{"name", *u.Name})
	}
	if u.Meta != nil {
		out = append(out, column{"meta", textOf(*u.Meta)})
	}
	if u.Identity != nil {
		out = append(out, column{"identity_id", orNull(string(*u.Identity))})
	}
	if u.Enabled != nil {
		out = append(out, column{"enabled", *u.Enabled})
	}
	if u.Expires != nil {
		out = append(out, column{"expires_at", millis(*u.Expires)})
	}
	if u.Digest != nil {
		out = append(out, column{"digest", u.Digest[:]})
	}
	if u.Start != nil {
		out = append(out, column{"start", *u.Start})
	}
	return out
}

func (t *tx) setBalance(ctx context.Context, id tollkey.KeyID, remaining *int64) error {
	var err error
	if remaining == nil {
		_, err = t.q.ExecContext(ctx, qDeleteBalance, string(id))
	} else {
		_, err = t.q.ExecContext(ctx, qInsertBalance, string(id), *remaining)
	}
	return err
}

// AddCredits implements store.Tx.
func (t *tx) AddCredits(ctx context.Context, id tollkey.KeyID, amount int64) (remaining int64, done bool, err error) {
	err = t.q.QueryRowContext(ctx, qAddCredits, string(id), amount).Scan(&remaining)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return remaining, err == nil, err
}

// DeleteKey implements store.Tx.
func (t *tx) DeleteKey(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.KeyID, permanent bool) error {
	text, args := qMarkDeleted, []any{string(id), string(ws), t.now.UnixMilli()}
	if permanent {
		text, args = qRemoveKey, args[:2]
	}
	var owner tollkey.APIID
	if err := t.q.QueryRowContext(ctx, text, args...).Scan(&owner); err != nil {
		return notFound(err, keyMissing)
	}
	t.count(owner, -1)
	hanging := []string{qDeleteSealed} // nobody can ask for it any more
	if permanent {
		hanging = append(hanging, qDeleteBalance, qUnlimitKey, qUnlinkPermissions, qUnlinkRoles, qForgetHash)
	}
	for _, text := range hanging {
		if _, err := t.q.ExecContext(ctx, text, string(id)); err != nil {
			return err
		}
	}
	return nil
}

// one runs a statement that must touch exactly one row.
func (t *tx) one(ctx context.Context, missing *tollkey.Error, text string, args ...any) error {
	result, err := t.q.ExecContext(ctx, text, args...)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		if err != nil {
			return err
		}
		return missing
	}
	return nil
}

func refillColumns(r *tollkey.Refill) (interval *string, amount, day *int64) {
	if r == nil {
		return nil, nil, nil
	}
	text, d := string(r.Interval), int64(0)
	if r.Interval == tollkey.RefillMonthly {
		d = int64(r.Day)
	}
	return &text, &r.Amount, &d
}

func bytesOf(s *string) []byte {
	if s == nil {
		return nil
	}
	return []byte(*s)
}

func textOf(b []byte) *string {
	if b == nil {
		return nil
	}
	s := string(b)
	return &s
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func texts[T ~string](ids []T) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = string(id)
	}
	return out
}
