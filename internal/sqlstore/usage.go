package sqlstore

import (
	"context"
	"errors"
	"slices"

	"github.com/tollkey/tollkey/internal/meter"
)

var (
	qMarks      = query(`select boot, seq from usage_marks`)
	qPutMark    = query(`insert into usage_marks (boot, seq) values ($1, $2) on conflict (boot) do update set seq = excluded.seq where usage_marks.seq = $3`)
	qAddMinutes = addUsage("usage_minutes")
	qAddHours   = addUsage("usage_hours")
	// SQLite and PostgreSQL both find the rows of one key or identity by an index of their own.
	qMinutes      = usageOf("usage_minutes")
	qHours        = usageOf("usage_hours")
	qPruneMinutes = hotQuery(`delete from usage_minutes where (workspace_id, start, key_id, api_id, identity_id, outcome) in
		(select workspace_id, start, key_id, api_id, identity_id, outcome from usage_minutes where start < $1 order by start limit $2)`)
)

func addUsage(table string) string {
	return query(`insert into ` + table + ` (workspace_id, start, api_id, key_id, identity_id, outcome, count, credits)
		values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (workspace_id, start, key_id, api_id, identity_id, outcome)
		do update set count = ` + table + `.count + excluded.count, credits = ` + table + `.credits + excluded.credits`)
}

// usageOf holds the reads of a table: of the workspace, of one key, and of one identity.
func usageOf(table string) (texts [3]string) {
	for i, narrowed := range []string{"", " and key_id = $5", " and identity_id = $7"} {
		texts[i] = hotQuery(`select start, api_id, key_id, outcome, cast(sum(count) as bigint), cast(sum(credits) as bigint) from ` + table + `
			where workspace_id = $1 and start >= $2 and start < $3` + narrowed + ` and (cast($4 as text) = '' or api_id = $4) and (cast($5 as text) = '' or key_id = $5)
			and (cast($6 as bigint) < 0 or outcome = $6) and (cast($7 as text) = '' or identity_id = $7) group by start, api_id, key_id, outcome`)
	}
	return texts
}

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
		if err := insertSums(ctx, q, qAddMinutes, sums); err != nil {
			return err
		}
		return insertSums(ctx, q, qAddHours, byHour(sums))
	})
}

func insertSums(ctx context.Context, q querier, text string, sums []meter.Sum) error {
	for _, s := range sums {
		_, err := q.ExecContext(ctx, text, string(s.Workspace), s.Start, string(s.API), string(s.Key), string(s.Identity), int64(s.Outcome), s.Count, s.Credits)
		if err != nil {
			return err
		}
	}
	return nil
}

func byHour(sums []meter.Sum) []meter.Sum {
	hours := map[meter.Sum]int{}
	var out []meter.Sum
	for _, s := range sums {
		group := s
		group.Start, group.Count, group.Credits = s.Start-s.Start%meter.HourMillis, 0, 0
		at, known := hours[group]
		if !known {
			at = len(out)
			hours[group], out = at, append(out, group)
		}
		out[at].Count += s.Count
		out[at].Credits += s.Credits
	}
	return out
}

// PruneMinutes implements meter.Store.
func (db *DB) PruneMinutes(ctx context.Context, before int64, limit int) (n int, err error) {
	err = db.usage.update(ctx, func(q querier) error {
		result, err := q.ExecContext(ctx, qPruneMinutes, before, limit)
		if err != nil {
			return err
		}
		gone, err := result.RowsAffected()
		n = int(gone)
		return err
	})
	return n, err
}

// Usage implements meter.Store. The engine adds up by hour; days and months, which no two engines cut alike, are cut in Go.
func (db *DB) Usage(ctx context.Context, q meter.Query) ([]meter.Row, error) {
	outcome := int64(-1)
	if q.Outcome != nil {
		outcome = int64(*q.Outcome)
	}
	texts, which := qHours, 0
	if q.Interval == meter.IntervalMinute {
		texts = qMinutes
	}
	if q.Key != "" {
		which = 1
	} else if q.Identity != "" {
		which = 2
	}
	rows, err := db.usage.reads.QueryContext(ctx, texts[which], string(q.Workspace), q.From, q.To, string(q.API), string(q.Key), outcome, string(q.Identity))
	if err != nil {
		return nil, db.usage.dialect.classify(err)
	}
	defer func() { _ = rows.Close() }()
	table := meter.NewTable(q)
	for rows.Next() {
		var s meter.Sum
		if err := rows.Scan(&s.Start, &s.API, &s.Key, &s.Outcome, &s.Count, &s.Credits); err != nil {
			return nil, db.usage.dialect.classify(err)
		}
		table.Add(&s)
	}
	if err := rows.Err(); err != nil {
		return nil, db.usage.dialect.classify(err)
	}
	return table.Page(), nil
}
