package sqlstore

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/tollkey/tollkey/internal/store"
)

var (
	qUsedKey     = hotQuery(`update keys set last_used_at = $2 where id = $1 and (last_used_at is null or last_used_at < $2)`)
	qUsedRootKey = hotQuery(`update root_keys set last_used_at = $2 where id = $1 and (last_used_at is null or last_used_at < $2)`)
)

// usesChunk is how many are written before the clock is looked at.
const usesChunk = 50

// What only PostgreSQL is asked: keys are locked in ascending order, and a chunk of them is written at once.
const (
	pgLockKeys = `select id from keys where id = any($1::text[]) order by id for update`
	pgUsedKeys = `update keys set last_used_at = new.at from unnest($1::text[], $2::bigint[]) as new(id, at)
		where keys.id = new.id and (keys.last_used_at is null or keys.last_used_at < new.at)`
)

// PutLastUsed implements store.Uses.
func (db *DB) PutLastUsed(ctx context.Context, uses []store.Use, budget time.Duration) (done int, err error) {
	slices.SortFunc(uses, func(a, b store.Use) int { return strings.Compare(string(a.Key), string(b.Key)) })
	err = db.main.updateRelaxed(ctx, func(q querier) error {
		done = 0
		for began := time.Now(); done < len(uses) && (done == 0 || time.Since(began) < budget); {
			chunk := uses[done:min(done+usesChunk, len(uses))]
			if err := db.main.dialect.touchKeys(ctx, q, chunk); err != nil {
				return err
			}
			done += len(chunk)
		}
		return nil
	})
	return done, err
}

// touchEach writes one by one, which suits an engine in the same process.
func touchEach(ctx context.Context, q querier, uses []store.Use) error {
	for _, u := range uses {
		text := qUsedKey
		if u.Root {
			text = qUsedRootKey
		}
		if _, err := q.ExecContext(ctx, text, string(u.Key), u.At.UnixMilli()); err != nil {
			return err
		}
	}
	return nil
}

// touchAll writes keys together. Root keys are few.
func touchAll(ctx context.Context, q querier, uses []store.Use) error {
	var ids []string
	var times []int64
	for _, u := range uses {
		if u.Root {
			if err := touchEach(ctx, q, []store.Use{u}); err != nil {
				return err
			}
			continue
		}
		ids, times = append(ids, string(u.Key)), append(times, u.At.UnixMilli())
	}
	if len(ids) == 0 {
		return nil
	}
	if _, err := q.ExecContext(ctx, pgLockKeys, ids); err != nil {
		return err
	}
	_, err := q.ExecContext(ctx, pgUsedKeys, ids, times)
	return err
}
