package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// errWriterClosed is returned for work that comes after close.
var errWriterClosed = errors.New("sqlstore: the writer is closed")

// writer is the one connection that writes to a SQLite file; whoever has its turn uses it. database/sql hands out waiting connections in random
// order and would let bulk work stand before the ledger's; here urgent work always goes first, and nothing is handed from goroutine to goroutine.
type writer struct {
	pool    *sql.DB
	conn    *sql.Conn
	cached  map[string]*sql.Stmt
	relaxed bool // the connection's synchronous mode: NORMAL survives a kill, FULL also power loss
	// diskSync has urgent work survive power loss too. It is set before the first use.
	diskSync bool

	mu     sync.Mutex
	busy   bool
	closed bool
	urgent []chan struct{} // who waits, in order of arrival
	normal []chan struct{}
}

func newWriter(ctx context.Context, pool *sql.DB) (*writer, error) {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &writer{pool: pool, conn: conn, cached: map[string]*sql.Stmt{}}, nil
}

// do runs fn in a transaction. A caller whose ctx ends while it waits leaves; a transaction that has begun is finished.
func (w *writer) do(ctx context.Context, fn func(querier) error) error {
	return w.transact(ctx, &w.normal, false, fn)
}

// doRelaxed is do without a wait for the disk: what is lost with the power is done again.
func (w *writer) doRelaxed(ctx context.Context, fn func(querier) error) error {
	return w.transact(ctx, &w.normal, true, fn)
}

// doUrgent is do before all that waits, and without a wait for the disk unless diskSync.
func (w *writer) doUrgent(ctx context.Context, fn func(querier) error) error {
	return w.transact(ctx, &w.urgent, !w.diskSync, fn)
}

// run executes one statement, which is a transaction of its own, as urgent work.
func (w *writer) run(ctx context.Context, text string, args ...any) error {
	if err := w.enter(ctx, &w.urgent); err != nil {
		return err
	}
	defer w.leave()
	ctx = context.WithoutCancel(ctx)
	if err := w.mode(ctx, !w.diskSync); err != nil {
		return err
	}
	_, err := w.ExecContext(ctx, text, args...)
	return err
}

func (w *writer) transact(ctx context.Context, queue *[]chan struct{}, relaxed bool, fn func(querier) error) (err error) {
	if err := w.enter(ctx, queue); err != nil {
		return err
	}
	defer w.leave()
	ctx = context.WithoutCancel(ctx)
	defer func() {
		if p := recover(); p != nil {
			err = errors.Join(fmt.Errorf("sqlstore: a transaction panicked: %v", p), w.exec(ctx, "rollback"))
		}
	}()
	if err := w.mode(ctx, relaxed); err != nil {
		return err
	}
	if err := w.exec(ctx, "begin immediate"); err != nil {
		return err
	}
	if err = fn(w); err == nil {
		err = w.exec(ctx, "commit")
	}
	if err != nil {
		_ = w.exec(ctx, "rollback") // fails where SQLite has rolled back already
	}
	return err
}

// enter waits for the caller's turn.
func (w *writer) enter(ctx context.Context, queue *[]chan struct{}) error {
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
	turn := make(chan struct{})
	*queue = append(*queue, turn)
	w.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	w.mu.Lock()
	if i := slices.Index(*queue, turn); i >= 0 {
		*queue = slices.Delete(*queue, i, i+1)
		w.mu.Unlock()
		return ctx.Err()
	}
	w.mu.Unlock() // the turn came at the same moment: pass it on
	w.leave()
	return ctx.Err()
}

// leave gives the turn to the next, urgent work first.
func (w *writer) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, queue := range []*[]chan struct{}{&w.urgent, &w.normal} {
		if len(*queue) > 0 {
			close((*queue)[0])
			*queue = slices.Delete(*queue, 0, 1)
			return
		}
	}
	w.busy = false
}

func (w *writer) mode(ctx context.Context, relaxed bool) error {
	if w.relaxed == relaxed {
		return nil
	}
	level := "full"
	if relaxed {
		level = "normal"
	}
	if _, err := w.conn.ExecContext(ctx, "pragma synchronous = "+level); err != nil {
		return err
	}
	w.relaxed = relaxed
	return nil
}

func (w *writer) exec(ctx context.Context, text string) error {
	_, err := w.ExecContext(ctx, text)
	return err
}

func (w *writer) close() {
	_ = w.enter(context.Background(), &w.normal) // after all that waits
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
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
