package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// dialect is all in which the engines differ.
type dialect struct {
	name        string
	goose       goose.Dialect
	viewOptions *sql.TxOptions
	// clock is the engine's present time in Unix milliseconds.
	clock string
	// lockRow is appended to a select that must lock the rows it reads.
	lockRow string
	// keepRow is appended to a select whose rows must not be deleted before the transaction ends.
	keepRow string
	// readBalances locks and reads those of the balances that exist; writeBalances writes those that it is given.
	readBalances  func(context.Context, querier, []tollkey.BalanceID) (map[tollkey.BalanceID]int64, error)
	writeBalances func(context.Context, querier, []tollkey.BalanceID, map[tollkey.BalanceID]int64) error
	// touchKeys writes when keys were last used, in ascending order.
	touchKeys func(context.Context, querier, []store.Use) error
	retryable func(error) bool
	conflict  func(error) bool
	// answered reports whether the error is the engine's own answer, and not the lack of one.
	answered func(error) bool
}

var sqliteDialect = &dialect{
	name: "sqlite", goose: goose.DialectSQLite3, viewOptions: &sql.TxOptions{ReadOnly: true},
	clock:        "cast(unixepoch('subsec') * 1000 as integer)",
	readBalances: readEach, writeBalances: writeEach, touchKeys: touchEach,
	retryable: func(error) bool { return false },
	conflict: func(err error) bool {
		var e *sqlite.Error
		return errors.As(err, &e) && (e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || e.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
	},
	answered: func(err error) bool {
		var e *sqlite.Error
		return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_CONSTRAINT
	},
}

var postgresDialect = &dialect{
	name: "postgres", goose: goose.DialectPostgres,
	viewOptions: &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true},
	clock:       "cast(extract(epoch from clock_timestamp()) * 1000 as bigint)",
	lockRow:     " for update", keepRow: " for key share", readBalances: lockAll, writeBalances: writeAll, touchKeys: touchAll,
	retryable: func(err error) bool {
		var e *pgconn.PgError
		return errors.As(err, &e) && (e.Code == "40001" || e.Code == "40P01")
	},
	conflict: func(err error) bool {
		var e *pgconn.PgError
		return errors.As(err, &e) && e.Code == "23505"
	},
	answered: func(err error) bool {
		var e *pgconn.PgError
		// Classes 53, 57, 58 and 08 say that the server cannot serve, not what is wrong with the question.
		return errors.As(err, &e) && !strings.Contains("08 53 57 58", e.Code[:2])
	},
}

// classify turns a driver's error into a *tollkey.Error, once.
func (d *dialect) classify(err error) error {
	var known *tollkey.Error
	switch {
	case err == nil, errors.As(err, &known), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, sql.ErrNoRows):
		return err
	case d.conflict(err):
		return tollkey.NewError(tollkey.CodeConflict, tollkey.ReasonConflict, "Something with this name or value exists already.").Because(err)
	case d.answered(err):
		return tollkey.NewError(tollkey.CodeInternal, tollkey.ReasonUnexpected, "The store refused a statement.").Because(err)
	default:
		return tollkey.Unavailable(err)
	}
}

//go:embed migrations
var migrations embed.FS

// migrate brings the schema called name up to date. It is forward-only.
func (d *dialect) migrate(ctx context.Context, pool *sql.DB, name string) error {
	dir, err := fs.Sub(migrations, "migrations/"+name)
	if err != nil {
		return err
	}
	options := []goose.ProviderOption{goose.WithTableName("schema_" + name), goose.WithDisableGlobalRegistry(true)}
	if d == postgresDialect {
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return err
		}
		options = append(options, goose.WithSessionLocker(locker))
	} else {
		dir = sqliteTypes{dir}
	}
	provider, err := goose.NewProvider(d.goose, pool, dir, options...)
	if err != nil {
		return fmt.Errorf("migrations of %s: %w", name, err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrating %s: %w", name, err)
	}
	return nil
}

func openPostgres(ctx context.Context, address string) (*file, error) {
	config, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, fmt.Errorf("the database URL: %w", err)
	}
	// A node that is frozen within a transaction must not hold its locks for longer than its lease of the cache lasts.
	config.RuntimeParams["idle_in_transaction_session_timeout"] = "3000"
	pool := stdlib.OpenDB(*config)
	const connections = 20
	pool.SetMaxOpenConns(connections)
	pool.SetMaxIdleConns(connections)
	f := &file{dialect: postgresDialect, pool: pool, reads: pool}
	for _, name := range []string{mainSchema, usageSchema} {
		if err := f.dialect.migrate(ctx, pool, name); err != nil {
			return nil, errors.Join(err, pool.Close())
		}
	}
	return f, nil
}

func openSQLite(ctx context.Context, path, schema string) (*file, error) {
	open := func(pragmas ...string) (*sql.DB, error) {
		q := url.Values{}
		for _, pragma := range append(pragmas, "busy_timeout(10000)", "journal_mode(wal)", "synchronous(normal)", "foreign_keys(1)", "temp_store(memory)") {
			q.Add("_pragma", pragma)
		}
		return sql.Open("sqlite", "file:"+path+"?"+q.Encode())
	}
	const cache = "cache_size(-32000)"
	writing, err := open(cache, "wal_autocheckpoint(0)") // the journal's part
	if err != nil {
		return nil, err
	}
	writing.SetMaxOpenConns(1)
	if err := sqliteDialect.migrate(ctx, writing, schema); err != nil {
		return nil, errors.Join(err, writing.Close())
	}
	reading, err := open(cache, "query_only(1)")
	if err != nil {
		return nil, errors.Join(err, writing.Close())
	}
	const readers = 8
	reading.SetMaxOpenConns(readers)
	reading.SetMaxIdleConns(readers)
	copying, err := open()
	if err != nil {
		return nil, errors.Join(err, reading.Close(), writing.Close())
	}
	w, err := newWriter(ctx, writing, newJournal(path, copying))
	if err != nil {
		return nil, errors.Join(err, copying.Close(), reading.Close(), writing.Close())
	}
	return &file{dialect: sqliteDialect, pool: reading, reads: newPrepared(reading), writer: w}, nil
}

// sqliteTypes shows the migrations, which are written in PostgreSQL's types, in those of SQLite's strict tables.
type sqliteTypes struct{ fs.FS }

var (
	typeWords = strings.NewReplacer(" bigint", " integer", " boolean", " integer", " bytea", " blob")
	tableEnds = regexp.MustCompile(`(create table [^;]*\));`)
)

// Open translates a file as it is opened; folders pass unchanged.
func (t sqliteTypes) Open(name string) (fs.File, error) {
	f, err := t.FS.Open(name)
	if err != nil || !strings.HasSuffix(name, ".sql") {
		return f, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	text, err := fs.ReadFile(t.FS, name)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return &translated{strings.NewReader(tableEnds.ReplaceAllString(typeWords.Replace(string(text)), "$1 strict;")), info}, nil
}

type translated struct {
	*strings.Reader
	info fs.FileInfo
}

func (t *translated) Stat() (fs.FileInfo, error) { return t.info, nil }
func (t *translated) Close() error               { return nil }
