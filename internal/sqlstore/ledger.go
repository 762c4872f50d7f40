package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/ledger"
)

func replaceClock(text, clock string) string { return strings.ReplaceAll(text, "CLOCK", clock) }

var (
	qBalance     = hotQuery(`select remaining from balances where id = $1`)
	qSetBalance  = hotQuery(`update balances set remaining = $2 where id = $1`)
	qInsertBatch = query(`insert into batches (id, data) values ($1, $2)`)
	// Of a batch that spends, an earlier attempt may have been committed and rolled up since.
	qInsertOnce = hotQuery(`insert into batches (id, data) select $1, $2 where not exists (select 1 from batches where id = $1)
		and not exists (select 1 from folded where boot = $3 and seq >= $4)`)
	qCommitted   = hotQuery(`select 1 where exists (select 1 from batches where id = $1) or exists (select 1 from folded where boot = $2 and seq >= $3)`)
	qBatches     = query(`select id, data from batches order by id limit $1`)
	qDropBatches = hotQuery(`delete from batches where id > $1 and id <= $2`)
	qFolded      = query(`insert into folded (boot, seq) values ($1, $2) on conflict (boot) do update set seq = excluded.seq where folded.seq < excluded.seq`)
	qAddCounter  = query(`insert into counters (bucket, duration, win, used, expires_at) values ($1, $2, $3, $4, $5)
		on conflict (bucket, duration, win) do update set used = counters.used + excluded.used`)
	qCounters     = query(`select bucket, duration, win, used from counters where expires_at > $1`)
	qAllBatches   = query(`select id, data from batches order by id`)
	qCounter      = hotQuery(`select bucket, duration, win, used from counters where bucket = $1`)
	qPruneCounter = query(`delete from counters where (bucket, duration, win) in (select bucket, duration, win from counters where expires_at <= $1 limit $2)`)
	qOldestBatch  = hotQuery(`select min(id) from batches where id > $1 and id <= $2`)
)

// What only PostgreSQL is asked: the rows are locked in order, and all are locked before the first is written.
const (
	pgLockBalances = `select id, remaining from balances where id = any($1::text[]) order by id for update`
	pgSetBalances  = `update balances set remaining = new.remaining from unnest($1::text[], $2::bigint[]) as new(id, remaining) where balances.id = new.id`
)

// Settle implements ledger.Store. All balances are locked in ascending order, so that no two nodes wait for each other.
func (db *DB) Settle(ctx context.Context, id ledger.BatchID, ids []tollkey.BalanceID, settle func(map[tollkey.BalanceID]int64) ledger.Settlement) error {
	if len(ids) == 0 { // one statement is a transaction
		return db.run(ctx, qInsertBatch, rowID(id), settle(nil).Data)
	}
	return db.main.updateUrgent(ctx, func(q querier) error {
		have, err := db.main.dialect.readBalances(ctx, q, ids)
		if err != nil {
			return err
		}
		s := settle(have)
		if len(s.Balances) > 0 {
			if err := db.main.dialect.writeBalances(ctx, q, ids, s.Balances); err != nil {
				return err
			}
		}
		if len(s.Data) == 0 {
			return nil
		}
		result, err := q.ExecContext(ctx, qInsertOnce, rowID(id), s.Data, id.Boot, id.Seq)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, errCommittedBefore)
		}
		return nil
	})
}

var errCommittedBefore = tollkey.NewError(tollkey.CodeConflict, tollkey.ReasonConflict, "This batch was committed before.")

// readEach reads balances one by one, which suits an engine in the same process.
func readEach(ctx context.Context, q querier, ids []tollkey.BalanceID) (map[tollkey.BalanceID]int64, error) {
	have := make(map[tollkey.BalanceID]int64, len(ids))
	for _, id := range ids {
		var remaining int64
		switch err := q.QueryRowContext(ctx, qBalance, string(id)).Scan(&remaining); err {
		case nil:
			have[id] = remaining
		case sql.ErrNoRows:
		default:
			return nil, err
		}
	}
	return have, nil
}

func writeEach(ctx context.Context, q querier, ids []tollkey.BalanceID, remaining map[tollkey.BalanceID]int64) error {
	for _, id := range ids {
		if v, changed := remaining[id]; changed {
			if _, err := q.ExecContext(ctx, qSetBalance, string(id), v); err != nil {
				return err
			}
		}
	}
	return nil
}

// lockAll reads and locks balances in one round trip.
func lockAll(ctx context.Context, q querier, ids []tollkey.BalanceID) (map[tollkey.BalanceID]int64, error) {
	rows, err := q.QueryContext(ctx, pgLockBalances, texts(ids))
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	have := make(map[tollkey.BalanceID]int64, len(ids))
	for rows.Next() {
		var id string
		var remaining int64
		if err := rows.Scan(&id, &remaining); err != nil {
			return nil, err
		}
		have[tollkey.BalanceID(id)] = remaining
	}
	return have, rows.Err()
}

func writeAll(ctx context.Context, q querier, _ []tollkey.BalanceID, remaining map[tollkey.BalanceID]int64) error {
	ids, values := make([]string, 0, len(remaining)), make([]int64, 0, len(remaining))
	for id, v := range remaining {
		ids, values = append(ids, string(id)), append(values, v)
	}
	_, err := q.ExecContext(ctx, pgSetBalances, ids, values)
	return err
}

// Committed implements ledger.Store.
func (db *DB) Committed(ctx context.Context, id ledger.BatchID) (bool, error) {
	if db.Solo() { // what the disk could not be given is not committed as was promised
		if err := db.main.writer.synced(nil); err != nil {
			return false, db.main.dialect.classify(err)
		}
	}
	var one int
	err := db.main.reads.QueryRowContext(ctx, qCommitted, rowID(id), id.Boot, id.Seq).Scan(&one)
	if err == sql.ErrNoRows {
		return false, nil
	}
	return err == nil, db.main.dialect.classify(err)
}

// Balance implements ledger.Store.
func (db *DB) Balance(ctx context.Context, id tollkey.BalanceID) (remaining int64, ok bool, err error) {
	err = db.main.reads.QueryRowContext(ctx, qBalance, string(id)).Scan(&remaining)
	if err == sql.ErrNoRows {
		return 0, false, nil
	}
	return remaining, err == nil, db.main.dialect.classify(err)
}

// Batches implements ledger.Store.
func (db *DB) Batches(ctx context.Context, limit int) (out []ledger.Batch, err error) {
	err = eachBatch(ctx, db.main.reads, func(b ledger.Batch) error { out = append(out, b); return nil }, qBatches, limit)
	return out, db.main.dialect.classify(err)
}

func eachBatch(ctx context.Context, q querier, fn func(ledger.Batch) error, text string, args ...any) error {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id int64
		var b ledger.Batch
		if err := rows.Scan(&id, &b.Data); err != nil {
			return err
		}
		b.ID = batchID(id)
		if err := fn(b); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Fold implements ledger.Store.
func (db *DB) Fold(ctx context.Context, upTo map[int64]int64, batches int, counters []ledger.Counter) (held time.Duration, err error) {
	boots := make([]int64, 0, len(upTo))
	for boot := range upTo {
		boots = append(boots, boot)
	}
	slices.Sort(boots)
	err = db.main.updateRelaxed(ctx, func(q querier) error {
		if began := time.Now(); db.Solo() {
			defer func() { held = time.Since(began) }()
		}
		gone := int64(0)
		for _, boot := range boots {
			result, err := q.ExecContext(ctx, qDropBatches, rowID(ledger.BatchID{Boot: boot}), rowID(ledger.BatchID{Boot: boot, Seq: upTo[boot]}))
			if err != nil {
				return err
			}
			n, err := result.RowsAffected()
			if err != nil {
				return err
			}
			gone += n
			if _, err := q.ExecContext(ctx, qFolded, boot, upTo[boot]); err != nil {
				return err
			}
		}
		if gone != int64(batches) {
			return errMarkMoved
		}
		for _, c := range counters {
			if _, err := q.ExecContext(ctx, qAddCounter, c.Bucket[:], c.DurationMillis, c.Window, c.Used, c.ExpiresMillis()); err != nil {
				return err
			}
		}
		return nil
	})
	return held, err
}

// Counters implements ledger.Store.
func (db *DB) Counters(ctx context.Context, now int64, counter func(ledger.Counter), batch func(ledger.Batch) error) error {
	return db.main.view(ctx, func(q querier) error {
		if err := eachCounter(ctx, q, counter, qCounters, now); err != nil {
			return err
		}
		return eachBatch(ctx, q, batch, qAllBatches)
	})
}

// Counter implements ledger.Store.
func (db *DB) Counter(ctx context.Context, bucket tollkey.BucketID) (out []ledger.Counter, err error) {
	err = eachCounter(ctx, db.main.reads, func(c ledger.Counter) { out = append(out, c) }, qCounter, bucket[:])
	return out, db.main.dialect.classify(err)
}

func eachCounter(ctx context.Context, q querier, fn func(ledger.Counter), text string, args ...any) error {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var c ledger.Counter
		var bucket []byte
		if err := rows.Scan(&bucket, &c.DurationMillis, &c.Window, &c.Used); err != nil {
			return err
		}
		copy(c.Bucket[:], bucket)
		fn(c)
	}
	return rows.Err()
}

// PruneCounters implements ledger.Store.
func (db *DB) PruneCounters(ctx context.Context, now int64, limit int) (int, error) {
	return db.prune(ctx, limit, qPruneCounter, now)
}

// OldestBatch implements ledger.Store.
func (db *DB) OldestBatch(ctx context.Context, boot int64) (int64, bool, error) {
	var id *int64
	first, last := rowID(ledger.BatchID{Boot: boot}), rowID(ledger.BatchID{Boot: boot, Seq: ledger.MaxSeq})
	if err := db.main.reads.QueryRowContext(ctx, qOldestBatch, first, last).Scan(&id); err != nil || id == nil {
		return 0, false, db.main.dialect.classify(err)
	}
	return batchID(*id).Seq, true, nil
}

// rowID is a batch's id as one number, in the order of boots and then of batches.
func rowID(id ledger.BatchID) int64 { return id.Boot*(ledger.MaxSeq+1) + id.Seq }

func batchID(row int64) ledger.BatchID {
	return ledger.BatchID{Boot: row / (ledger.MaxSeq + 1), Seq: row % (ledger.MaxSeq + 1)}
}
