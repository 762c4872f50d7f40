package sqlstore

import (
	"context"
	"errors"
	"slices"

	"github.com/tollkey/tollkey/internal/meter"
)

var (
	qMarks    = query(`select boot, seq from usage_marks`)
	qPutMark  = query(`insert into usage_marks (boot, seq) values ($1, $2) on conflict (boot) do update set seq = excluded.seq where usage_marks.seq = $3`)
	qAddUsage = query(`insert into usage_hours (workspace_id, hour, api_id, key_id, identity_id, outcome, count, credits)
		values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (workspace_id, hour, key_id, api_id, identity_id, outcome)
		do update set count = usage_hours.count + excluded.count, credits = usage_hours.credits + excluded.credits`)
	qUsage = hotQuery(`select hour, api_id, key_id, outcome, cast(sum(count) as bigint), cast(sum(credits) as bigint) from usage_hours
		where workspace_id = $1 and hour >= $2 and hour < $3 and (cast($4 as text) = '' or api_id = $4) and (cast($5 as text) = '' or key_id = $5)
		and (cast($6 as bigint) < 0 or outcome = $6) group by hour, api_id, key_id, outcome`)
)

// errMarkMoved says that another roller was faster.
var errMarkMoved = errors.New("sqlstore: another roller has added these batches")

// Marks implements meter.Store.
func (db *DB) Marks(ctx context.Context) (map[int64]int64, error) {
	marks, err := marksOf(ctx, db.usage.reads, qMarks)
	return marks, db.usage.dialect.classify(err)
}

// AddSums implements meter.Store.
func (db *DB) AddSums(ctx context.Context, from, upTo map[int64]int64, sums []meter.Sum) error {
	boots := make([]int64, 0, len(upTo))
	for boot := range upTo {
		boots = append(boots, boot)
	}
	slices.Sort(boots)
	return db.usage.update(ctx, func(q querier) error {
		for _, boot := range boots {
			result, err := q.ExecContext(ctx, qPutMark, boot, upTo[boot], from[boot])
			if err != nil {
				return err
			}
			if n, err := result.RowsAffected(); err != nil || n == 0 {
				return errors.Join(errMarkMoved, err)
			}
		}
		for _, s := range sums {
			_, err := q.ExecContext(ctx, qAddUsage, string(s.Workspace), s.Hour, string(s.API), string(s.Key), string(s.Identity), int64(s.Outcome), s.Count, s.Credits)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Usage implements meter.Store. The engine adds up by hour; days and months, which no two engines cut alike, are cut in Go.
func (db *DB) Usage(ctx context.Context, q meter.Query) ([]meter.Row, error) {
	outcome := int64(-1)
	if q.Outcome != nil {
		outcome = int64(*q.Outcome)
	}
	rows, err := db.usage.reads.QueryContext(ctx, qUsage, string(q.Workspace), q.From, q.To, string(q.API), string(q.Key), outcome)
	if err != nil {
		return nil, db.usage.dialect.classify(err)
	}
	defer func() { _ = rows.Close() }()
	table := meter.NewTable(q)
	for rows.Next() {
		var s meter.Sum
		if err := rows.Scan(&s.Hour, &s.API, &s.Key, &s.Outcome, &s.Count, &s.Credits); err != nil {
			return nil, db.usage.dialect.classify(err)
		}
		table.Add(&s)
	}
	if err := rows.Err(); err != nil {
		return nil, db.usage.dialect.classify(err)
	}
	return table.Page(), nil
}
