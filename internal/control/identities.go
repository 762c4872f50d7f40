package control

import (
	"context"
	"slices"
	"strings"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// maxMeta bounds the metadata of an identity, in bytes of JSON.
const maxMeta = 1 << 20

// CreateIdentity makes a customer. Of two limits with one name the later wins.
func (s *Service) CreateIdentity(ctx context.Context, caller Caller, externalID string, meta []byte, limits []tollkey.RateLimit) (tollkey.IdentityID, tollkey.Propagation, error) {
	if !caller.Can("identity", "*", "create_identity") {
		return "", tollkey.Propagation{}, denied("identity.*.create_identity")
	}
	if err := checkMeta(meta); err != nil {
		return "", tollkey.Propagation{}, err
	}
	i := &tollkey.Identity{ID: tollkey.IdentityID(tollkey.NewID("id", s.now())), Workspace: caller.Workspace, ExternalID: externalID, Meta: meta}
	p, err := s.mutate(ctx, caller, func(c *change) error {
		i.CreatedAt, i.RateLimits = c.Now(), limitsOf(limits, c.Now())
		c.record("identity.create", "Created an identity", identityTarget(i), store.Announcement{Cells: []string{string(i.ID)}})
		for _, l := range i.RateLimits {
			c.audit("ratelimit.create", "Created a rate limit", identityTarget(i), limitTarget(l))
		}
		return c.Tx.CreateIdentity(ctx, i)
	})
	return i.ID, p, err
}

func checkMeta(meta []byte) error {
	if len(meta) > maxMeta {
		return tollkey.Invalid("/meta", "The metadata takes more than 1 MiB.")
	}
	return nil
}

// GetIdentity reads a customer by its id or external id. That it does not exist comes before that the caller may not read it.
func (s *Service) GetIdentity(ctx context.Context, caller Caller, ref string) (i *tollkey.Identity, err error) {
	err = s.store.View(ctx, func(r store.Reader) error {
		i, err = r.FindIdentity(ctx, caller.Workspace, ref)
		return err
	})
	if err == nil && !caller.Can("identity", string(i.ID), "read_identity") {
		return nil, denied("identity.*.read_identity")
	}
	return i, err
}

// ListIdentities returns one page of those in whose id or external id search occurs, and the cursor of the next, "" on the last. A page with one that the
// caller may not read is refused.
func (s *Service) ListIdentities(ctx context.Context, caller Caller, search string, page store.Page) (found []tollkey.Identity, next string, err error) {
	err = s.store.View(ctx, func(r store.Reader) error {
		found, err = r.ListIdentities(ctx, caller.Workspace, strings.TrimSpace(search), store.Page{From: page.From, Limit: page.Limit + 1})
		return err
	})
	found, next = cut(found, page.Limit, func(i tollkey.Identity) string { return string(i.ID) })
	for i := range found {
		if !caller.Can("identity", string(found[i].ID), "read_identity") {
			return nil, "", denied("identity.*.read_identity")
		}
	}
	return found, next, err
}

// IdentityChange is what a caller asks to change of a customer; nil leaves alone.
type IdentityChange struct {
	Meta       *[]byte
	RateLimits *[]tollkey.RateLimit
}

// UpdateIdentity changes a customer, named by its id or external id, and returns it with the limits that it then has.
func (s *Service) UpdateIdentity(ctx context.Context, caller Caller, ref string, in IdentityChange) (i *tollkey.Identity, p tollkey.Propagation, err error) {
	if !caller.Can("identity", "*", "update_identity") {
		return nil, p, denied("identity.*.update_identity")
	}
	if err := in.check(); err != nil {
		return nil, p, err
	}
	p, err = s.mutate(ctx, caller, func(c *change) error {
		if i, err = c.lockedIdentity(ctx, ref); err != nil {
			return err
		}
		c.record("identity.update", "Changed an identity", identityTarget(i), store.Announcement{Cells: []string{string(i.ID)}})
		u := store.IdentityUpdate{Meta: in.Meta}
		if in.RateLimits != nil {
			limits := limitsOf(*in.RateLimits, c.Now())
			u.RateLimits = &limits
			c.recordLimits(i, limits)
			i.RateLimits = limits
		}
		return c.Tx.UpdateIdentity(ctx, caller.Workspace, i.ID, u)
	})
	return i, p, err
}

func (in *IdentityChange) check() error {
	if in.RateLimits != nil {
		names := map[string]bool{}
		for _, l := range *in.RateLimits {
			if names[l.Name] {
				return tollkey.Invalid("/ratelimits", "There are two rate limits named \""+l.Name+"\".")
			}
			names[l.Name] = true
		}
	}
	if in.Meta != nil {
		return checkMeta(*in.Meta)
	}
	return nil
}

// DeleteIdentity ends a customer, named by its id or external id. Its keys stay and lose its limits; its external id is free again.
func (s *Service) DeleteIdentity(ctx context.Context, caller Caller, ref string) (tollkey.Propagation, error) {
	if !caller.Can("identity", "*", "delete_identity") {
		return tollkey.Propagation{}, denied("identity.*.delete_identity")
	}
	return s.mutate(ctx, caller, func(c *change) error {
		i, err := c.lockedIdentity(ctx, ref)
		if err != nil {
			return err
		}
		c.record("identity.delete", "Deleted an identity", identityTarget(i), store.Announcement{Cells: []string{string(i.ID)}})
		c.recordLimits(i, nil)
		return c.Tx.DeleteIdentity(ctx, caller.Workspace, i.ID)
	})
}

// lockedIdentity finds an identity and has other changes of it wait.
func (c *change) lockedIdentity(ctx context.Context, ref string) (*tollkey.Identity, error) {
	i, err := c.FindIdentity(ctx, c.caller.Workspace, ref)
	if err != nil {
		return nil, err
	}
	if err := c.LockIdentity(ctx, c.caller.Workspace, i.ID); err != nil {
		return nil, err
	}
	return c.FindIdentity(ctx, c.caller.Workspace, string(i.ID))
}

// recordLimits audits what becomes of an identity's limits, and gives those that stay by name their ids.
func (c *change) recordLimits(i *tollkey.Identity, limits []tollkey.RateLimit) {
	named := func(list []tollkey.RateLimit, name string) int {
		return slices.IndexFunc(list, func(l tollkey.RateLimit) bool { return l.Name == name })
	}
	for at := range limits {
		l := &limits[at]
		if old := named(i.RateLimits, l.Name); old < 0 {
			c.audit("ratelimit.create", "Created a rate limit", identityTarget(i), limitTarget(*l))
		} else if l.ID = i.RateLimits[old].ID; *l != i.RateLimits[old] {
			c.audit("ratelimit.update", "Changed a rate limit", identityTarget(i), limitTarget(*l))
		}
	}
	for _, l := range i.RateLimits {
		if named(limits, l.Name) < 0 {
			c.audit("ratelimit.delete", "Deleted a rate limit", identityTarget(i), limitTarget(l))
		}
	}
}

func limitTarget(l tollkey.RateLimit) tollkey.AuditTarget {
	return tollkey.AuditTarget{Type: "ratelimit", ID: string(l.ID), Name: l.Name}
}

func identityTarget(i *tollkey.Identity) tollkey.AuditTarget {
	return tollkey.AuditTarget{Type: "identity", ID: string(i.ID), Name: i.ExternalID}
}
