package control

import (
	"context"
	"strings"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// RerollKey makes a copy of a key with a new secret. The old one is dead at once with grace 0, and otherwise when grace, rounded up to the full minute,
// has passed, even if it was to expire before. From then on the two keys have nothing in common.
func (s *Service) RerollKey(ctx context.Context, caller Caller, id tollkey.KeyID, grace time.Duration) (fresh tollkey.KeyID, plain string, p tollkey.Propagation, err error) {
	k, plain, sealed, err := s.successor(ctx, caller, id)
	if err != nil {
		return "", "", p, err
	}
	p, err = s.mutate(ctx, caller, func(c *change) error {
		// A change of the key that is under way at the same time comes before or after this one, and is copied or not, as a whole.
		old, err := c.LockKey(ctx, caller.Workspace, id)
		if err != nil {
			return err
		}
		k.Name, k.Meta, k.Identity, k.Enabled, k.Expires, k.Credits = old.Name, old.Meta, old.Identity, old.Enabled, old.Expires, old.Credits
		k.Permissions, k.Roles, k.RateLimits, k.CreatedAt = old.Permissions, old.Roles, limitsOf(old.RateLimits, c.Now()), c.Now()
		c.record("key.reroll", "Replaced a key", keyTarget(old), store.Announcement{Cells: []string{string(id)}})
		c.record("key.create", "Created a key", keyTarget(k), store.Announcement{Digests: []tollkey.Digest{k.Digest}, Keys: []tollkey.KeyID{k.ID}})
		if err := c.createKey(ctx, k, sealed); err != nil {
			return err
		}
		ends, never := graceEnds(c.Now(), grace), time.Time{}
		return c.Tx.UpdateKey(ctx, caller.Workspace, id, store.KeyUpdate{Expires: &ends, UpdatedAt: &never})
	})
	return k.ID, plain, p, err
}

// successor makes the id and the secret of the key that replaces another, before any transaction, and seals the secret if the other's is. Its prefix is that of
// the old secret, with all its parts.
func (s *Service) successor(ctx context.Context, caller Caller, id tollkey.KeyID) (k *tollkey.Key, plain string, sealed *tollkey.SealedSecret, err error) {
	var old *tollkey.Key
	var a *tollkey.API
	var oldSecrets []tollkey.SealedSecret
	err = s.store.View(ctx, func(r store.Reader) error {
		if old, err = r.Key(ctx, caller.Workspace, id); err != nil {
			return err
		}
		if !caller.Can("api", string(old.API), "create_key") {
			return denied("api.*.create_key")
		}
		if a, err = r.API(ctx, caller.Workspace, old.API); err != nil {
			return err
		}
		oldSecrets, err = r.SealedSecrets(ctx, caller.Workspace, []tollkey.KeyID{id})
		return err
	})
	recoverable := len(oldSecrets) > 0
	switch {
	case err != nil:
	case recoverable && !caller.Can("api", string(a.ID), "encrypt_key"): // here the permission comes before the preconditions
		err = denied("api.*.encrypt_key")
	case recoverable:
		err = s.mayEncrypt(caller, a, nil)
	}
	if err != nil {
		return nil, "", nil, err
	}
	prefix := a.DefaultPrefix
	if end := strings.LastIndexByte(old.Start, '_'); end > 0 {
		prefix = old.Start[:end]
	}
	k = &tollkey.Key{ID: tollkey.KeyID(tollkey.NewID("key", s.now())), Workspace: caller.Workspace, API: old.API}
	plain, err = newSecret(k, a, prefix, 0)
	if err == nil && recoverable {
		sealed, err = s.seal(ctx, caller, k.ID, plain)
	}
	return k, plain, sealed, err
}

// graceEnds is when a replaced secret expires: at once, or at the end of the minute in which grace has passed.
func graceEnds(now time.Time, grace time.Duration) time.Time {
	if grace == 0 {
		return now.Add(-time.Millisecond) // expired means strictly after
	}
	ends, latest := now.Add(grace+time.Minute-time.Millisecond).Truncate(time.Minute), time.UnixMilli(tollkey.MaxExpires)
	if ends.After(latest) {
		return latest
	}
	return ends
}
