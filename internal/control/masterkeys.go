package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
	"github.com/tollkey/tollkey/internal/vault"
)

// CheckDataKeys tells what is wrong with the master keys: the configured ones must open every data key of the store.
func CheckDataKeys(ctx context.Context, s store.DataKeys, v *vault.Vault) error {
	var first error
	closed := 0
	err := eachDataKey(ctx, s, func(k *tollkey.DataKey) error {
		if err := v.Check(k); err != nil {
			closed++
			first = cmp.Or(first, err)
		}
		return nil
	})
	if err == nil && closed > 0 {
		err = fmt.Errorf("%d data keys cannot be opened; the first: %w", closed, first)
	}
	return err
}

// Rewrapped is what Rewrap did.
type Rewrapped struct{ Done, Already int }

// Rewrap wraps every data key with the first master key. It opens all before it writes the first, and may be repeated.
func Rewrap(ctx context.Context, s store.Store, v *vault.Vault, now func() time.Time) (done Rewrapped, err error) {
	if v.Off() {
		return done, errors.New("there is no master key to wrap with: set vault.keys or vault.keyFile")
	}
	if err := CheckDataKeys(ctx, s, v); err != nil {
		return done, err
	}
	err = eachDataKey(ctx, s, func(k *tollkey.DataKey) error {
		if k.Master == v.First() {
			done.Already++
			return nil
		}
		fresh, err := v.Rewrap(k)
		if err != nil {
			return err
		}
		_, err = s.Update(ctx, now(), func(tx store.Tx) error {
			written, err := tx.RewrapDataKey(ctx, k.Master, fresh)
			if written {
				bySystem(tx, k.Workspace, "data_key.rewrap", fmt.Sprintf("Wrapped the data key with the master key %s instead of %s", fresh.Master, k.Master), dataKeyTarget(k))
			}
			return err
		})
		done.Done++
		return err
	})
	return done, err
}

// Discard removes the data keys that no configured master key opens, and the secrets that they seal: those keys work on, but nobody can read their
// secrets again. It is for whoever has lost a master key for good.
func Discard(ctx context.Context, s store.Store, v *vault.Vault, now func() time.Time) (dataKeys int, secrets int64, err error) {
	err = eachDataKey(ctx, s, func(k *tollkey.DataKey) error {
		if v.Check(k) == nil {
			return nil
		}
		var n int64
		_, err := s.Update(ctx, now(), func(tx store.Tx) (err error) {
			n, err = tx.DeleteDataKey(ctx, k.ID)
			bySystem(tx, k.Workspace, "data_key.delete", "Deleted a data key that could not be opened, and the secrets that it sealed", dataKeyTarget(k))
			return err
		})
		dataKeys, secrets = dataKeys+1, secrets+n
		return err
	})
	return dataKeys, secrets, err
}

func eachDataKey(ctx context.Context, s store.DataKeys, fn func(*tollkey.DataKey) error) error {
	const slice = 500
	for after := tollkey.DataKeyID(""); ; {
		keys, err := s.DataKeys(ctx, after, slice)
		if err != nil {
			return err
		}
		for i := range keys {
			if err := fn(&keys[i]); err != nil {
				return err
			}
		}
		if len(keys) < slice {
			return nil
		}
		after = keys[slice-1].ID
	}
}
