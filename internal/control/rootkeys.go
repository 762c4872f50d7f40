package control

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/access"
	"github.com/tollkey/tollkey/internal/secret"
	"github.com/tollkey/tollkey/internal/store"
)

// rootKeyPrefix begins every generated root key, so that scanners can tell what they have found.
const (
	rootKeyPrefix = "tollkey"
	rootKeyBytes  = 32
)

// managers are the permissions without which nobody could repair root keys any more.
var managers = []string{"root_key.*.create_root_key", "root_key.*.update_root_key"}

// CreateRootKey makes a root key with permissions that the caller itself holds.
func (s *Service) CreateRootKey(ctx context.Context, caller Caller, name string, permissions []string, expires time.Time) (id tollkey.KeyID, plain string, p tollkey.Propagation, err error) {
	if !caller.Can("root_key", "*", "create_root_key") {
		return "", "", p, denied("root_key.*.create_root_key")
	}
	if err := grantable(caller, permissions); err != nil {
		return "", "", p, err
	}
	p, err = s.mutate(ctx, caller, func(c *change) error {
		id, plain, err = c.newRootKey(ctx, name, permissions, expires)
		return err
	})
	return id, plain, p, err
}

func (c *change) newRootKey(ctx context.Context, name string, permissions []string, expires time.Time) (tollkey.KeyID, string, error) {
	plain, start, err := secret.New(rootKeyPrefix, rootKeyBytes)
	if err != nil {
		return "", "", err
	}
	permissions = slices.Compact(slices.Sorted(slices.Values(permissions)))
	k := &tollkey.RootKey{
		ID: tollkey.KeyID(tollkey.NewID("key", c.Now())), Workspace: c.caller.Workspace, Digest: secret.Hash(plain), Start: start,
		Name: name, Permissions: permissions, Enabled: true, Expires: expires, CreatedAt: c.Now(),
	}
	c.record("key.create", "Created a root key", rootKeyTarget(k), store.Announcement{Digests: []tollkey.Digest{k.Digest}})
	return k.ID, plain, c.Tx.CreateRootKey(ctx, k)
}

// GetRootKey reads a root key.
func (s *Service) GetRootKey(ctx context.Context, caller Caller, id tollkey.KeyID) (k *tollkey.RootKey, err error) {
	if !caller.Can("root_key", string(id), "read_root_key") {
		return nil, denied("root_key.*.read_root_key")
	}
	err = s.store.View(ctx, func(r store.Reader) error {
		k, err = r.RootKey(ctx, caller.Workspace, id)
		return err
	})
	return k, err
}

// ListRootKeys returns one page and the cursor of the next, "" on the last.
func (s *Service) ListRootKeys(ctx context.Context, caller Caller, page store.Page) (keys []tollkey.RootKey, next string, err error) {
	if !caller.Can("root_key", "*", "read_root_key") {
		return nil, "", denied("root_key.*.read_root_key")
	}
	err = s.store.View(ctx, func(r store.Reader) error {
		keys, err = r.ListRootKeys(ctx, caller.Workspace, store.Page{From: page.From, Limit: page.Limit + 1})
		return err
	})
	keys, next = cut(keys, page.Limit, func(v tollkey.RootKey) string { return string(v.ID) })
	return keys, next, err
}

// RootKeyChange is what a caller asks to change of a root key.
type RootKeyChange struct {
	Name        Field[string]
	Permissions *[]string
	Enabled     *bool
	Expires     Field[time.Time]
}

// UpdateRootKey changes a root key all of whose permissions the caller holds.
func (s *Service) UpdateRootKey(ctx context.Context, caller Caller, id tollkey.KeyID, in RootKeyChange) (tollkey.Propagation, error) {
	if in.Permissions != nil {
		if err := grantable(caller, *in.Permissions); err != nil {
			return tollkey.Propagation{}, err
		}
	}
	return s.changeRootKey(ctx, caller, id, "update_root_key", func(c *change, k *tollkey.RootKey) error {
		u := store.RootKeyUpdate{Enabled: in.Enabled}
		if in.Name.Set {
			u.Name = &in.Name.Value
		}
		if in.Expires.Set {
			u.Expires = &in.Expires.Value
		}
		if in.Permissions != nil {
			sorted := slices.Compact(slices.Sorted(slices.Values(*in.Permissions)))
			u.Permissions = &sorted
		}
		c.record("key.update", "Changed a root key", rootKeyTarget(k), store.Announcement{Cells: []string{string(id)}})
		return c.Tx.UpdateRootKey(ctx, caller.Workspace, id, u)
	})
}

// DeleteRootKey removes a root key all of whose permissions the caller holds.
func (s *Service) DeleteRootKey(ctx context.Context, caller Caller, id tollkey.KeyID) (tollkey.Propagation, error) {
	return s.changeRootKey(ctx, caller, id, "delete_root_key", func(c *change, k *tollkey.RootKey) error {
		c.record("key.delete", "Deleted a root key", rootKeyTarget(k), store.Announcement{Cells: []string{string(id)}})
		return c.Tx.DeleteRootKey(ctx, caller.Workspace, id)
	})
}

// RerollRootKey makes a copy with a new secret. The old one is dead at once with grace 0, and otherwise when grace, rounded up to the full
// minute, has passed.
func (s *Service) RerollRootKey(ctx context.Context, caller Caller, id tollkey.KeyID, grace time.Duration) (fresh tollkey.KeyID, plain string, p tollkey.Propagation, err error) {
	p, err = s.changeRootKey(ctx, caller, id, "create_root_key", func(c *change, k *tollkey.RootKey) error {
		if fresh, plain, err = c.newRootKey(ctx, k.Name, k.Permissions, k.Expires); err != nil {
			return err
		}
		if !k.Enabled {
			if err := c.Tx.UpdateRootKey(ctx, caller.Workspace, fresh, store.RootKeyUpdate{Enabled: &k.Enabled}); err != nil {
				return err
			}
		}
		ends := graceEnds(c.Now(), grace)
		c.record("key.reroll", "Replaced a root key", rootKeyTarget(k), store.Announcement{Cells: []string{string(id)}})
		return c.Tx.UpdateRootKey(ctx, caller.Workspace, id, store.RootKeyUpdate{Expires: &ends})
	})
	return fresh, plain, p, err
}

// changeRootKey does what all changes of a root key need: they follow one another, the caller must hold all that the key holds, and
// afterwards somebody must still be able to manage root keys.
func (s *Service) changeRootKey(ctx context.Context, caller Caller, id tollkey.KeyID, action string, fn func(*change, *tollkey.RootKey) error) (tollkey.Propagation, error) {
	if !caller.Can("root_key", string(id), action) {
		return tollkey.Propagation{}, denied("root_key.*." + action)
	}
	return s.mutate(ctx, caller, func(c *change) error {
		if err := c.LockRootKeys(ctx, caller.Workspace); err != nil {
			return err
		}
		k, err := c.RootKey(ctx, caller.Workspace, id)
		if err != nil {
			return err
		}
		if err := grantable(caller, k.Permissions); err != nil {
			return err
		}
		if err := fn(c, k); err != nil {
			return err
		}
		return c.someoneManages(ctx)
	})
}

func (c *change) someoneManages(ctx context.Context) error {
	for from := ""; ; {
		const slice = 100
		keys, err := c.ListRootKeys(ctx, c.caller.Workspace, store.Page{From: from, Limit: slice + 1})
		if err != nil {
			return err
		}
		for i := range keys {
			k := &keys[i]
			lasting := k.Enabled && k.Expires.IsZero()
			if lasting && !slices.ContainsFunc(managers, func(p string) bool { return !slices.Contains(k.Permissions, p) }) {
				return nil
			}
		}
		if len(keys) <= slice {
			return tollkey.NewError(tollkey.CodePrecondition, tollkey.ReasonPrecondition, "This is the last root key that can manage root keys; it must stay as it is.")
		}
		from = string(keys[slice].ID)
	}
}

// grantable checks that every permission exists and that the caller holds it.
func grantable(caller Caller, permissions []string) error {
	for _, p := range permissions {
		if !access.Known(p) {
			return tollkey.Invalid("/permissions", "There is no permission \""+p+"\".")
		}
		parts := strings.Split(p, ".")
		if !caller.Can(parts[0], parts[1], parts[2]) {
			return denied(p)
		}
	}
	return nil
}

func rootKeyTarget(k *tollkey.RootKey) tollkey.AuditTarget {
	return tollkey.AuditTarget{Type: "key", ID: string(k.ID), Name: k.Name}
}
