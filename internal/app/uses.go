package app

import (
	"context"
	"sync"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

const (
	usesEvery  = 20 * time.Second
	usesMemory = 50_000               // entries at which they are written early
	usesBudget = 2 * time.Millisecond // how long one slice may hold the store's writer, before its commit
)

// uses remembers when keys were last used until that is written: one write for all the uses of a key in usesEvery. A killed process forgets
// what it has not written.
type uses struct {
	store store.Uses

	mu      sync.Mutex
	pending map[tollkey.KeyID]store.Use
}

func newUses(s store.Uses) *uses {
	return &uses{store: s, pending: map[tollkey.KeyID]store.Use{}}
}

func (u *uses) key(id tollkey.KeyID, at time.Time) { u.note(store.Use{Key: id, At: at}) }

func (u *uses) rootKey(id tollkey.KeyID, at time.Time) {
	u.note(store.Use{Key: id, Root: true, At: at})
}

// note remembers the latest use of a key.
func (u *uses) note(n store.Use) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if n.At.After(u.pending[n.Key].At) {
		u.pending[n.Key] = n
	}
}

// crowded reports whether it is time to write early.
func (u *uses) crowded() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.pending) >= usesMemory
}

// flush writes what is remembered, in slices that leave the writer to others in between. What could not be written is remembered again.
func (u *uses) flush(ctx context.Context) error {
	u.mu.Lock()
	list := make([]store.Use, 0, len(u.pending))
	for _, n := range u.pending {
		list = append(list, n)
	}
	clear(u.pending)
	u.mu.Unlock()
	for len(list) > 0 {
		done, err := u.store.PutLastUsed(ctx, list, usesBudget)
		if err != nil {
			for _, n := range list {
				u.note(n)
			}
			return err
		}
		list = list[done:]
	}
	return nil
}

// noteUses writes when keys and root keys were last used.
func (a *App) noteUses(ctx context.Context) {
	tick := time.NewTicker(usesEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := a.uses.flush(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("times of last use could not be written; it will be tried again", "error", err)
		}
	}
}
