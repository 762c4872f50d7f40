package verify

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/access"
	"github.com/tollkey/tollkey/internal/limit"
	"github.com/tollkey/tollkey/internal/store"
)

// Subject is everything about a key that its verification needs, decoded once and immutable.
type Subject struct {
	ID        tollkey.KeyID
	Workspace tollkey.WorkspaceID
	API       tollkey.APIID
	Name      string
	Meta      []byte
	Enabled   bool
	Expires   time.Time
	// Permissions are the effective ones, direct and through roles, sorted and without repeats.
	Permissions []string
	Roles       []string
	Identity    *tollkey.Identity // with the limits that no limit of the key hides by name

	digest           tollkey.Digest
	apiDeleted       bool
	workspaceEnabled bool
	allow            []netip.Prefix
	grants           access.Grants
	rules            []rule
	limited          bool         // has a balance
	remaining        atomic.Int64 // the balance when last seen; a hint for answers that do not spend
	refusals         refusalRate
}

// rule is one stored rate limit as it applies to this key.
type rule struct {
	tollkey.RateLimit
	bucket tollkey.BucketID
}

// Remaining returns the balance as it was last seen by this node, and whether the key is limited at all.
func (s *Subject) Remaining() (int64, bool) { return s.remaining.Load(), s.limited }

func (e *Engine) loadSubject(ctx context.Context, d tollkey.Digest) (*Subject, []string, error) {
	if err := e.admitMiss(ctx); err != nil {
		return nil, nil, err
	}
	defer e.missDone()
	r, err := e.lookups.KeyByDigest(ctx, d)
	if err != nil || r == nil {
		return nil, []string{digestText(d)}, err
	}
	return newSubject(r), dependencies(r), nil
}

// dependencies names all whose change makes the subject out of date.
func dependencies(r *store.KeyRecord) []string {
	names := []string{string(r.ID), string(r.API), string(r.Workspace)}
	if r.Identity != nil {
		names = append(names, string(r.Identity.ID))
	}
	for _, role := range r.Roles {
		names = append(names, string(role.ID))
	}
	for _, p := range r.Permissions {
		names = append(names, string(p.ID))
	}
	return names
}

func newSubject(r *store.KeyRecord) *Subject {
	s := &Subject{
		ID: r.ID, Workspace: r.Workspace, API: r.API, Name: r.Name, Meta: r.Meta, Enabled: r.Enabled, Expires: r.Expires,
		digest: r.Digest, apiDeleted: r.APIDeleted, workspaceEnabled: r.WorkspaceEnabled, allow: prefixes(r.IPAllowList),
	}
	for _, p := range r.Permissions {
		s.Permissions = append(s.Permissions, p.Slug)
	}
	for _, role := range r.Roles {
		s.Roles = append(s.Roles, role.Name)
		for _, p := range role.Permissions {
			s.Permissions = append(s.Permissions, p.Slug)
		}
	}
	slices.Sort(s.Permissions)
	s.Permissions = slices.Compact(s.Permissions)
	s.grants = access.NewGrants(s.Permissions)
	if r.Credits.Remaining != nil {
		s.limited = true
		s.remaining.Store(*r.Credits.Remaining)
	}
	s.addRules(r)
	return s
}

// addRules merges the limits of the key and of its identity by name; the key's win. Each counts in the scope of its owner, so
// that an identity's limit is shared by all its keys.
func (s *Subject) addRules(r *store.KeyRecord) {
	own := make(map[string]bool, len(r.RateLimits))
	for _, l := range r.RateLimits {
		own[l.Name] = true
		s.rules = append(s.rules, rule{l, limit.BucketFor(string(r.Workspace), l.Name, string(r.ID), l.Duration)})
	}
	if r.Identity == nil {
		return
	}
	identity := *r.Identity
	identity.RateLimits = nil
	for _, l := range r.Identity.RateLimits {
		if own[l.Name] {
			continue
		}
		identity.RateLimits = append(identity.RateLimits, l)
		s.rules = append(s.rules, rule{l, limit.BucketFor(string(r.Workspace), l.Name, string(identity.ID), l.Duration)})
	}
	s.Identity = &identity
}

// prefixes parses an allow list. An entry that cannot be parsed admits no address; the list stays closed.
func prefixes(list []string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range list {
		text = strings.TrimSpace(text)
		if p, err := netip.ParsePrefix(text); err == nil {
			out = append(out, p.Masked())
		} else if a, err := netip.ParseAddr(text); err == nil {
			out = append(out, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
		} else {
			out = append(out, netip.Prefix{})
		}
	}
	return out
}

func (s *Subject) admits(ip netip.Addr) bool {
	if len(s.allow) == 0 {
		return true
	}
	ip = ip.Unmap()
	for _, p := range s.allow {
		if p.IsValid() && p.Contains(ip) {
			return true
		}
	}
	return false
}

func (s *Subject) rule(name string) *rule {
	for i := range s.rules {
		if s.rules[i].Name == name {
			return &s.rules[i]
		}
	}
	return nil
}
