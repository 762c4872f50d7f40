package control

import (
	"context"
	"slices"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/secret"
	"github.com/tollkey/tollkey/internal/store"
)

// NewKey is what a caller asks of a key.
type NewKey struct {
	API         tollkey.APIID
	Prefix      string // "" = the API's
	Name        string
	ByteLength  int // 0 = the API's
	ExternalID  string
	Meta        []byte
	Roles       []string // must exist
	Permissions []string // made where they do not exist
	Expires     time.Time
	Credits     tollkey.Credits
	RateLimits  []tollkey.RateLimit // of two with one name the later wins
	Enabled     bool
	Recoverable bool
}

// CreateKey makes a key and returns its secret, which is not kept. A caller that may not create keys learns no more than one who
// names an API that does not exist.
func (s *Service) CreateKey(ctx context.Context, caller Caller, in NewKey) (id tollkey.KeyID, plain string, p tollkey.Propagation, err error) {
	if !caller.Can("api", string(in.API), "create_key") {
		return "", "", p, apiNotFound()
	}
	k := &tollkey.Key{ID: tollkey.KeyID(tollkey.NewID("key", s.now())), Workspace: caller.Workspace, API: in.API}
	p, err = s.mutate(ctx, caller, func(c *change) error {
		a, err := c.API(ctx, caller.Workspace, in.API)
		if err != nil {
			return err
		}
		if err := in.check(); err != nil {
			return err
		}
		if plain, err = newSecret(k, a, firstOf(in.Prefix, a.DefaultPrefix), in.ByteLength); err != nil {
			return err
		}
		k.CreatedAt = c.Now()
		k.Name, k.Meta, k.Enabled, k.Expires, k.Credits = in.Name, in.Meta, in.Enabled, in.Expires, in.Credits
		k.RateLimits = limitsOf(in.RateLimits, c.Now())
		if err := c.attach(ctx, k, in); err != nil {
			return err
		}
		c.record("key.create", "Created a key", keyTarget(k), store.Announcement{Digests: []tollkey.Digest{k.Digest}, Keys: []tollkey.KeyID{k.ID}})
		return c.CreateKeys(ctx, []*tollkey.Key{k})
	})
	return k.ID, plain, p, err
}

// newSecret makes a secret in the format of the API and puts its digest and start into k. byteLength 0 is the API's.
func newSecret(k *tollkey.Key, a *tollkey.API, prefix string, byteLength int) (plain string, err error) {
	write := secret.New
	if a.KeyFormat == tollkey.KeyFormatChecksummed {
		write = secret.NewChecksummed
	}
	plain, k.Start, err = write(prefix, firstOf(byteLength, a.DefaultByteLength, secret.DefaultBytes))
	if err != nil {
		return "", tollkey.Invalid("/byteLength", err.Error())
	}
	k.Digest = secret.Hash(plain)
	return plain, nil
}

// check refuses what is well-formed and still cannot be had.
func (in *NewKey) check() error {
	refill := in.Credits.Refill
	switch {
	case in.Recoverable:
		return noEncryption()
	case refill != nil && in.Credits.Remaining == nil:
		return tollkey.Invalid("/credits/refill", "A refill needs a limited number of remaining credits.")
	case refill != nil && refill.Interval == tollkey.RefillMonthly && refill.Day == 0:
		return tollkey.Invalid("/credits/refill/refillDay", "A monthly refill needs a refillDay.")
	}
	return nil
}

func noEncryption() error {
	return tollkey.NewError(tollkey.CodePrecondition, tollkey.ReasonPrecondition, "Recoverable keys are switched off on this server.")
}

// attach finds or makes what the key is linked to.
func (c *change) attach(ctx context.Context, k *tollkey.Key, in NewKey) (err error) {
	if in.ExternalID != "" {
		owner, created, err := c.PutIdentity(ctx, k.Workspace, in.ExternalID)
		if err != nil {
			return err
		}
		k.Identity = &tollkey.Identity{ID: owner}
		if created {
			c.record("identity.create", "Created an identity", tollkey.AuditTarget{Type: "identity", ID: string(owner), Name: in.ExternalID}, store.Announcement{})
		}
	}
	if k.Roles, err = c.roles(ctx, k.Workspace, in.Roles); err != nil {
		return err
	}
	k.Permissions, _, err = c.putPermissions(ctx, in.Permissions)
	return err
}

// GetKey reads a key of any state but deleted.
func (s *Service) GetKey(ctx context.Context, caller Caller, id tollkey.KeyID, decrypt bool) (k *tollkey.Key, err error) {
	err = s.store.View(ctx, func(r store.Reader) error {
		k, err = r.Key(ctx, caller.Workspace, id)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case !caller.Can("api", string(k.API), "read_key"):
		return nil, denied("api.*.read_key")
	case decrypt:
		return nil, noEncryption()
	}
	return k, nil
}

// WhoAmI reads the key that a secret belongs to, without using it. A caller that may not read it learns no more than one who shows an invented secret.
func (s *Service) WhoAmI(ctx context.Context, caller Caller, plain string) (*tollkey.Key, error) {
	r, err := s.store.KeyByDigest(ctx, secret.Hash(plain))
	switch {
	case err != nil:
		return nil, err
	case r == nil, r.Workspace != caller.Workspace, r.APIDeleted, !caller.Can("api", string(r.API), "read_key"):
		return nil, tollkey.NotFound(tollkey.ReasonKeyNotFound, "There is no such key.")
	}
	return &r.Key, nil
}

// DeleteKey makes a key unknown everywhere; with permanent its row and all that hangs on it go too.
func (s *Service) DeleteKey(ctx context.Context, caller Caller, id tollkey.KeyID, permanent bool) (tollkey.Propagation, error) {
	return s.mutate(ctx, caller, func(c *change) error {
		k, err := c.Key(ctx, caller.Workspace, id)
		if err != nil {
			return err
		}
		if !caller.Can("api", string(k.API), "delete_key") {
			return denied("api.*.delete_key")
		}
		c.record("key.delete", "Deleted a key", keyTarget(k), store.Announcement{Cells: []string{string(id)}})
		return c.DeleteKey(ctx, caller.Workspace, id, permanent)
	})
}

func keyTarget(k *tollkey.Key) tollkey.AuditTarget {
	return tollkey.AuditTarget{Type: "key", ID: string(k.ID), Name: k.Name}
}

func limitsOf(in []tollkey.RateLimit, now time.Time) []tollkey.RateLimit {
	var out []tollkey.RateLimit
	for _, l := range in {
		l.ID = tollkey.RateLimitID(tollkey.NewID("rl", now))
		if i := slices.IndexFunc(out, func(o tollkey.RateLimit) bool { return o.Name == l.Name }); i >= 0 {
			out[i] = l
		} else {
			out = append(out, l)
		}
	}
	return out
}

func firstOf[T comparable](values ...T) T {
	var zero T
	for _, v := range values {
		if v != zero {
			return v
		}
	}
	return zero
}
