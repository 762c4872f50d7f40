package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// A slice looks at its clock after every so many keys, and those that become limited are listed in one change.
const refillChunk = maxListed

// In each chunk the keys are locked first and the balances after them, as an update of a key does, both in ascending order. A key that is to be
// refilled is marked by updated_at; the balances are then compared again, since they may be spent from until they are locked. The limit tells the
// planner that these are few.
const refillChosen = `(select k.id from keys k where k.refill_day = $1 and k.id > $2 and k.id <= $3 and k.deleted_at is null order by k.id limit 100)`

var (
	qRefills     = query(`select done, day, slot, after_key from refills where id = 1`)
	qFirstRefill = query(`insert into refills (id, done, day, slot, after_key) values (1, $1, $1, 0, '') on conflict (id) do nothing`)
	qMoveRefill  = query(`update refills set done = $1, day = $2, slot = $3, after_key = $4
		where id = 1 and done = $5 and day = $6 and slot = $7 and after_key = $8`)
	qRefillPage = hotQuery(`select id from keys where refill_day = $1 and id > $2 and deleted_at is null order by id limit $3`)
	qRefillMark = hotQuery(`update keys set updated_at = $5 where id in ` + refillChosen + ` and created_at < $4
		and not exists (select 1 from balances b where b.id = keys.id and b.remaining >= keys.refill_amount)`)
	qRefillNew = hotQuery(`insert into balances (id, remaining) select c.id, c.refill_amount from keys c
		where c.id in ` + refillChosen + ` and c.updated_at = $4 and not exists (select 1 from balances b where b.id = c.id) order by c.id on conflict (id) do nothing returning id`)
	qRefill = hotQuery(`insert into balances (id, remaining) select c.id, c.refill_amount from keys c
		where c.id in ` + refillChosen + ` and c.updated_at = $4 order by c.id on conflict (id) do update set remaining = excluded.remaining where balances.remaining < excluded.remaining`)
)

// RefillProgress implements store.Refills.
func (db *DB) RefillProgress(ctx context.Context, today int64) (store.RefillProgress, error) {
	p, err := scanRefills(db.main.pool.QueryRowContext(ctx, qRefills))
	if errors.Is(err, sql.ErrNoRows) {
		if err := db.run(ctx, qFirstRefill, today); err != nil {
			return p, err
		}
		p, err = scanRefills(db.main.pool.QueryRowContext(ctx, qRefills))
	}
	return p, db.main.dialect.classify(err)
}

func scanRefills(row *sql.Row) (p store.RefillProgress, err error) {
	return p, row.Scan(&p.Done, &p.Day, &p.Slot, &p.After)
}

// MoveRefill implements store.Refills.
func (db *DB) MoveRefill(ctx context.Context, from, to store.RefillProgress) error {
	return db.run(ctx, qMoveRefill, to.Done, to.Day, to.Slot, string(to.After), from.Done, from.Day, from.Slot, string(from.After))
}

// RefillSlice implements store.Refills. What the power takes with it is done again: the progress is in the same transaction.
func (db *DB) RefillSlice(ctx context.Context, s store.RefillSlice) (refilled int64, err error) {
	_, err = db.announced(ctx, s.Now, db.main.updateRelaxed, func(t *tx) error {
		refilled = 0
		stored, err := scanRefills(t.q.QueryRowContext(ctx, qRefills+t.lockRow))
		if err != nil || stored != s.From {
			return err
		}
		to := store.RefillProgress{Done: stored.Done, Day: stored.Day, Slot: s.Slot}
		if stored.Slot == s.Slot {
			to.After = stored.After
		}
		for began := time.Now(); ; {
			more, n, err := t.refillChunk(ctx, s, &to)
			if err != nil {
				return err
			}
			refilled += n
			if !more {
				to.Slot, to.After = s.Slot+1, ""
			}
			if !more || time.Since(began) >= s.Budget || len(t.announce.Cells)+refillChunk > maxListed {
				break
			}
		}
		return t.one(ctx, refillMoved, qMoveRefill, to.Done, to.Day, to.Slot, string(to.After), stored.Done, stored.Day, stored.Slot, string(stored.After))
	})
	return refilled, err
}

var refillMoved = tollkey.NewError(tollkey.CodeInternal, tollkey.ReasonUnexpected, "The progress of refills changed under a lock.")

// refillChunk refills the keys after to.After, which it moves.
func (t *tx) refillChunk(ctx context.Context, s store.RefillSlice, to *store.RefillProgress) (more bool, refilled int64, err error) {
	due, now := s.Before.UnixMilli(), t.now.UnixMilli()
	page, err := t.ids(ctx, qRefillPage+t.lockRow, s.Slot, string(to.After), refillChunk)
	if err != nil || len(page) == 0 {
		return false, 0, err
	}
	first, last := string(to.After), page[len(page)-1]
	to.After = tollkey.KeyID(last)
	if _, err := t.q.ExecContext(ctx, qRefillMark, s.Slot, first, last, due, now); err != nil {
		return false, 0, err
	}
	limited, err := t.ids(ctx, qRefillNew, s.Slot, first, last, now)
	if err != nil {
		return false, 0, err
	}
	if len(limited) > 0 {
		t.Announce(store.Announcement{Cells: limited})
	}
	result, err := t.q.ExecContext(ctx, qRefill, s.Slot, first, last, now)
	if err != nil {
		return false, 0, err
	}
	raised, err := result.RowsAffected()
	return true, raised + int64(len(limited)), err // only an empty page is the end: a locked one is short of what has just been deleted
}

// ids runs a statement that returns ids.
func (r reader) ids(ctx context.Context, text string, args ...any) (out []string, err error) {
	rows, err := r.q.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		out = append(out, id)
	}
	return out, rows.Err()
}
