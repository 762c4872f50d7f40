package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/conformance"
	"github.com/tollkey/tollkey/internal/ledger"
	"github.com/tollkey/tollkey/internal/meter"
	"github.com/tollkey/tollkey/internal/store"
)

var now = time.UnixMilli(1_790_000_000_000)

// onBoth runs a test on a fresh store of each engine.
func onBoth(t *testing.T, test func(t *testing.T, db *DB)) {
	t.Helper()
	for name, options := range map[string]func(t *testing.T) Options{
		"sqlite":   func(t *testing.T) Options { return Options{Dir: t.TempDir()} },
		"postgres": func(t *testing.T) Options { return Options{URL: conformance.Postgres(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, err := Open(t.Context(), options(t))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			})
			test(t, db)
		})
	}
}

func update(t *testing.T, db *DB, fn func(store.Tx) error) int64 {
	t.Helper()
	n, err := db.Update(context.Background(), now, fn)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

const ws = tollkey.WorkspaceID("ws_1")

// seed makes a workspace with an API.
func seed(t *testing.T, db *DB) {
	t.Helper()
	update(t, db, func(tx store.Tx) error {
		return errors.Join(
			tx.CreateWorkspace(t.Context(), &tollkey.Workspace{ID: ws, Name: "w", Slug: "w", Enabled: true, RequestsPerMinute: -1, CreatedAt: now}),
			tx.CreateAPI(t.Context(), &tollkey.API{ID: "api_1", Workspace: ws, Name: "a", CreatedAt: now, IPAllowList: []string{"10.0.0.0/8", "::1"}}),
		)
	})
}

func key(id string) *tollkey.Key {
	d := tollkey.Digest{}
	copy(d[:], id)
	return &tollkey.Key{ID: tollkey.KeyID(id), Workspace: ws, API: "api_1", Digest: d, Start: "sk_abcd", Enabled: true, CreatedAt: now}
}

func TestKeyRoundTrip(t *testing.T) {
	onBoth(t, func(t *testing.T, db *DB) {
		seed(t, db)
		ctx, five := t.Context(), int64(5)
		update(t, db, func(tx store.Tx) error {
			owner, created, err := tx.PutIdentity(ctx, ws, "user_1")
			if err != nil || !created {
				return fmt.Errorf("created %v: %w", created, err)
			}
			permissions, fresh, err := tx.PutPermissions(ctx, ws, []string{"b", "a", "b"})
			if err != nil || len(permissions) != 2 || len(fresh) != 2 {
				return fmt.Errorf("permissions %v, fresh %v: %w", permissions, fresh, err)
			}
			role := &tollkey.Role{ID: "role_1", Name: "Admin", Permissions: permissions[:1]}
			if err := tx.CreateRole(ctx, ws, role); err != nil {
				return err
			}
			k := key("key_1")
			k.Name, k.Meta, k.Identity = "n", []byte(`{"a":1}`), &tollkey.Identity{ID: owner}
			k.Permissions, k.Roles, k.Expires = permissions[1:], []tollkey.Role{*role}, now.Add(time.Hour)
			k.Credits = tollkey.Credits{Remaining: &five, Refill: &tollkey.Refill{Interval: tollkey.RefillMonthly, Amount: 9, Day: 31}}
			k.RateLimits = []tollkey.RateLimit{{ID: "rl_1", Name: "x", Limit: 3, Duration: time.Second, AutoApply: true}}
			return tx.CreateKeys(ctx, []*tollkey.Key{k})
		})
		r, err := db.KeyByDigest(ctx, key("key_1").Digest)
		if err != nil || r == nil {
			t.Fatal(r, err)
		}
		if r.Name != "n" || string(r.Meta) != `{"a":1}` || r.Identity.ExternalID != "user_1" || !r.Expires.Equal(now.Add(time.Hour)) ||
			*r.Credits.Remaining != 5 || *r.Credits.Refill != (tollkey.Refill{Interval: "monthly", Amount: 9, Day: 31}) ||
			len(r.RateLimits) != 1 || r.RateLimits[0].Duration != time.Second || r.Permissions[0].Slug != "b" ||
			r.Roles[0].Permissions[0].Slug != "a" || len(r.IPAllowList) != 2 || !r.WorkspaceEnabled || r.APIDeleted {
			t.Errorf("%+v", r)
		}
		none := (*int64)(nil)
		limits := []tollkey.RateLimit{{ID: "rl_9", Name: "x", Limit: 4, Duration: time.Minute}, {ID: "rl_2", Name: "y", Limit: 1, Duration: time.Second}}
		name, permissions := "", []tollkey.PermissionID{}
		update(t, db, func(tx store.Tx) error {
			return tx.UpdateKey(ctx, ws, "key_1", store.KeyUpdate{Name: &name, Remaining: &none, RateLimits: &limits, Permissions: &permissions})
		})
		_ = db.View(ctx, func(r store.Reader) error {
			k, err := r.Key(ctx, ws, "key_1")
			if err != nil || k.Name != "" || k.Credits.Remaining != nil || len(k.RateLimits) != 2 || k.RateLimits[0].ID != "rl_1" ||
				k.RateLimits[0].Limit != 4 || len(k.Permissions) != 0 || len(k.Roles) != 1 || k.UpdatedAt.IsZero() {
				t.Errorf("after the update: %+v %v", k, err)
			}
			if _, err := r.Key(ctx, "ws_2", "key_1"); !tollkey.IsReason(err, tollkey.ReasonKeyNotFound) {
				t.Errorf("from another workspace: %v", err)
			}
			return nil
		})
	})
}

func TestDeletedThingsAreGone(t *testing.T) {
	onBoth(t, func(t *testing.T, db *DB) {
		seed(t, db)
		ctx := t.Context()
		update(t, db, func(tx store.Tx) error {
			return tx.CreateKeys(ctx, []*tollkey.Key{key("key_1"), key("key_2"), key("key_3")})
		})
		update(t, db, func(tx store.Tx) error {
			return errors.Join(tx.DeleteKey(ctx, ws, "key_1", false), tx.DeleteKey(ctx, ws, "key_2", true))
		})
		for _, id := range []string{"key_1", "key_2"} {
			if r, err := db.KeyByDigest(ctx, key(id).Digest); r != nil || err != nil {
				t.Errorf("%s: %v %v", id, r, err)
			}
			_, err := db.Update(ctx, now, func(tx store.Tx) error { return tx.DeleteKey(ctx, ws, tollkey.KeyID(id), true) })
			if !tollkey.IsReason(err, tollkey.ReasonKeyNotFound) {
				t.Errorf("deleting %s again: %v", id, err)
			}
		}
		_, err := db.Update(ctx, now, func(tx store.Tx) error { return tx.CreateKeys(ctx, []*tollkey.Key{key("key_1")}) })
		var e *tollkey.Error
		if !errors.As(err, &e) || e.Code != tollkey.CodeConflict {
			t.Errorf("a digest that exists: %v", err)
		}
		update(t, db, func(tx store.Tx) error { return tx.DeleteAPI(ctx, ws, "api_1") })
		if r, err := db.KeyByDigest(ctx, key("key_3").Digest); err != nil || !r.APIDeleted {
			t.Errorf("a key of a deleted API: %+v %v", r, err)
		}
	})
}

func TestConcurrentPutsConverge(t *testing.T) {
	onBoth(t, func(t *testing.T, db *DB) {
		seed(t, db)
		var mu sync.Mutex
		ids := map[any]int{}
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				_, err := db.Update(context.Background(), now, func(tx store.Tx) error {
					owner, _, err := tx.PutIdentity(context.Background(), ws, "user_1")
					if err != nil {
						return err
					}
					slug := []string{"Docs.Read", "docs.read"}[i%2]
					all, _, err := tx.PutPermissions(context.Background(), ws, []string{slug})
					if err != nil {
						return err
					}
					mu.Lock()
					defer mu.Unlock()
					ids[owner]++
					ids[all[0].ID]++
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(ids) != 2 {
			t.Errorf("%v", ids)
		}
	})
}

func TestChangesAreGaplessAndRollbackWritesNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, db *DB) {
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() {
				fail := errors.New("no")
				_, err := db.Update(context.Background(), now, func(tx store.Tx) error {
					tx.Announce(store.Announcement{Cells: []string{fmt.Sprint("key_", i)}})
					tx.Audit(tollkey.AuditEntry{ID: fmt.Sprint("log_", i), Workspace: ws, Event: "key.update"})
					if i%4 == 0 {
						return fail
					}
					return nil
				})
				if i%4 == 0 && !errors.Is(err, fail) || i%4 != 0 && err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		changes, err := db.ChangesAfter(t.Context(), 0, 100)
		if err != nil || len(changes) != 24 {
			t.Fatal(len(changes), err)
		}
		for i, c := range changes {
			if c.Number != int64(i+1) || c.Kind != tollkey.ChangeCells || len(c.Cells) != 1 {
				t.Errorf("%+v", c)
			}
		}
		head, err := db.Head(t.Context())
		if err != nil || head.Number != 24 || head.Epoch == "" {
			t.Error(head, err)
		}
		var entries int
		if err := db.main.pool.QueryRow("select count(*) from audit_entries").Scan(&entries); err != nil || entries != 24 {
			t.Error(entries, err)
		}
	})
}

func TestManyKeysAreAnnouncedAsARange(t *testing.T) {
	onBoth(t, func(t *testing.T, db *DB) {
		seed(t, db)
		var keys []*tollkey.Key
		var ids []tollkey.KeyID
		for i := range 150 {
			keys = append(keys, key(fmt.Sprintf("key_%03d", i)))
			ids = append(ids, keys[i].ID)
		}
		number := update(t, db, func(tx store.Tx) error {
			tx.Announce(store.Announcement{Keys: ids})
			return tx.CreateKeys(t.Context(), keys)
		})
		changes, err := db.ChangesAfter(t.Context(), number-1, 1)
		if err != nil || changes[0].FirstKey != "key_000" || changes[0].LastKey != "key_149" {
			t.Fatal(changes, err)
		}
		learned := 0
		count := func(d []tollkey.Digest) error { learned += len(d); return nil }
		if err := db.Digests(t.Context(), "key_010", "key_019", count); err != nil || learned != 10 {
			t.Errorf("%d learned of a range of 10: %v", learned, err)
		}
		learned = 0
		if err := db.Digests(t.Context(), "", "", count); err != nil || learned != 150 {
			t.Errorf("%d learned of all: %v", learned, err)
		}
		_ = db.View(t.Context(), func(r store.Reader) error {
			page, err := r.ListKeys(t.Context(), ws, store.KeyFilter{API: "api_1"}, store.Page{From: "key_148", Limit: 5})
			if err != nil || len(page) != 2 || page[0].ID != "key_148" {
				t.Error(len(page), err)
			}
			return nil
		})
	})
}

func TestLeaseAndNodes(t *testing.T) {
	onBoth(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		for _, c := range []struct {
			holder string
			ttl    time.Duration
			held   bool
		}{{"a", time.Hour, true}, {"b", time.Hour, false}, {"a", -time.Hour, true}, {"b", time.Hour, true}, {"a", time.Hour, false}} {
			if held, err := db.Lease(ctx, "roller", c.holder, c.ttl); err != nil || held != c.held {
				t.Errorf("%+v: %v %v", c, held, err)
			}
		}
		if _, err := db.Heartbeat(ctx, store.Node{ID: "n", Applied: 3}); err != nil {
			t.Fatal(err)
		}
		if err := db.Acknowledge(ctx, store.Node{ID: "n", Applied: 7}); err != nil {
			t.Fatal(err)
		}
		nodes, err := db.Nodes(ctx)
		if err != nil || len(nodes) != 1 || nodes[0].Applied != 7 || nodes[0].Age < 0 || nodes[0].Age > time.Minute {
			t.Errorf("%+v %v", nodes, err)
		}
	})
}

// TestLedger proves ledger.Store with the real committer: 64 callers on one balance, to the last credit.
func TestLedger(t *testing.T) {
	onBoth(t, func(t *testing.T, db *DB) {
		seed(t, db)
		credits := int64(500)
		k := key("key_1")
		k.Credits.Remaining = &credits
		update(t, db, func(tx store.Tx) error { return tx.CreateKeys(t.Context(), []*tollkey.Key{k}) })
		c := ledger.NewCommitter(db, ledger.Options{})
		ctx, cancel := context.WithCancel(context.Background())
		var runner, callers sync.WaitGroup
		runner.Go(func() { c.Run(ctx, time.Minute) })
		var mu sync.Mutex
		admitted := 0
		for range 64 {
			callers.Go(func() {
				for range 10 {
					e := ledger.Entry{Event: tollkey.Event{Time: now, Workspace: ws, Key: "key_1", Count: 1, Credits: 1}, Spends: []tollkey.Spend{{Balance: "key_1", Amount: 1}}}
					e.Event.Takes = []tollkey.Take{{Bucket: tollkey.BucketID{1}, Duration: time.Hour, Window: 5, Cost: 1}}
					r, err := c.Commit(context.Background(), e)
					if err != nil {
						t.Error(err)
					}
					mu.Lock()
					if r.Admitted {
						admitted++
					}
					mu.Unlock()
				}
			})
		}
		callers.Wait()
		cancel()
		runner.Wait()
		if left, ok, err := db.Balance(t.Context(), "key_1"); admitted != 500 || left != 0 || !ok || err != nil {
			t.Errorf("%d admitted, %d left, %v %v", admitted, left, ok, err)
		}
		roller := &meter.Roller{Ledger: db, Usage: db}
		for {
			if n, err := roller.Roll(t.Context()); err != nil {
				t.Fatal(err)
			} else if n == 0 {
				break
			}
		}
		rows, err := db.Usage(t.Context(), meter.Query{Workspace: ws, From: 0, To: now.UnixMilli() * 2, ByOutcome: true, Limit: 10})
		if err != nil || len(rows) != 2 || rows[0].Outcome != "USAGE_EXCEEDED" || rows[0].Count != 140 || rows[1].Valid != 500 || rows[1].Credits != 500 {
			t.Errorf("%+v %v", rows, err)
		}
		counters, err := db.Counter(t.Context(), tollkey.BucketID{1})
		if err != nil || len(counters) != 1 || counters[0].Used != 500 {
			t.Errorf("%+v %v", counters, err)
		}
	})
}

func TestCommittedIsRememberedAfterFolding(t *testing.T) {
	onBoth(t, func(t *testing.T, db *DB) {
		ctx, id := t.Context(), ledger.BatchID{Boot: 7, Seq: 1}
		write := func(map[tollkey.BalanceID]int64) ledger.Settlement { return ledger.Settlement{Data: []byte{1}} }
		if ok, err := db.Committed(ctx, id); ok || err != nil {
			t.Error(ok, err)
		}
		if err := db.Settle(ctx, id, nil, write); err != nil {
			t.Fatal(err)
		}
		if err := db.Settle(ctx, id, nil, write); err == nil {
			t.Error("one batch was committed twice")
		}
		counter := []ledger.Counter{{Bucket: tollkey.BucketID{2}, DurationMillis: 1000, Window: 1, Used: 4}}
		if err := db.Fold(ctx, map[int64]int64{7: 1}, 1, counter); err != nil {
			t.Fatal(err)
		}
		if err := db.Fold(ctx, map[int64]int64{7: 1}, 1, counter); err == nil {
			t.Error("one batch was folded twice")
		}
		if ok, err := db.Committed(ctx, id); !ok || err != nil {
			t.Error(ok, err)
		}
		if got, err := db.Counter(ctx, tollkey.BucketID{2}); err != nil || got[0].Used != 4 {
			t.Errorf("%+v %v", got, err)
		}
	})
}

// TestStatements prepares every statement on both engines and reads the plans of the hot ones.
func TestStatements(t *testing.T) {
	onBoth(t, func(t *testing.T, db *DB) {
		for _, s := range statements {
			f := db.main
			if strings.Contains(s.text, "usage_") {
				f = db.usage
			}
			checkPrepares(t, f, s.text)
		}
		if !db.Solo() {
			for _, text := range []string{pgLockBalances, pgSetBalances} {
				checkPrepares(t, db.main, text)
			}
			return
		}
		for _, s := range statements {
			if s.hot && !strings.Contains(s.text, "usage_") {
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
	_, err = db.Update(b.Context(), now, func(tx store.Tx) error {
		n := int64(tollkey.MaxAmount)
		k := key("key_1")
		k.Credits.Remaining = &n
		return tx.CreateKeys(b.Context(), []*tollkey.Key{k})
	})
	if err != nil {
		b.Fatal(err)
	}
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
