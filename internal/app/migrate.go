package app

import (
	"context"

	"github.com/tollkey/tollkey/internal/sqlstore"
)

// Migrate brings the store to this version, making it where there is none, and serves nothing.
func Migrate(ctx context.Context, c Config) error {
	db, err := sqlstore.Open(ctx, sqlstore.Options{Dir: c.Data, URL: c.DatabaseURL})
	if err != nil {
		return err
	}
	return db.Close()
}
