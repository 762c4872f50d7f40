package control

import (
	"context"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// Field is a value of an update: absent (leave alone), null (clear), or a value.
type Field[T any] struct {
	Set   bool
	Null  bool
	Value T
}

// KeyChange is what a caller asks to change of a key.
type KeyChange struct {
	Name       Field[string]
	ExternalID Field[string]
	Meta       Field[[]byte]
	Expires    Field[time.Time]
	// Unlimited takes credits and refill away; Remaining and Refill change one of them.
	Unlimited   bool
	Remaining   Field[int64]
	Refill      Field[tollkey.Refill]
	RateLimits  *[]tollkey.RateLimit
	Enabled     *bool
	Roles       *[]string // must exist
	Permissions *[]string // made where they do not exist
}

// UpdateKey changes the fields that are given and leaves the others as they are.
func (s *Service) UpdateKey(ctx context.Context, caller Caller, id tollkey.KeyID, in KeyChange) (tollkey.Propagation, error) {
	return s.mutate(ctx, caller, func(c *change) error {
		k, err := c.Key(ctx, caller.Workspace, id)
		if err != nil {
			return err
		}
		if !caller.Can("api", string(k.API), "update_key") {
			return denied("api.*.update_key")
		}
		if err := in.check(); err != nil {
			return err
		}
		u := in.plain(c.Now())
		if err := c.resolve(ctx, caller.Workspace, in, &u); err != nil {
			return err
		}
		c.record("key.update", "Changed a key", keyTarget(k), store.Announcement{Cells: []string{string(id)}})
		return c.Tx.UpdateKey(ctx, caller.Workspace, id, u)
	})
}

func (in *KeyChange) check() error {
	r := in.Refill
	switch {
	case !r.Set || r.Null:
		return nil
	case r.Value.Interval == tollkey.RefillMonthly && r.Value.Day == 0:
		return tollkey.Invalid("/credits/refill/refillDay", "A monthly refill needs a refillDay.")
	case r.Value.Interval == tollkey.RefillDaily && r.Value.Day != 0:
		return tollkey.Invalid("/credits/refill/refillDay", "A daily refill has no refillDay.")
	}
	return nil
}

// plain translates the fields that need nothing from the store.
func (in *KeyChange) plain(now time.Time) (u store.KeyUpdate) {
	u.Enabled = in.Enabled
	if in.Name.Set {
		u.Name = &in.Name.Value
	}
	if in.Meta.Set {
		u.Meta = &in.Meta.Value
	}
	if in.Expires.Set {
		u.Expires = &in.Expires.Value
	}
	if in.RateLimits != nil {
		limits := limitsOf(*in.RateLimits, now)
		u.RateLimits = &limits
	}
	var noRefill *tollkey.Refill
	var noLimit *int64
	if in.Unlimited || in.Remaining.Null {
		u.Remaining, u.Refill = &noLimit, &noRefill
	} else if in.Remaining.Set {
		value := &in.Remaining.Value
		u.Remaining = &value
	}
	if in.Refill.Null {
		u.Refill = &noRefill
	} else if in.Refill.Set {
		value := &in.Refill.Value
		u.Refill = &value
	}
	return u
}

// resolve finds or makes what the key is to be linked to.
func (c *change) resolve(ctx context.Context, ws tollkey.WorkspaceID, in KeyChange, u *store.KeyUpdate) error {
	k := &tollkey.Key{Workspace: ws}
	links := NewKey{}
	if in.ExternalID.Set && !in.ExternalID.Null {
		links.ExternalID = in.ExternalID.Value
	}
	if in.Roles != nil {
		links.Roles = *in.Roles
	}
	if in.Permissions != nil {
		links.Permissions = *in.Permissions
	}
	if err := c.attach(ctx, k, links); err != nil {
		return err
	}
	if in.ExternalID.Set {
		owner := tollkey.IdentityID("")
		if k.Identity != nil {
			owner = k.Identity.ID
		}
		u.Identity = &owner
	}
	if in.Roles != nil {
		ids := make([]tollkey.RoleID, len(k.Roles))
		for i, r := range k.Roles {
			ids[i] = r.ID
		}
		u.Roles = &ids
	}
	if in.Permissions != nil {
		ids := make([]tollkey.PermissionID, len(k.Permissions))
		for i, p := range k.Permissions {
			ids[i] = p.ID
		}
		u.Permissions = &ids
	}
	return nil
}

// ListKeys returns one page of an API's keys and the cursor of the next, "" on the last. With decrypt the secrets of the recoverable ones come too. A
// caller that may not read keys learns no more than one who names an API that does not exist.
func (s *Service) ListKeys(ctx context.Context, caller Caller, f store.KeyFilter, page store.Page, decrypt bool) (keys []tollkey.Key, plain map[tollkey.KeyID]string, next string, err error) {
	var sealed sealedSecrets
	err = s.store.View(ctx, func(r store.Reader) error {
		a, err := r.API(ctx, caller.Workspace, f.API)
		if err != nil {
			return err
		}
		if !caller.Can("api", string(f.API), "read_key") || !caller.Can("api", string(f.API), "read_api") {
			return apiNotFound()
		}
		if decrypt {
			if err := s.mayDecrypt(caller, a); err != nil {
				return err
			}
		}
		keys, err = r.ListKeys(ctx, caller.Workspace, f, store.Page{From: page.From, Limit: page.Limit + 1})
		if err != nil || !decrypt {
			return err
		}
		sealed, err = readSealed(ctx, r, caller.Workspace, keys[:min(len(keys), page.Limit)])
		return err
	})
	if err != nil {
		return nil, nil, "", err
	}
	if len(keys) > page.Limit {
		next = string(keys[page.Limit].ID)
		keys = keys[:page.Limit]
	}
	plain, err = s.open(ctx, caller, sealed, keys)
	return keys, plain, next, err
}
