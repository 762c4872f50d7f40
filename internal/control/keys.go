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

// CreateKey makes a key and returns its secret, of which only the digest is kept unless the key is to be recoverable. A caller that may not create keys, or
// may not keep their secrets, learns no more than one who names an API that does not exist.
func (s *Service) CreateKey(ctx context.Context, caller Caller, in NewKey) (id tollkey.KeyID, plain string, p tollkey.Propagation, err error) {
	if !caller.Can("api", string(in.API), "create_key") {
		return "", "", p, apiNotFound()
	}
	k, plain, sealed, err := s.draft(ctx, caller, in)
	if err != nil {
		return "", "", p, err
	}
	p, err = s.mutate(ctx, caller, func(c *change) error {
		k.CreatedAt = c.Now()
		if err := c.attach(ctx, k, in); err != nil {
			return err
		}
		c.record("key.create", "Created a key", keyTarget(k), store.Announcement{Digests: []tollkey.Digest{k.Digest}, Keys: []tollkey.KeyID{k.ID}})
		return c.createKey(ctx, k, sealed)
	})
	return k.ID, plain, p, err
}

// createKey writes a key, and its secret where that is to be recoverable.
func (c *change) createKey(ctx context.Context, k *tollkey.Key, sealed *tollkey.SealedSecret) error {
	if sealed != nil {
		if err := c.CreateSealedSecret(ctx, sealed); err != nil {
			return err
		}
	}
	return c.CreateKeys(ctx, []*tollkey.Key{k})
}

// draft makes a key but for what it is linked to. Hashing and encryption are done here, since they must not hold up a transaction.
func (s *Service) draft(ctx context.Context, caller Caller, in NewKey) (k *tollkey.Key, plain string, sealed *tollkey.SealedSecret, err error) {
	a, err := s.store.API(ctx, caller.Workspace, in.API)
	if err == nil && in.Recoverable {
		err = s.mayEncrypt(caller, a, apiNotFound())
	}
	if err == nil {
		err = in.check()
	}
	if err != nil {
		return nil, "", nil, err
	}
	k = &tollkey.Key{
		ID: tollkey.KeyID(tollkey.NewID("key", s.now())), Workspace: caller.Workspace, API: in.API, Name: in.Name, Meta: in.Meta,
		Enabled: in.Enabled, Expires: in.Expires, Credits: in.Credits, RateLimits: limitsOf(in.RateLimits, s.now()),
	}
	plain, err = newSecret(k, a, firstOf(in.Prefix, a.DefaultPrefix), in.ByteLength)
	if err == nil && in.Recoverable {
		sealed, err = s.seal(ctx, caller, k.ID, plain)
	}
	return k, plain, sealed, err
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
	case refill != nil && in.Credits.Remaining == nil:
		return tollkey.Invalid("/credits/refill", "A refill needs a limited number of remaining credits.")
	case refill != nil && refill.Interval == tollkey.RefillMonthly && refill.Day == 0:
		return tollkey.Invalid("/credits/refill/refillDay", "A monthly refill needs a refillDay.")
	}
	return nil
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

// GetKey reads a key of any state but deleted. With decrypt its secret comes too, or "" when it is not recoverable.
func (s *Service) GetKey(ctx context.Context, caller Caller, id tollkey.KeyID, decrypt bool) (k *tollkey.Key, plain string, err error) {
	var sealed sealedSecrets
	err = s.store.View(ctx, func(r store.Reader) error {
		if k, err = r.Key(ctx, caller.Workspace, id); err != nil {
			return err
		}
		if !caller.Can("api", string(k.API), "read_key") {
			return denied("api.*.read_key")
		}
		if !decrypt {
			return nil
		}
		a, err := r.API(ctx, caller.Workspace, k.API)
		if err == nil {
			err = s.mayDecrypt(caller, a)
		}
		if err == nil {
			sealed, err = readSealed(ctx, r, caller.Workspace, []tollkey.Key{*k})
		}
		return err
	})
	if err != nil {
		return nil, "", err
	}
	opened, err := s.open(ctx, caller, sealed, []tollkey.Key{*k})
	return k, opened[id], err
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
