package sqlstore

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// View implements store.Store.
func (db *DB) View(ctx context.Context, fn func(store.Reader) error) error {
	return db.main.view(ctx, func(q querier) error { return fn(reader{q}) })
}

// Update implements store.Store.
func (db *DB) Update(ctx context.Context, now time.Time, fn func(store.Tx) error) (int64, error) {
	return db.announced(ctx, now, db.main.update, func(t *tx) error { return fn(t) })
}

// UpdateSlice implements store.Store.
func (db *DB) UpdateSlice(ctx context.Context, now time.Time, fn func(store.Tx) error) (int64, error) {
	return db.announced(ctx, now, db.main.updateRelaxed, func(t *tx) error { return fn(t) })
}

// announced runs fn in a transaction made by update, writes what it audited and announced, and wakes the followers.
func (db *DB) announced(ctx context.Context, now time.Time, update func(context.Context, func(querier) error) error, fn func(*tx) error) (int64, error) {
	var change int64
	err := update(ctx, func(q querier) error {
		t := &tx{reader: reader{q}, now: time.UnixMilli(now.UnixMilli()), lockRow: db.main.dialect.lockRow, keepRow: db.main.dialect.keepRow}
		if err := fn(t); err != nil {
			return err
		}
		var err error
		change, err = t.finish(ctx)
		return err
	})
	if err == nil && change > 0 {
		db.woken.ring()
		if !db.Solo() {
			_, _ = db.main.pool.ExecContext(ctx, "notify tollkey_changes") // a hint: followers poll as well
		}
	}
	return change, err
}

// reader implements store.Reader on any querier.
type reader struct{ q querier }

// tx implements store.Tx.
type tx struct {
	reader
	now      time.Time
	lockRow  string
	keepRow  string
	audit    []tollkey.AuditEntry
	announce store.Announcement
	wanted   bool
	counted  map[tollkey.APIID]int64 // keys added to an API, less those taken from it
}

// Now implements store.Tx.
func (t *tx) Now() time.Time { return t.now }

// Audit implements store.Tx.
func (t *tx) Audit(entries ...tollkey.AuditEntry) { t.audit = append(t.audit, entries...) }

// Announce implements store.Tx.
func (t *tx) Announce(a store.Announcement) {
	t.wanted = true
	t.announce.Cells = append(t.announce.Cells, a.Cells...)
	t.announce.Digests = append(t.announce.Digests, a.Digests...)
	t.announce.Keys = append(t.announce.Keys, a.Keys...)
	t.announce.Flush = t.announce.Flush || a.Flush
}

// maxListed is how many created keys a change lists; beyond, it names the range of their ids.
const maxListed = 100

// changeBody is a change's part that is not in columns of its own.
type changeBody struct {
	Cells    []string         `json:"cells,omitempty"`
	Digests  []tollkey.Digest `json:"digests,omitempty"`
	FirstKey tollkey.KeyID    `json:"firstKey,omitempty"`
	LastKey  tollkey.KeyID    `json:"lastKey,omitempty"`
}

var (
	qNextNumber   = query(`update feed set number = number + $1, audited = audited + $2 where id = 1 returning number, audited`)
	qInsertChange = query(`insert into changes (number, at, kind, body) values ($1, $2, $3, $4) returning (select hash from audit_entries where seq = $5)`)
)

// finish writes what was counted, audited and announced, as the last statements of the transaction: the feed's row is locked only from here to the commit.
// That lock puts changes and audit entries in one order, which is that of the commits.
func (t *tx) finish(ctx context.Context) (number int64, err error) {
	if !t.wanted && len(t.audit) == 0 {
		return 0, t.countKeys(ctx)
	}
	if err := t.insertTargets(ctx); err != nil {
		return 0, err
	}
	kind, body := t.change()
	text, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	var step, last int64
	if t.wanted {
		step = 1
	}
	if err := t.countKeys(ctx); err != nil {
		return 0, err
	}
	if err := t.q.QueryRowContext(ctx, qNextNumber, step, len(t.audit)).Scan(&number, &last); err != nil {
		return 0, err
	}
	before := last - int64(len(t.audit))
	if !t.wanted {
		return 0, t.insertAudit(ctx, before, t.q.QueryRowContext(ctx, qAuditHash, before))
	}
	// The statement sees what was committed before the lock was had, and so brings the hash to go on from.
	change := t.q.QueryRowContext(ctx, qInsertChange, number, t.now.UnixMilli(), string(kind), string(text), before)
	return number, t.insertAudit(ctx, before, change)
}

func (t *tx) change() (tollkey.ChangeKind, changeBody) {
	a := &t.announce
	slices.Sort(a.Cells)
	body := changeBody{Cells: slices.Compact(a.Cells), Digests: a.Digests}
	kind := tollkey.ChangeCells
	if len(a.Keys) > maxListed {
		body = changeBody{FirstKey: slices.Min(a.Keys), LastKey: slices.Max(a.Keys)}
	}
	if a.Flush {
		kind = tollkey.ChangeFlush
	}
	return kind, body
}

// millis stores a time; the zero time is null.
func millis(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	ms := t.UnixMilli()
	return &ms
}

// timeOf is the inverse of millis.
func timeOf(ms *int64) time.Time {
	if ms == nil {
		return time.Time{}
	}
	return time.UnixMilli(*ms)
}
