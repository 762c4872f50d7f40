package sqlstore

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/tollkey/tollkey/internal/store"
)

// TestLogStaysShort commits without a pause beside checkpoints: the log begins anew all the same, and nothing is lost.
func TestLogStaysShort(t *testing.T) {
	db, err := Open(t.Context(), Options{Dir: t.TempDir(), DiskSync: true})
	if err != nil {
		t.Fatal(err)
	}
	seed(t, db)
	const writers, each, most = 4, 50, 40
	w := db.main.writer
	w.journal.most = most
	var writing sync.WaitGroup
	for i := range writers {
		writing.Go(func() {
			for n := range each {
				id := fmt.Sprintf("key_%d_%d", i, n)
				if _, err := db.Update(context.Background(), now, func(tx store.Tx) error {
					tx.Announce(store.Announcement{Cells: []string{id}})
					return nil
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writing.Wait(); close(done) }()
	longest := int64(0)
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		if err := w.journal.shorten(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		pages, err := w.journal.checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		longest = max(longest, pages)
	}
	if longest > 10*most {
		t.Errorf("the log grew to %d pages", longest)
	}
	if head, err := db.Head(t.Context()); err != nil || head.Number != writers*each {
		t.Errorf("%+v %v, want %d changes", head, err, writers*each)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	if err := w.journal.sync(); err != nil {
		t.Errorf("who waits for the disk while the store is closed: %v", err)
	}
}
