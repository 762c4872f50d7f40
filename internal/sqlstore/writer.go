package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
)

// errWriterClosed is returned for work that comes after close.
var errWriterClosed = errors.New("sqlstore: the writer is closed")

// writer is the one connection that writes to a SQLite file, owned by one goroutine. database/sql hands out waiting
// connections in random order and would let bulk work stand before the ledger's; here the ledger's queue always goes first.
type writer struct {
	pool    *sql.DB
	conn    *sql.Conn
	cached  map[string]*sql.Stmt
	relaxed bool // the connection's synchronous mode: NORMAL survives a kill, FULL also power loss
	// diskSync has urgent work survive power loss too. It is set before the first use.
	diskSync bool

	urgent chan *job
	normal chan *job
	quit   chan struct{}
	gone   sync.WaitGroup
}

type job struct {
	ctx     context.Context
	fn      func(querier) error
	relaxed bool
	err     error
	done    chan struct{}
}

func newWriter(ctx context.Context, pool *sql.DB) (*writer, error) {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	w := &writer{
		pool: pool, conn: conn, cached: map[string]*sql.Stmt{},
		urgent: make(chan *job), normal: make(chan *job), quit: make(chan struct{}),
	}
	w.gone.Go(w.run)
	return w, nil
}

// do runs fn in a transaction. A caller whose ctx ends while it waits leaves; a transaction that has begun is finished.
func (w *writer) do(ctx context.Context, fn func(querier) error) error {
	return w.enqueue(ctx, w.normal, &job{fn: fn})
}

// doUrgent is do before all that waits, and without a wait for the disk unless diskSync.
func (w *writer) doUrgent(ctx context.Context, fn func(querier) error) error {
	return w.enqueue(ctx, w.urgent, &job{fn: fn, relaxed: !w.diskSync})
}

func (w *writer) enqueue(ctx context.Context, queue chan *job, j *job) error {
	j.ctx, j.done = context.WithoutCancel(ctx), make(chan struct{})
	select {
	case queue <- j:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.quit:
		return errWriterClosed
	}
	<-j.done
	return j.err
}

func (w *writer) run() {
	for {
		select {
		case j := <-w.urgent:
			w.serve(j)
			continue
		default:
		}
		select {
		case j := <-w.urgent:
			w.serve(j)
		case j := <-w.normal:
			w.serve(j)
		case <-w.quit:
			return
		}
	}
}

func (w *writer) serve(j *job) {
	defer close(j.done)
	defer func() {
		if p := recover(); p != nil {
			j.err = errors.Join(fmt.Errorf("sqlstore: a transaction panicked: %v", p), w.exec(j.ctx, "rollback"))
		}
	}()
	if j.err = w.mode(j.ctx, j.relaxed); j.err != nil {
		return
	}
	if j.err = w.exec(j.ctx, "begin immediate"); j.err != nil {
		return
	}
	if j.err = j.fn(w); j.err == nil {
		j.err = w.exec(j.ctx, "commit")
	}
	if j.err != nil {
		_ = w.exec(j.ctx, "rollback") // fails where SQLite has rolled back already
	}
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
	close(w.quit)
	w.gone.Wait()
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
