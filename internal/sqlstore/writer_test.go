package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tollkey/tollkey/internal/ledger"
)

func openWriter(t *testing.T) *file {
	t.Helper()
	f, err := openSQLite(t.Context(), filepath.Join(t.TempDir(), "tollkey.db"), "store")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.close() })
	return f
}

func put(ctx context.Context, q querier, boot int) error {
	_, err := q.ExecContext(ctx, qFolded, boot, 1)
	return err
}

func stored(t *testing.T, f *file) map[int]bool {
	t.Helper()
	rows, err := f.pool.QueryContext(t.Context(), "select boot from folded")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	out := map[int]bool{}
	for rows.Next() {
		var boot int
		if err := rows.Scan(&boot); err != nil {
			t.Fatal(err)
		}
		out[boot] = true
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSharedTransaction lets many changes wait for one turn: each is kept or undone by itself, also beside urgent work, panics and callers that leave.
func TestSharedTransaction(t *testing.T) {
	f := openWriter(t)
	errRefused := errors.New("refused")
	if err := f.writer.enter(t.Context(), &f.writer.normal, false); err != nil { // so that all come to wait
		t.Fatal(err)
	}
	const changes = 200
	var waiting sync.WaitGroup
	gone, leave := context.WithCancel(t.Context())
	for i := range changes {
		waiting.Go(func() {
			var err error
			switch i % 5 {
			case 0, 1:
				err = f.update(t.Context(), func(q querier) error { return put(t.Context(), q, i) })
			case 2:
				err = f.update(t.Context(), func(q querier) error { return errors.Join(put(t.Context(), q, i), errRefused) })
				if !errors.Is(err, errRefused) {
					t.Errorf("%d: %v", i, err)
				}
				err = nil
			case 3:
				err = f.update(t.Context(), func(q querier) error {
					if err := put(t.Context(), q, i); err != nil {
						return err
					}
					panic(fmt.Sprint(i))
				})
				if err == nil {
					t.Errorf("%d: a panic went unseen", i)
				}
				err = nil
			case 4:
				if i%10 == 4 {
					err = f.updateUrgent(t.Context(), func(q querier) error { return put(t.Context(), q, i) })
				} else if err = f.update(gone, func(q querier) error { return put(t.Context(), q, i) }); !errors.Is(err, context.Canceled) {
					t.Errorf("%d: %v", i, err)
				} else {
					err = nil
				}
			}
			if err != nil {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	for queued := 0; queued < changes; {
		f.writer.mu.Lock()
		queued = len(f.writer.normal) + len(f.writer.urgent)
		f.writer.mu.Unlock()
	}
	leave()
	for queued := changes; queued > changes*9/10; {
		f.writer.mu.Lock()
		queued = len(f.writer.normal) + len(f.writer.urgent)
		f.writer.mu.Unlock()
	}
	f.writer.leave()
	waiting.Wait()
	have := stored(t, f)
	for i := range changes {
		if want := i%5 < 2 || i%10 == 4; have[i] != want {
			t.Errorf("%d is stored: %v", i, have[i])
		}
	}
}

// TestSharedTransactionThatFails tells every member that nothing was kept.
func TestSharedTransactionThatFails(t *testing.T) {
	f := openWriter(t)
	if err := f.writer.enter(t.Context(), &f.writer.normal, false); err != nil {
		t.Fatal(err)
	}
	results := make([]error, 3)
	var waiting sync.WaitGroup
	for i := range results {
		waiting.Go(func() {
			results[i] = f.update(t.Context(), func(q querier) error {
				if i == 2 { // as SQLite itself does where the disk is full
					return errors.Join(errors.New("lost"), f.writer.exec(context.Background(), "rollback"))
				}
				return put(t.Context(), q, i)
			})
		})
		for queued := 0; queued <= i; {
			f.writer.mu.Lock()
			queued = len(f.writer.normal)
			f.writer.mu.Unlock()
		}
	}
	f.writer.leave()
	waiting.Wait()
	for i, err := range results {
		if err == nil {
			t.Errorf("%d was told that it is kept", i)
		}
	}
	if have := stored(t, f); len(have) > 0 {
		t.Errorf("kept: %v", have)
	}
	if err := f.update(t.Context(), func(q querier) error { return put(t.Context(), q, 9) }); err != nil || !stored(t, f)[9] {
		t.Errorf("the writer does not go on: %v", err)
	}
	if _, err := f.pool.ExecContext(t.Context(), qFolded, ledger.MaxBoot, 1); err == nil {
		t.Error("the readers can write")
	}
}
