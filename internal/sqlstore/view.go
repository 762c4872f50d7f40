package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/tollkey/tollkey/internal/ledger"
	"github.com/tollkey/tollkey/internal/store"
)

// The two files of a store on SQLite, and the schema in each.
const (
	mainFile, mainSchema   = "tollkey.db", "store"
	usageFile, usageSchema = "usage.db", "usage"
)

// View is a store that is only looked at: nothing is made, migrated, locked or written. On SQLite it works from another process than the server's.
type View struct {
	main, usage *file
	// between, where a test sets it, happens between the two snapshots of a copy.
	between func()
}

// OpenView opens a store that exists.
func OpenView(ctx context.Context, o Options) (*View, error) {
	v := &View{}
	var err error
	if o.URL != "" {
		config, err := pgx.ParseConfig(o.URL)
		if err != nil {
			return nil, fmt.Errorf("the database URL: %w", err)
		}
		pool := stdlib.OpenDB(*config)
		v.main = &file{dialect: postgresDialect, pool: pool, reads: pool}
		v.usage = v.main
	} else {
		if _, err := os.Stat(filepath.Join(o.Dir, decided)); err == nil {
			return nil, fmt.Errorf("a restore into %s was interrupted; the next start of the server, or `tollkey migrate`, finishes it", o.Dir)
		}
		if v.main, err = viewSQLite(filepath.Join(o.Dir, mainFile)); err == nil {
			v.usage, err = viewSQLite(filepath.Join(o.Dir, usageFile))
		}
	}
	if err == nil {
		err = v.Ping(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

func viewSQLite(path string) (*file, error) {
	if _, err := os.Stat(path); err != nil { // SQLite would not say which
		return nil, fmt.Errorf("there is no store: %w", err)
	}
	pool, err := sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		return nil, err
	}
	return &file{dialect: sqliteDialect, pool: pool, reads: pool}, nil
}

// Close closes it. It may be called on a partly opened View.
func (v *View) Close() error {
	var errs []error
	if v.usage != nil && v.usage != v.main {
		errs = append(errs, v.usage.close())
	}
	if v.main != nil {
		errs = append(errs, v.main.close())
	}
	return errors.Join(errs...)
}

// Ping asks the store for a sign of life.
func (v *View) Ping(ctx context.Context) error { return v.main.pool.PingContext(ctx) }

// Nodes lists the rows of the servers, with their age by the store's clock.
func (v *View) Nodes(ctx context.Context) ([]store.NodeStatus, error) {
	return (&DB{main: v.main, usage: v.usage}).Nodes(ctx)
}

var (
	qStoreVersion = query(`select max(version_id) from schema_store`)
	qUsageVersion = query(`select max(version_id) from schema_usage`)
	qFoldedMarks  = query(`select boot, seq from folded`)
	qHolder       = clocked(`select holder from leases where name = $1 and expires_at > CLOCK`)
	qBacklog      = query(`select count(*) from batches`)
	// The first batch of a boot is its oldest; 8388608 is ledger.MaxSeq+1.
	qFirstBatches = query(`select id, data from batches where id in (select min(id) from batches group by id / 8388608)`)
	qClock        = clocked(`select CLOCK`)
)

// Version is a schema's in the store, and the newest that this program knows.
type Version struct {
	Schema         string
	Stored, Newest int64
}

// Versions tells how old both schemas are.
func (v *View) Versions(ctx context.Context) ([]Version, error) {
	all := []Version{{Schema: mainSchema}, {Schema: usageSchema}}
	for i, at := range []struct {
		file *file
		text string
	}{{v.main, qStoreVersion}, {v.usage, qUsageVersion}} {
		var err error
		if all[i].Newest, err = newestVersion(all[i].Schema); err != nil {
			return nil, err
		}
		if err := at.file.pool.QueryRowContext(ctx, at.text).Scan(&all[i].Stored); err != nil {
			return nil, fmt.Errorf("this is no store of Tollkey's: %w", err)
		}
	}
	return all, nil
}

func newestVersion(schema string) (newest int64, err error) {
	names, err := fs.Glob(migrations, "migrations/"+schema+"/*.sql")
	for _, name := range names {
		n, err := goose.NumericComponent(name)
		if err != nil {
			return 0, err
		}
		newest = max(newest, n)
	}
	return newest, err
}

// Holder returns who holds a lease, or "".
func (v *View) Holder(ctx context.Context, lease string) (holder string, err error) {
	err = v.main.pool.QueryRowContext(ctx, qHolder[v.main.dialect.name], lease).Scan(&holder)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return holder, err
}

// Backlog counts the batches that are not rolled up, and calls fn with the oldest of each boot.
func (v *View) Backlog(ctx context.Context, fn func(ledger.Batch) error) (n int64, err error) {
	err = v.main.snapshot(ctx, func(q querier) error {
		if err := q.QueryRowContext(ctx, qBacklog).Scan(&n); err != nil {
			return err
		}
		return eachBatch(ctx, q, fn, qFirstBatches)
	})
	return n, err
}

// Clock is the engine's present time in Unix milliseconds.
func (v *View) Clock(ctx context.Context) (millis int64, err error) {
	err = v.main.pool.QueryRowContext(ctx, qClock[v.main.dialect.name]).Scan(&millis)
	return millis, err
}

// Setting is one of PostgreSQL's own.
func (v *View) Setting(ctx context.Context, name string) (value string, err error) {
	err = v.main.pool.QueryRowContext(ctx, "select current_setting($1)", name).Scan(&value)
	return value, err
}

// Check looks for damage in both files of a store on SQLite, thoroughly (indexes too) or quickly.
func (v *View) Check(ctx context.Context, thoroughly bool) error {
	text := "pragma quick_check(1)"
	if thoroughly {
		text = "pragma integrity_check(1)"
	}
	for name, f := range map[string]*file{mainFile: v.main, usageFile: v.usage} {
		var says string
		if err := f.pool.QueryRowContext(ctx, text).Scan(&says); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if says != "ok" {
			return fmt.Errorf("%s is damaged: %s", name, says)
		}
	}
	return nil
}

// errTorn says that the snapshots of ledger and usage are not of one moment or, if it lasts, that events were lost.
var errTorn = errors.New("batches were deleted from the ledger that usage has not counted")

// agreed compares snapshots of both files, of which that of usage is the older: every batch that main has deleted must be counted in usage.
func agreed(ctx context.Context, main, usage querier) error {
	folded, err := marksOf(ctx, main, qFoldedMarks)
	if err != nil {
		return err
	}
	counted, err := marksOf(ctx, usage, qMarks)
	if err != nil {
		return err
	}
	for boot, seq := range folded {
		if counted[boot] < seq {
			return errTorn
		}
	}
	return nil
}

func marksOf(ctx context.Context, q querier, text string) (map[int64]int64, error) {
	rows, err := q.QueryContext(ctx, text)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	out := map[int64]int64{}
	for rows.Next() {
		var boot, seq int64
		if err := rows.Scan(&boot, &seq); err != nil {
			return nil, err
		}
		out[boot] = seq
	}
	return out, rows.Err()
}

// Agree checks that no event was lost between the ledger and the usage: an event is in a batch, or counted, or both and then known as counted.
func (v *View) Agree(ctx context.Context) error {
	return v.snapshots(ctx, func(main, usage querier) error { return nil })
}

// snapshots runs fn on a snapshot of each file that together are the store at one moment: that of main.
//
// The roller first adds a batch to usage.db and marks it, then deletes it from tollkey.db and notes that in `folded`. So:
//   - usage.db is pinned first. Were it last, it could hold events that came after the snapshot of tollkey.db: counted, but
//     neither spent nor in a batch.
//   - Then a batch may have been counted and deleted between the two, and would be in neither. agreed sees that, since `folded` is then ahead of the
//     marks, and both are pinned anew. A batch that is in both is counted once after a restore, as its mark says.
func (v *View) snapshots(ctx context.Context, fn func(main, usage querier) error) error {
	err := errTorn
	const attempts = 50
	for i := 0; i < attempts && errors.Is(err, errTorn); i++ {
		err = v.usage.snapshot(ctx, func(usage querier) error {
			if _, err := marksOf(ctx, usage, qMarks); err != nil { // the first read pins
				return err
			}
			if v.between != nil {
				v.between()
			}
			return v.main.snapshot(ctx, func(main querier) error {
				if err := agreed(ctx, main, usage); err != nil {
					return err
				}
				return fn(main, usage)
			})
		})
	}
	return err
}
