package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// TestAuditIsOneChain has many write at once, some in vain, some without an announcement, some with several entries; the entries are without gaps,
// each hash follows from the one before, and what comes back is what was hashed.
func TestAuditIsOneChain(t *testing.T) {
	onBoth(t, func(t *testing.T, db *DB) {
		vain := errors.New("no")
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				_, err := db.Update(context.Background(), now, func(tx store.Tx) error {
					for j := range 1 + i%3 {
						tx.Audit(tollkey.AuditEntry{
							ID: fmt.Sprintf("log_%02d_%d", i, j), Workspace: ws, Event: "key.create", Description: "Created a key", Correlation: "cor_1",
							Actor:   tollkey.Actor{Type: "rootkey", ID: "key_9", Name: "a\xffb\x00c<\u2028>", RemoteIP: "::1", UserAgent: "curl/\xfe"},
							Targets: []tollkey.AuditTarget{{Type: "key", ID: "key_1", Name: "\xff"}, {Type: "role", ID: "role_1"}, {Type: "x", ID: "key_1"}},
						})
					}
					if i%4 != 1 {
						tx.Announce(store.Announcement{Cells: []string{"key_1"}})
					}
					if i%5 == 0 {
						return vain
					}
					return nil
				})
				if (i%5 == 0) != errors.Is(err, vain) || i%5 != 0 && err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		v := &View{main: db.main}
		last, err := v.Audited(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		entries, err := v.AuditAfter(t.Context(), 0, 1000)
		if err != nil || int64(len(entries)) != last || last != 63 {
			t.Fatal(len(entries), last, err)
		}
		var link tollkey.AuditHash
		for i, e := range entries {
			if link = e.Link(link); e.Seq != int64(i+1) || e.Hash != link || !e.Time.Equal(now) || e.Actor.Name != "a\uFFFDb\uFFFDc<\u2028>" || len(e.Targets) != 3 {
				t.Errorf("%+v", e)
			}
		}
	})
}

// TestListAudit reads with every filter, in pages of one and of many, and finds what a plain walk over all entries finds.
func TestListAudit(t *testing.T) {
	onBoth(t, func(t *testing.T, db *DB) {
		var all []tollkey.AuditEntry
		for i := range 24 {
			e := tollkey.AuditEntry{
				ID: fmt.Sprintf("log_%02d", i), Workspace: []tollkey.WorkspaceID{ws, "ws_2"}[i/2%2], Event: []string{"a", "b", "c"}[i%3],
				Actor: tollkey.Actor{ID: []string{"key_1", "key_2"}[i/4%2]}, Targets: []tollkey.AuditTarget{{ID: fmt.Sprint("t_", i%5)}, {ID: fmt.Sprint("t_", i%4)}},
			}
			e.Time = now.Add(time.Duration(i/3) * time.Second)
			all = append(all, e)
			if _, err := db.Update(t.Context(), e.Time, func(tx store.Tx) error { tx.Audit(e); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		slices.Reverse(all)
		for _, f := range []store.AuditFilter{
			{},
			{Actor: "key_1"},
			{Event: "b"},
			{Target: "t_3"},
			{Target: "t_0", Event: "a"},
			{Actor: "key_2", Event: "c"},
			{Actor: "key_1", Event: "b", Target: "t_2"},
			{From: now.Add(2 * time.Second), Before: now.Add(5 * time.Second)},
			{Target: "t_1", Before: now.Add(4 * time.Second)},
			{Actor: "none"},
		} {
			var want []string
			for _, e := range all {
				if e.Workspace == ws && (f.Actor == "" || e.Actor.ID == f.Actor) && (f.Event == "" || e.Event == f.Event) && !e.Time.Before(f.From) &&
					(f.Before.IsZero() || e.Time.Before(f.Before)) && (f.Target == "" || e.Targets[0].ID == f.Target || e.Targets[1].ID == f.Target) {
					want = append(want, e.ID)
				}
			}
			for _, limit := range []int{1, 3, 100} {
				if got := walkAudit(t, db, f, limit); !slices.Equal(got, want) {
					t.Errorf("%+v by %d: %v, want %v", f, limit, got, want)
				}
			}
		}
		_ = db.View(t.Context(), func(r store.Reader) error {
			if _, err := r.ListAudit(t.Context(), ws, store.AuditFilter{}, store.Page{From: "log_02", Limit: 1}); !tollkey.IsReason(err, tollkey.ReasonInvalidInput) {
				t.Errorf("a cursor of another workspace: %v", err)
			}
			return nil
		})
	})
}

// walkAudit reads all pages.
func walkAudit(t *testing.T, db *DB, f store.AuditFilter, limit int) (ids []string) {
	t.Helper()
	for from := ""; ; {
		var page []tollkey.AuditEntry
		err := db.View(t.Context(), func(r store.Reader) (err error) {
			page, err = r.ListAudit(t.Context(), ws, f, store.Page{From: from, Limit: limit + 1})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		from = ""
		if len(page) > limit {
			from, page = page[limit].ID, page[:limit]
		}
		for _, e := range page {
			ids = append(ids, e.ID)
		}
		if from == "" {
			return ids
		}
	}
}

// TestAuditIsFoundByIndex holds each listing to walking its own index in order, without sorting.
func TestAuditIsFoundByIndex(t *testing.T) {
	db, err := Open(t.Context(), Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for text, index := range map[string]string{
		qListAudit: "audit_entries_by_workspace", qListAuditByActor: "audit_entries_by_actor", qListAuditByEvent: "audit_entries_by_event",
		qListAuditByTarget: "audit_targets_1",
	} {
		plan, err := list(t.Context(), db.main.pool, func(rows *sql.Rows) (detail string, err error) {
			var ignored int
			err = rows.Scan(&ignored, &ignored, &ignored, &detail)
			return detail, err
		}, "explain query plan "+text, make([]any, strings.Count(text, "$7")+6)...)
		if got := strings.Join(plan, "\n"); err != nil || !strings.Contains(got, index+" (") || strings.Contains(got, "TEMP B-TREE") {
			t.Errorf("%s: %v\n%s", text, err, got)
		}
	}
}
