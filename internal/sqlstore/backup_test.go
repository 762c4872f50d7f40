package sqlstore

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/conformance"
	"github.com/tollkey/tollkey/internal/ledger"
	"github.com/tollkey/tollkey/internal/meter"
)

const (
	funds = 1_000_000
	payer = tollkey.WorkspaceID("ws_1")
)

// spender spends one credit of key_1 per batch, and one take of a limit.
type spender struct {
	db   *DB
	boot int64
	seq  int64
}

func (s *spender) spend(ctx context.Context) error {
	s.seq++
	event := &tollkey.Event{
		Time: now, Workspace: payer, API: "api_1", Key: "key_1", Count: 1, Credits: 1,
		Takes: []tollkey.Take{{Bucket: tollkey.BucketID{1}, Duration: 1000, Window: 1 << 50, Cost: 1}},
	}
	return s.db.Settle(ctx, ledger.BatchID{Boot: s.boot, Seq: s.seq}, []tollkey.BalanceID{"key_1"}, func(have map[tollkey.BalanceID]int64) ledger.Settlement {
		return ledger.Settlement{Balances: map[tollkey.BalanceID]int64{"key_1": have["key_1"] - 1}, Data: ledger.Encode(nil, []*tollkey.Event{event})}
	})
}

// fund makes the balance of key_1.
func fund(t *testing.T, db *DB) {
	t.Helper()
	putBalances(t, db, map[tollkey.BalanceID]int64{"key_1": funds})
}

// books rolls up what a store holds: what is spent, what usage counts, and what the limit's counter says.
func books(t *testing.T, db *DB) (spent, counted, taken int64) {
	t.Helper()
	ctx := t.Context()
	for roller, n := (meter.Roller{Ledger: db, Usage: db}), 1; n > 0; {
		var err error
		if n, err = roller.Roll(ctx); err != nil {
			t.Fatal(err)
		}
	}
	left, ok, err := db.Balance(ctx, "key_1")
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	rows, err := db.Usage(ctx, meter.Query{Workspace: payer, To: now.UnixMilli() * 2, Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		counted += r.Credits
	}
	counters, err := db.Counter(ctx, tollkey.BucketID{1})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range counters {
		taken += c.Used
	}
	return funds - left, counted, taken
}

func openDir(t *testing.T, dir string) *DB {
	t.Helper()
	db, err := Open(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() }) // twice does no harm
	return db
}

func backup(t *testing.T, dir string) []byte {
	t.Helper()
	v, err := OpenView(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = v.Close() }()
	var archive bytes.Buffer
	if err := v.Backup(t.Context(), &archive); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

// TestBackupWhileRolling copies a store that spends and rolls up meanwhile: no copy loses an event, counts one twice, or has one from after its moment.
func TestBackupWhileRolling(t *testing.T) {
	dir := t.TempDir()
	db := openDir(t, dir)
	fund(t, db)
	ctx, stop := context.WithCancel(t.Context())
	var working sync.WaitGroup
	work := func(do func() error) {
		working.Go(func() {
			for ctx.Err() == nil {
				if err := do(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	plain := context.WithoutCancel(ctx)
	s := &spender{db: db, boot: 7}
	work(func() error { return s.spend(plain) })
	roller := meter.Roller{Ledger: db, Usage: db}
	work(func() error { _, err := roller.Roll(plain); return err })
	var copies [][]byte
	for range 15 {
		copies = append(copies, backup(t, dir))
	}
	stop()
	working.Wait()
	last := int64(0)
	for i, archive := range copies {
		other := t.TempDir()
		if err := Restore(t.Context(), other, bytes.NewReader(archive), false); err != nil {
			t.Fatal(err)
		}
		spent, counted, taken := books(t, openDir(t, other))
		if spent != counted || spent != taken || spent < last {
			t.Errorf("copy %d: %d spent, %d counted, %d taken; the copy before: %d spent", i, spent, counted, taken, last)
		}
		last = spent
	}
	if last == 0 {
		t.Error("nothing was spent")
	}
}

// TestBetweenSnapshots has a batch come, or be counted and deleted, just between the snapshots of the two files.
func TestBetweenSnapshots(t *testing.T) {
	for name, rolls := range map[string]bool{"a batch comes": false, "a batch comes and is rolled up": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			db := openDir(t, dir)
			fund(t, db)
			s := &spender{db: db, boot: 7}
			v, err := OpenView(t.Context(), Options{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = v.Close() }()
			roller, attempts := meter.Roller{Ledger: db, Usage: db}, 0
			v.between = func() {
				if attempts++; attempts > 3 {
					return
				}
				if err := s.spend(t.Context()); err != nil {
					t.Error(err)
				}
				if rolls {
					if _, err := roller.Roll(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
			var archive bytes.Buffer
			if err := v.Backup(t.Context(), &archive); err != nil {
				t.Fatal(err)
			}
			if want := map[bool]int{false: 1, true: 4}[rolls]; attempts != want {
				t.Errorf("the snapshots agreed at attempt %d, want %d", attempts, want)
			}
			other := t.TempDir()
			if err := Restore(t.Context(), other, &archive, false); err != nil {
				t.Fatal(err)
			}
			if spent, counted, taken := books(t, openDir(t, other)); spent != s.seq || counted != spent || taken != spent {
				t.Errorf("%d spent, %d counted, %d taken of %d", spent, counted, taken, s.seq)
			}
		})
	}
}

func TestRestoreRefuses(t *testing.T) {
	from := t.TempDir()
	db := openDir(t, from)
	fund(t, db)
	good := backup(t, from)
	broken := bytes.Clone(good)
	broken[len(broken)/2] ^= 0xff
	if err := db.run(t.Context(), "insert into schema_store (version_id, is_applied) values (9999, 1)"); err != nil {
		t.Fatal(err)
	}
	newer := backup(t, from)

	dir := t.TempDir()
	s := openDir(t, dir)
	fund(t, s)
	if err := (&spender{db: s, boot: 3}).spend(t.Context()); err != nil {
		t.Fatal(err)
	}
	refused := func(what, archive string, force bool, want string) {
		t.Helper()
		if err := Restore(t.Context(), dir, strings.NewReader(archive), force); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("a server is at work", string(good), true, "another server uses")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	refused("a store", string(good), false, ErrStoreExists.Error())
	refused("half a backup", string(good[:len(good)-5]), true, "reading the backup")
	refused("a changed byte", string(broken), true, "backup")
	refused("no backup", "something else", true, "reading the backup")
	refused("a newer version", string(newer), true, "has version 9999; this version of Tollkey knows up to")
	if left, err := filepath.Glob(filepath.Join(dir, "resto*")); len(left) > 0 || err != nil {
		t.Error("left behind:", left, err)
	}
	if spent, _, _ := books(t, openDir(t, dir)); spent != 1 {
		t.Error("the store is not what it was")
	}
}

func TestRestoreReplaces(t *testing.T) {
	from := t.TempDir()
	db := openDir(t, from)
	fund(t, db)
	if held, err := db.Lease(t.Context(), "roller", "someone", 1<<40); err != nil || !held {
		t.Fatal(held, err)
	}
	before, err := db.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	archive := backup(t, from)
	s := &spender{db: db, boot: 7} // what came after is gone, and its log is not applied
	for range 3 {
		if err := s.spend(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(from, mainFile+"-wal"), []byte("of the old store"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Restore(t.Context(), from, bytes.NewReader(archive), true); err != nil {
		t.Fatal(err)
	}
	again := openDir(t, from)
	after, err := again.Head(t.Context())
	if err != nil || after.Epoch == before.Epoch || after.Number != before.Number {
		t.Errorf("%+v, before %+v, %v", after, before, err)
	}
	if held, err := again.Lease(t.Context(), "roller", "other", 1000); err != nil || !held {
		t.Error("a lease outlived the restore", err)
	}
	if spent, counted, taken := books(t, again); spent+counted+taken != 0 {
		t.Error(spent, counted, taken)
	}
	for _, name := range []string{mainFile, usageFile} {
		if info, err := os.Stat(filepath.Join(from, name)); err != nil || info.Mode() != 0o600 {
			t.Error(name, info.Mode(), err)
		}
	}
}

// TestRestoreInterrupted kills a restore at each of its steps, as far as a directory can show it.
func TestRestoreInterrupted(t *testing.T) {
	from := t.TempDir()
	source := openDir(t, from)
	fund(t, source)
	if err := (&spender{db: source, boot: 7}).spend(t.Context()); err != nil {
		t.Fatal(err)
	}
	copied := t.TempDir()
	if err := Restore(t.Context(), copied, bytes.NewReader(backup(t, from)), false); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		folder string
		placed []string // what is in its place already
		spent  int64
	}{
		"before it is decided": {undecided, nil, 0},
		"after":                {decided, nil, 1},
		"one file is placed":   {decided, []string{mainFile}, 1},
		"both are":             {decided, []string{mainFile, usageFile}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			old := openDir(t, dir)
			fund(t, old)
			if err := old.Close(); err != nil {
				t.Fatal(err)
			}
			folder := filepath.Join(dir, c.folder)
			if err := os.Mkdir(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			for _, file := range []string{mainFile, usageFile} {
				content, err := os.ReadFile(filepath.Join(copied, file))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(folder, file), content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, file := range c.placed {
				if err := os.Rename(filepath.Join(folder, file), filepath.Join(dir, file)); err != nil {
					t.Fatal(err)
				}
			}
			if c.folder == decided {
				if _, err := OpenView(t.Context(), Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "interrupted") {
					t.Error("half a store is looked at:", err)
				}
			}
			if spent, counted, _ := books(t, openDir(t, dir)); spent != c.spent || counted != c.spent {
				t.Errorf("%d spent, %d counted", spent, counted)
			}
		})
	}
}

func TestNewEpoch(t *testing.T) {
	for name, options := range map[string]Options{"SQLite": {Dir: t.TempDir()}, "PostgreSQL": {}} {
		t.Run(name, func(t *testing.T) {
			if options.Dir == "" {
				options.URL = conformance.Postgres(t)
			}
			if err := NewEpoch(t.Context(), options); err == nil {
				t.Error("there was no store")
			}
			epoch := func() string {
				db, err := Open(t.Context(), options)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = db.Close() }()
				head, err := db.Head(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return head.Epoch
			}
			before := epoch()
			if err := NewEpoch(t.Context(), options); err != nil {
				t.Fatal(err)
			}
			if after := epoch(); after == before {
				t.Error("it is the same epoch")
			}
			v, err := OpenView(t.Context(), options)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = v.Close() }()
			if err := v.Backup(t.Context(), io.Discard); (err == nil) != (options.URL == "") {
				t.Error(err)
			}
		})
	}
}
