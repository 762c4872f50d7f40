// Package sqlstore is the one SQL implementation of the store, the ledger's store and the meter's store, on SQLite and on
// PostgreSQL. Every statement is written once and runs as it is on both; what differs is in dialect.go.
//
// On SQLite there is one writer per file: a goroutine with two queues, the ledger's first. The roll-ups of usage live in a
// second file with a writer of its own, so that they never delay a verification. Nobody waits for the disk while he has the writer (journal.go). On PostgreSQL all is in one database.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/ledger"
	"github.com/tollkey/tollkey/internal/meter"
	"github.com/tollkey/tollkey/internal/store"
)

var (
	_ store.Store  = (*DB)(nil)
	_ ledger.Store = (*DB)(nil)
	_ meter.Store  = (*DB)(nil)
)

// Options of Open.
type Options struct {
	Dir string // the data directory; of use without URL
	URL string // postgres://…; wins over Dir
	// DiskSync makes the ledger's commits on SQLite survive power loss, and not only the death of the process. On PostgreSQL they always do, as the
	// server's synchronous_commit says.
	DiskSync bool
}

// DB is an open store. All methods may be called concurrently.
type DB struct {
	main  *file
	usage *file
	lock  *os.File
	woken *bell
}

// Open opens the store, making and migrating it where needed. Several nodes may open one PostgreSQL database at once: one migrates, the
// others wait. A data directory belongs to one process.
func Open(ctx context.Context, o Options) (*DB, error) {
	db := &DB{woken: newBell()}
	var err error
	if o.URL != "" {
		db.main, err = openPostgres(ctx, o.URL)
		db.usage = db.main
	} else {
		err = db.openFiles(ctx, o.Dir)
	}
	if err == nil && db.main.writer != nil {
		db.main.writer.diskSync = o.DiskSync
	}
	if err == nil {
		// The epoch names this history of the store; a restore from a backup begins another.
		err = db.run(ctx, qFirstFeed, tollkey.NewID("epoch", time.Now()))
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func (db *DB) openFiles(ctx context.Context, dir string) error {
	var err error
	if db.lock, err = lockDir(dir); err != nil {
		return err
	}
	if err := finishRestore(dir); err != nil {
		return fmt.Errorf("finishing an interrupted restore: %w", err)
	}
	if db.main, err = openSQLite(ctx, filepath.Join(dir, mainFile), mainSchema); err != nil {
		return err
	}
	db.usage, err = openSQLite(ctx, filepath.Join(dir, usageFile), usageSchema)
	return err
}

// Solo reports whether no other process can share this store.
func (db *DB) Solo() bool { return db.main.writer != nil }

// Close waits for the writers and closes everything. It may be called on a partly opened DB.
func (db *DB) Close() error {
	var errs []error
	if db.usage != nil && db.usage != db.main {
		errs = append(errs, db.usage.close())
	}
	if db.main != nil {
		errs = append(errs, db.main.close())
	}
	if db.lock != nil {
		errs = append(errs, db.lock.Close())
	}
	return errors.Join(errs...)
}

// Ping asks the store for a sign of life.
func (db *DB) Ping(ctx context.Context) error {
	return db.main.dialect.classify(db.main.pool.PingContext(ctx))
}

// querier is what statements run on: a transaction, the writer's connection, or the pool.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// file is one database: a pool to read from and, on SQLite, its writer.
type file struct {
	dialect *dialect
	pool    *sql.DB
	reads   querier // the pool, for single statements
	writer  *writer // nil on PostgreSQL, where the pool writes too
}

func (f *file) close() error {
	if f.writer != nil {
		f.writer.close()
	}
	return f.pool.Close()
}

// view runs fn on one snapshot.
func (f *file) view(ctx context.Context, fn func(querier) error) error {
	return f.dialect.classify(f.snapshot(ctx, fn))
}

// snapshot is view where fn's errors may have nothing to do with the store.
func (f *file) snapshot(ctx context.Context, fn func(querier) error) error {
	tx, err := f.pool.BeginTx(ctx, f.dialect.viewOptions)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // there is nothing to lose
	var q querier = tx
	if p, ok := f.reads.(*prepared); ok {
		q = p.within(tx)
	}
	return fn(q)
}

// update runs fn in a transaction and commits.
func (f *file) update(ctx context.Context, fn func(querier) error) error {
	if f.writer != nil {
		return f.dialect.classify(f.writer.do(ctx, fn))
	}
	const attempts = 10
	var err error
	for range attempts {
		if err = f.updateOnce(ctx, fn); !f.dialect.retryable(err) {
			break
		}
	}
	return f.dialect.classify(err)
}

// updateUrgent is update for the ledger and for signs of life: on SQLite before all that waits, as durable as Options say.
func (f *file) updateUrgent(ctx context.Context, fn func(querier) error) error {
	if f.writer != nil {
		return f.dialect.classify(f.writer.doUrgent(ctx, fn))
	}
	return f.update(ctx, fn)
}

// updateRelaxed is update for work that is done again should the power fail.
func (f *file) updateRelaxed(ctx context.Context, fn func(querier) error) error {
	if f.writer != nil {
		return f.dialect.classify(f.writer.doRelaxed(ctx, fn))
	}
	return f.update(ctx, fn)
}

// sliceFor is how long work that can wait may hold SQLite's writer, the commit not counted.
const sliceFor = 3 * time.Millisecond

// prune runs a delete that takes a bound and a number of rows, until nothing is left, limit is reached or the slice's time is over.
func (db *DB) prune(ctx context.Context, limit int, text string, bound int64) (n int, err error) {
	const step = 50
	err = db.main.updateRelaxed(ctx, func(q querier) error {
		n = 0
		for began := time.Now(); n < limit && time.Since(began) < sliceFor; {
			result, err := q.ExecContext(ctx, text, bound, min(step, limit-n))
			if err != nil {
				return err
			}
			gone, err := result.RowsAffected()
			if err != nil || gone == 0 {
				return err
			}
			n += int(gone)
		}
		return nil
	})
	return n, err
}

func (f *file) updateOnce(ctx context.Context, fn func(querier) error) error {
	tx, err := f.pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// statements holds every statement of this package by its text, so that a test can prepare each on both engines.
var statements []statement

type statement struct {
	text string
	// hot statements must use an index: a test reads their plans.
	hot bool
}

// query registers a statement.
func query(text string) string { return register(text, false) }

// hotQuery registers a statement of which a test proves that it scans no table.
func hotQuery(text string) string { return register(text, true) }

func register(text string, hot bool) string {
	statements = append(statements, statement{text, hot})
	return text
}

// notFound turns "no rows" into the given error.
func notFound(err error, missing *tollkey.Error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return missing
	}
	return err
}
