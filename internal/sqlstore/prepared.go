package sqlstore

import (
	"context"
	"database/sql"
	"sync"
)

// prepared reads from a SQLite pool, or within tx, with statements that each connection parses once: to parse one costs more than to run
// it. (pgx does the same by itself.)
type prepared struct {
	pool  *sql.DB
	texts *sync.Map // of *sql.Stmt; as many as there are statements in this package
	tx    *sql.Tx   // nil = none
}

func newPrepared(pool *sql.DB) *prepared { return &prepared{pool: pool, texts: new(sync.Map)} }

func (p *prepared) within(tx *sql.Tx) *prepared { return &prepared{p.pool, p.texts, tx} }

func (p *prepared) statement(ctx context.Context, text string) (*sql.Stmt, error) {
	known, ok := p.texts.Load(text)
	if !ok {
		fresh, err := p.pool.PrepareContext(context.WithoutCancel(ctx), text)
		if err != nil {
			return nil, err
		}
		var loaded bool
		if known, loaded = p.texts.LoadOrStore(text, fresh); loaded {
			_ = fresh.Close() // another was faster
		}
	}
	s := known.(*sql.Stmt)
	if p.tx != nil {
		s = p.tx.StmtContext(ctx, s)
	}
	return s, nil
}

// ExecContext is part of querier.
func (p *prepared) ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error) {
	s, err := p.statement(ctx, text)
	if err != nil {
		return nil, err
	}
	return s.ExecContext(ctx, args...)
}

// QueryContext is part of querier.
func (p *prepared) QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	s, err := p.statement(ctx, text)
	if err != nil {
		return nil, err
	}
	return s.QueryContext(ctx, args...)
}

// QueryRowContext is part of querier.
func (p *prepared) QueryRowContext(ctx context.Context, text string, args ...any) *sql.Row {
	s, err := p.statement(ctx, text)
	if err != nil {
		return p.pool.QueryRowContext(ctx, text, args...) // its Scan gives the error
	}
	return s.QueryRowContext(ctx, args...)
}
