package sqlstore

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/conformance"
	"github.com/tollkey/tollkey/internal/ledger"
	"github.com/tollkey/tollkey/internal/meter"
	"github.com/tollkey/tollkey/internal/store"
)

var now = time.UnixMilli(1_790_000_000_000)

// engines holds where a store lives, on each engine.
var engines = map[string]func(t *testing.T) Options{
	"sqlite":   func(t *testing.T) Options { return Options{Dir: t.TempDir()} },
	"postgres": func(t *testing.T) Options { return Options{URL: conformance.Postgres(t)} },
}

// fresh opens an empty store for a test.
func fresh(t *testing.T, options Options) *DB {
	t.Helper()
	db, err := Open(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// onBoth runs a test on a fresh store of each engine.
func onBoth(t *testing.T, test func(t *testing.T, db *DB)) {
	t.Helper()
	for name, options := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, fresh(t, options(t)))
		})
	}
}

// TestConformance proves the three contracts on both engines.
func TestConformance(t *testing.T) {
	for name, options := range engines {
		t.Run(name+"/store", func(t *testing.T) {
			conformance.Store(t, func(t *testing.T) store.Store { return fresh(t, options(t)) })
		})
		t.Run(name+"/ledger", func(t *testing.T) {
			conformance.Ledger(t, func(t *testing.T, balances map[tollkey.BalanceID]int64) ledger.Store {
				db := fresh(t, options(t))
				putBalances(t, db, balances)
				return db
			})
		})
		t.Run(name+"/refills", func(t *testing.T) {
			conformance.Refills(t, func(t *testing.T) conformance.Books { return fresh(t, options(t)) })
		})
		t.Run(name+"/meter", func(t *testing.T) {
			conformance.Meter(t, func(t *testing.T) (meter.Store, ledger.Store) {
				db := fresh(t, options(t))
				return db, db
			})
		})
	}
}

// putBalances makes keys with these credits.
func putBalances(t testing.TB, db *DB, balances map[tollkey.BalanceID]int64) {
	t.Helper()
	_, err := db.Update(t.Context(), now, func(tx store.Tx) error {
		var keys []*tollkey.Key
		for id, credits := range balances {
			k := &tollkey.Key{ID: tollkey.KeyID(id), Workspace: "ws_1", API: "api_1", Enabled: true, CreatedAt: now}
			copy(k.Digest[:], id)
			k.Credits.Remaining = &credits
			keys = append(keys, k)
		}
		return errors.Join(tx.CreateAPI(t.Context(), &tollkey.API{ID: "api_1", Workspace: "ws_1", CreatedAt: now}), tx.CreateKeys(t.Context(), keys))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestAuditIsPartOfTheTransaction counts the entries of transactions that were refused and of those that were not.
func TestAuditIsPartOfTheTransaction(t *testing.T) {
	onBoth(t, func(t *testing.T, db *DB) {
		refused := errors.New("refused")
		for i, want := range []error{nil, refused, nil} {
			_, err := db.Update(t.Context(), now, func(tx store.Tx) error {
				tx.Audit(tollkey.AuditEntry{ID: fmt.Sprint("log_", i), Workspace: "ws_1", Event: "key.update"})
				return want
			})
			if !errors.Is(err, want) {
				t.Error(err)
			}
		}
		var entries int
		if err := db.main.pool.QueryRow("select count(*) from audit_entries").Scan(&entries); err != nil || entries != 2 {
			t.Error(entries, err)
		}
	})
}

// TestStatements prepares every statement on both engines and reads the plans of the hot ones.
func TestStatements(t *testing.T) {
	onBoth(t, func(t *testing.T, db *DB) {
		for _, s := range statements {
			f := db.main
			if strings.Contains(s.text, "usage") {
				f = db.usage
			}
			checkPrepares(t, f, s.text)
		}
		if !db.Solo() {
			for _, text := range []string{pgLockBalances, pgSetBalances, pgLockKeys, pgUsedKeys, qRefillPage + postgresDialect.lockRow} {
				checkPrepares(t, db.main, text)
			}
			return
		}
		for _, s := range statements {
			if s.hot && !strings.Contains(s.text, "usage") {
				checkPlan(t, db, s.text)
			}
		}
	})
}

func checkPrepares(t *testing.T, f *file, text string) {
	stmt, err := f.pool.Prepare(text)
	if err != nil {
		t.Errorf("%s: %v", text, err)
		return
	}
	defer func() { _ = stmt.Close() }()
}

func checkPlan(t *testing.T, db *DB, text string) {
	args := make([]any, strings.Count(text, "$"))
	rows, err := db.main.pool.Query("explain query plan "+text, args...)
	if err != nil {
		t.Errorf("%s: %v", text, err)
		return
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Error(err)
		}
		if strings.HasPrefix(detail, "SCAN") && detail != "SCAN found" /* at most one row */ && !strings.Contains(detail, "INDEX") && !strings.Contains(detail, "CONSTANT") {
			t.Errorf("%s\n%s", text, detail)
		}
	}
	if err := rows.Err(); err != nil {
		t.Error(err)
	}
}

// TestParameterNumbers is a tripwire: a driver that binds by position instead of by number breaks everything silently.
func TestParameterNumbers(t *testing.T) {
	onBoth(t, func(t *testing.T, db *DB) {
		var a, b string
		if err := db.main.pool.QueryRow("select cast($2 as text), cast($1 as text)", "one", "two").Scan(&a, &b); err != nil || a != "two" || b != "one" {
			t.Error(a, b, err)
		}
	})
}

func TestDataDirectoryBelongsToOneServer(t *testing.T) {
	dir := t.TempDir()
	db, err := Open(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second server: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db, err = Open(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	_ = db.Close()
}

func BenchmarkSettle(b *testing.B) {
	db, err := Open(b.Context(), Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	putBalances(b, db, map[tollkey.BalanceID]int64{"key_1": tollkey.MaxAmount})
	seq := int64(0)
	for b.Loop() {
		seq++
		err := db.Settle(b.Context(), ledger.BatchID{Boot: 1, Seq: seq}, []tollkey.BalanceID{"key_1"}, func(have map[tollkey.BalanceID]int64) ledger.Settlement {
			return ledger.Settlement{Balances: map[tollkey.BalanceID]int64{"key_1": have["key_1"] - 1}, Data: make([]byte, 120)}
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
