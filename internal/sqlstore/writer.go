package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// errWriterClosed is returned for work that comes after close.
var errWriterClosed = errors.New("sqlstore: the writer is closed")

// writer is the one connection that writes to a SQLite file; whoever has its turn uses it. database/sql hands out waiting connections in random
// order and would let bulk work stand before the ledger's; here urgent work always goes first, and nothing is handed from goroutine to goroutine.
//
// Changes that wait behind one another share a transaction. A commit waits for no disk: who must survive the loss of power leaves the writer first, and
// then waits for the journal.
type writer struct {
	pool    *sql.DB
	conn    *sql.Conn
	cached  map[string]*sql.Stmt
	journal *journal
	// diskSync has urgent work survive power loss too. It is set before the first use.
	diskSync bool
	shared   *shared // the transaction that is open while the turn is passed on; nil = none

	mu     sync.Mutex
	busy   bool
	closed bool
	urgent []turn // who waits, in order of arrival
	normal []turn
}

// turn is somebody's place in a queue.
type turn struct {
	come   chan struct{}
	shares bool // may join a shared transaction
}

// shared is a transaction of several changes.
type shared struct {
	began   time.Time
	members []chan error // each is told how the transaction ended
	broken  error        // the engine gave it up
}

// shareFor is how long a shared transaction takes others in, so that urgent work that comes in between waits a few milliseconds at most.
const shareFor = 4 * time.Millisecond

func newWriter(ctx context.Context, pool *sql.DB, j *journal) (*writer, error) {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	w := &writer{pool: pool, conn: conn, cached: map[string]*sql.Stmt{}, journal: j}
	j.start(w)
	return w, nil
}

// doRelaxed runs fn in a transaction without a wait for the disk: what is lost with the power is done again.
func (w *writer) doRelaxed(ctx context.Context, fn func(querier) error) error {
	return w.alone(ctx, &w.normal, fn)
}

// doUrgent runs fn in a transaction before all that waits, and without a wait for the disk unless diskSync.
func (w *writer) doUrgent(ctx context.Context, fn func(querier) error) error {
	return w.synced(w.alone(ctx, &w.urgent, fn))
}

// synced waits for the disk after urgent work, if diskSync.
func (w *writer) synced(err error) error {
	if err != nil || !w.diskSync {
		return err
	}
	return w.journal.sync()
}

// run executes one statement, which is a transaction of its own, as urgent work.
func (w *writer) run(ctx context.Context, text string, args ...any) error {
	return w.synced(w.runOnce(ctx, text, args...))
}

func (w *writer) runOnce(ctx context.Context, text string, args ...any) error {
	if err := w.enter(ctx, &w.urgent, false); err != nil {
		return err
	}
	defer w.leave()
	_, err := w.ExecContext(context.WithoutCancel(ctx), text, args...)
	return err
}

// alone runs fn in a transaction of its own. A caller whose ctx ends while it waits leaves; a transaction that has begun is finished.
func (w *writer) alone(ctx context.Context, queue *[]turn, fn func(querier) error) error {
	if err := w.enter(ctx, queue, false); err != nil {
		return err
	}
	defer w.leave()
	ctx = context.WithoutCancel(ctx)
	if err := w.exec(ctx, "begin immediate"); err != nil {
		return err
	}
	err := w.try(fn)
	if err == nil {
		err = w.exec(ctx, "commit")
	}
	if err != nil {
		_ = w.exec(ctx, "rollback") // fails where SQLite has rolled back already
	}
	return err
}

// do runs fn in a transaction that it may share with others: what fn does is kept or undone by itself, and do returns when the disk has it. A
// caller whose ctx ends while it waits for its turn leaves; what has begun is finished.
func (w *writer) do(ctx context.Context, fn func(querier) error) error {
	if err := w.enter(ctx, &w.normal, true); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	first := w.shared == nil
	if first {
		if err := w.exec(ctx, "begin immediate"); err != nil {
			w.leave()
			return err
		}
		w.shared = &shared{began: time.Now()}
	}
	if err := w.part(ctx, first, fn); err != nil {
		w.leave()
		return err
	}
	done := make(chan error, 1)
	w.shared.members = append(w.shared.members, done)
	w.leave()
	if err := <-done; err != nil {
		return err
	}
	return w.journal.sync()
}

// part runs one member's fn in the shared transaction, and undoes what it did if it fails.
func (w *writer) part(ctx context.Context, first bool, fn func(querier) error) error {
	if first { // nobody else's work is in the transaction
		err := w.try(fn)
		if err != nil {
			w.shared = nil
			_ = w.exec(ctx, "rollback") // fails where SQLite has rolled back already
		}
		return err
	}
	if err := w.exec(ctx, "savepoint part"); err != nil {
		return err
	}
	err := w.try(fn)
	if err != nil {
		if undone := w.exec(ctx, "rollback to part"); undone != nil {
			w.shared.broken = undone // SQLite has rolled back everybody's work
			return err
		}
	}
	return errors.Join(err, w.exec(ctx, "release part"))
}

func (w *writer) try(fn func(querier) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("sqlstore: a transaction panicked: %v", p)
		}
	}()
	return fn(w)
}

// enter waits for the caller's turn.
func (w *writer) enter(ctx context.Context, queue *[]turn, shares bool) error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return errWriterClosed
	}
	if !w.busy {
		w.busy = true
		w.mu.Unlock()
		return nil
	}
	mine := turn{make(chan struct{}), shares}
	*queue = append(*queue, mine)
	w.mu.Unlock()
	select {
	case <-mine.come:
		return nil
	case <-ctx.Done():
	}
	w.mu.Lock()
	if i := slices.Index(*queue, mine); i >= 0 {
		*queue = slices.Delete(*queue, i, i+1)
		w.mu.Unlock()
		return ctx.Err()
	}
	w.mu.Unlock() // the turn came at the same moment: pass it on
	w.leave()
	return ctx.Err()
}

// leave gives the turn to the next, urgent work first. A shared transaction ends here, unless the next may join it.
func (w *writer) leave() {
	w.journal.commits.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.shared != nil {
		if w.shared.broken == nil && time.Since(w.shared.began) < shareFor && len(w.urgent) == 0 && len(w.normal) > 0 && w.normal[0].shares {
			w.pass(&w.normal)
			return
		}
		w.mu.Unlock() // the turn is still this caller's
		w.finish()
		w.mu.Lock()
	}
	switch {
	case len(w.urgent) > 0:
		w.pass(&w.urgent)
	case len(w.normal) > 0:
		w.pass(&w.normal)
	default:
		w.busy = false
	}
}

func (w *writer) pass(queue *[]turn) {
	close((*queue)[0].come)
	*queue = slices.Delete(*queue, 0, 1)
}

// finish commits the shared transaction and tells its members.
func (w *writer) finish() {
	s := w.shared
	w.shared = nil
	err := s.broken
	if err == nil {
		err = w.exec(context.Background(), "commit")
	}
	if err != nil {
		_ = w.exec(context.Background(), "rollback") // fails where SQLite has rolled back already
	}
	for _, done := range s.members {
		done <- err
	}
}

func (w *writer) exec(ctx context.Context, text string) error {
	_, err := w.ExecContext(ctx, text)
	return err
}

func (w *writer) close() {
	w.journal.end()
	_ = w.enter(context.Background(), &w.normal, false) // after all that waits
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.journal.close()
	for _, s := range w.cached {
		_ = s.Close()
	}
	_ = w.conn.Close()
	_ = w.pool.Close()
}

func (w *writer) prepared(ctx context.Context, text string) (*sql.Stmt, error) {
	if s := w.cached[text]; s != nil {
		return s, nil
	}
	s, err := w.conn.PrepareContext(ctx, text)
	if err == nil {
		w.cached[text] = s
	}
	return s, err
}

// ExecContext, QueryContext and QueryRowContext make the writer a querier for the job in work.
func (w *writer) ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error) {
	s, err := w.prepared(ctx, text)
	if err != nil {
		return nil, err
	}
	return s.ExecContext(ctx, args...)
}

// QueryContext is part of querier.
func (w *writer) QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	s, err := w.prepared(ctx, text)
	if err != nil {
		return nil, err
	}
	return s.QueryContext(ctx, args...)
}

// QueryRowContext is part of querier.
func (w *writer) QueryRowContext(ctx context.Context, text string, args ...any) *sql.Row {
	s, err := w.prepared(ctx, text)
	if err != nil {
		return w.conn.QueryRowContext(ctx, text, args...) // its Scan gives the error
	}
	return s.QueryRowContext(ctx, args...)
}
