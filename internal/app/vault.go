package app

import (
	"context"
	"time"

	"github.com/tollkey/tollkey/internal/control"
	"github.com/tollkey/tollkey/internal/sqlstore"
	"github.com/tollkey/tollkey/internal/vault"
)

// openVault fails when the master keys do not open what the store holds. Where no other process shares the store, there is none that could still
// lack the first master key, and so all data keys are wrapped with it at once.
func (a *App) openVault(ctx context.Context, v *vault.Vault) error {
	if v.Off() || !a.db.Solo() {
		return control.CheckDataKeys(ctx, a.db, v)
	}
	done, err := control.Rewrap(ctx, a.db, v, time.Now)
	if done.Done > 0 {
		a.log.Info("data keys are wrapped with another master key now", "dataKeys", done.Done, "masterKey", v.First())
	}
	return err
}

// RewrapDataKeys wraps all data keys with the first master key, while servers run on the same PostgreSQL or none on the data directory.
func RewrapDataKeys(ctx context.Context, c Config) (done control.Rewrapped, err error) {
	err = withStore(ctx, c, func(db *sqlstore.DB) error {
		done, err = control.Rewrap(ctx, db, vault.New(c.MasterKeys), time.Now)
		return err
	})
	return done, err
}

// DiscardSecrets removes what none of the master keys opens.
func DiscardSecrets(ctx context.Context, c Config) (dataKeys int, secrets int64, err error) {
	err = withStore(ctx, c, func(db *sqlstore.DB) error {
		dataKeys, secrets, err = control.Discard(ctx, db, vault.New(c.MasterKeys), time.Now)
		return err
	})
	return dataKeys, secrets, err
}
