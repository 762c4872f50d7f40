package control

import (
	"context"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// CreditsChange is what a caller asks to do with a key's credits. Operation is "set", "increment" or "decrement".
type CreditsChange struct {
	Operation string
	Value     Field[int64]
}

// UpdateCredits sets a key's credits, or adds to them or takes from them as they are at that moment, down to 0. To set null takes the refill away with the limit,
// to set nothing takes the limit alone. It returns what the key then has; it does not count as a change of the key, so that UpdatedAt stays.
func (s *Service) UpdateCredits(ctx context.Context, caller Caller, id tollkey.KeyID, in CreditsChange) (now tollkey.Credits, p tollkey.Propagation, err error) {
	p, err = s.mutate(ctx, caller, func(c *change) error {
		k, err := c.LockKey(ctx, caller.Workspace, id)
		if err != nil {
			return err
		}
		if !caller.Can("api", string(k.API), "update_key") {
			return denied("api.*.update_key")
		}
		c.record("key.update", "Changed the credits of a key", keyTarget(k), store.Announcement{Cells: []string{string(id)}})
		if in.Operation == "set" {
			now, err = c.setCredits(ctx, k, in.Value)
		} else {
			now, err = c.addCredits(ctx, k, in)
		}
		return err
	})
	return now, p, err
}

func (c *change) setCredits(ctx context.Context, k *tollkey.Key, value Field[int64]) (tollkey.Credits, error) {
	now := tollkey.Credits{Refill: k.Credits.Refill}
	u := store.KeyUpdate{Remaining: &now.Remaining, UpdatedAt: &k.UpdatedAt}
	if value.Set && !value.Null {
		now.Remaining = &value.Value
	} else if value.Null {
		now.Refill = nil
		u.Refill = &now.Refill
	}
	return now, c.Tx.UpdateKey(ctx, k.Workspace, k.ID, u)
}

func (c *change) addCredits(ctx context.Context, k *tollkey.Key, in CreditsChange) (tollkey.Credits, error) {
	switch {
	case !in.Value.Set || in.Value.Null:
		return tollkey.Credits{}, tollkey.Invalid("/value", "To "+in.Operation+" credits needs a number.")
	case k.Credits.Remaining == nil:
		return tollkey.Credits{}, tollkey.Invalid("/operation", "The key has unlimited credits, of which there are no more and no fewer; set them first.")
	}
	amount := in.Value.Value
	if in.Operation == "decrement" {
		amount = -amount
	}
	remaining, done, err := c.AddCredits(ctx, k.ID, amount)
	if err == nil && !done {
		err = tollkey.Invalid("/value", "A key has at most 10^15 credits.")
	}
	return tollkey.Credits{Remaining: &remaining, Refill: k.Credits.Refill}, err
}
