package app

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/ledger"
	"github.com/tollkey/tollkey/internal/sqlstore"
	"github.com/tollkey/tollkey/internal/store"
)

func TestDoctorSees(t *testing.T) {
	for name, config := range engines {
		t.Run(name, func(t *testing.T) {
			ctx, c := t.Context(), config(t)
			options := sqlstore.Options{Dir: c.Data, URL: c.DatabaseURL}
			if got := find(Doctor(ctx, c), Fail); len(got) == 0 {
				t.Error("there is no store, and nothing fails")
			}
			db, err := sqlstore.Open(ctx, options)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			old := time.Now().Add(-time.Hour)
			data := ledger.Encode(nil, []*tollkey.Event{{Time: old, Workspace: "ws_1", API: "api_1", Key: "key_1", Count: 1}})
			err = db.Settle(ctx, ledger.BatchID{Boot: 5, Seq: 1}, nil, func(map[tollkey.BalanceID]int64) ledger.Settlement { return ledger.Settlement{Data: data} })
			if err != nil {
				t.Fatal(err)
			}
			expect := func(level Level, want string) {
				t.Helper()
				all := Doctor(ctx, c)
				if got := find(all, level); !strings.Contains(got, want) {
					t.Errorf("%q is not among %s, which are\n%s\nof %v", want, level, got, all)
				}
			}
			expect(OK, "roller: 1 batches wait, the oldest for 1h0m0") // that is how it is without a server
			if _, err := db.Heartbeat(ctx, store.Node{ID: "node_1"}); err != nil {
				t.Fatal(err)
			}
			expect(OK, "nodes: 1 at work")
			expect(Warn, "no node holds its lease")
			if _, err := db.Lease(ctx, "roller", "node_1", time.Minute); err != nil {
				t.Fatal(err)
			}
			expect(Fail, "roller: 1 batches wait, the oldest for 1h0m0")
			if _, err := db.Fold(ctx, map[int64]int64{5: 1}, 1, nil); err != nil { // without its usage, as no roller does
				t.Fatal(err)
			}
			expect(Fail, "books: batches were deleted from the ledger that usage has not counted")
			checkClock(t, options)
			if c.DatabaseURL == "" {
				newerSchema(t, c.Data)
				expect(Fail, "schema store: has version 9999, newer than this program's")
			}
		})
	}
}

func checkClock(t *testing.T, options sqlstore.Options) {
	t.Helper()
	v, err := sqlstore.OpenView(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = v.Close() }()
	for off, want := range map[time.Duration]Level{0: OK, 300 * time.Millisecond: Warn, -2 * time.Second: Fail} {
		d := &doctor{now: func() time.Time { return time.Now().Add(off) }}
		if d.clock(t.Context(), v); d.checks[0].Level != want {
			t.Errorf("%v: %v", off, d.checks)
		}
	}
}

func newerSchema(t *testing.T, dir string) {
	t.Helper()
	raw, err := sql.Open("sqlite", "file:"+dir+"/tollkey.db")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := raw.ExecContext(context.Background(), "insert into schema_store (version_id, is_applied) values (9999, 1)"); err != nil {
		t.Fatal(err)
	}
	if err := raw.Close(); err != nil {
		t.Fatal(err)
	}
}

// find returns the checks of a level, a line for each.
func find(checks []Check, level Level) string {
	var lines []string
	for _, c := range checks {
		if c.Level == level {
			lines = append(lines, c.Name+": "+c.Says)
		}
	}
	return strings.Join(lines, "\n")
}
