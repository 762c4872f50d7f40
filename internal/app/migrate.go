package app

import (
	"context"
	"errors"

	"github.com/tollkey/tollkey/internal/sqlstore"
)

// Migrate brings the store to this version, making it where there is none, and serves nothing.
func Migrate(ctx context.Context, c Config) error {
	return withStore(ctx, c, func(*sqlstore.DB) error { return nil })
}

// withStore runs fn on the store, which a server on a data directory must not have open.
func withStore(ctx context.Context, c Config, fn func(*sqlstore.DB) error) error {
	db, err := sqlstore.Open(ctx, sqlstore.Options{Dir: c.Data, URL: c.DatabaseURL})
	if err != nil {
		return err
	}
	return errors.Join(fn(db), db.Close())
}
