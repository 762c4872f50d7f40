package verify

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/limit"
	"github.com/tollkey/tollkey/internal/store"
)

// caller is a root key as Authenticate needs it, decoded once.
type caller struct {
	principal        tollkey.Principal
	enabled          bool
	expires          time.Time
	workspaceMissing bool
	workspaceEnabled bool
	noted            atomic.Int64 // when its use was last noted, Unix seconds
}

// noteEvery is how often the use of one root key is noted.
const noteEvery = 10 // seconds

// Authenticate returns the Principal of a root key's secret, or the Error that the HTTP contract names for its state.
func (e *Engine) Authenticate(ctx context.Context, token string) (*tollkey.Principal, error) {
	digest := digestOf(token)
	if !e.mayExist(&digest) {
		if err := e.node.Ensure(ctx); err != nil {
			return nil, err
		}
		return nil, errUnknownRootKey
	}
	c, err := e.callers.get(ctx, digest)
	switch {
	case err != nil:
		return nil, err
	case c == nil:
		return nil, errUnknownRootKey
	case !c.enabled:
		return nil, tollkey.NewError(tollkey.CodeForbidden, tollkey.ReasonKeyDisabled, "This root key is disabled.")
	case !c.expires.IsZero() && e.now().After(c.expires):
		return nil, tollkey.NewError(tollkey.CodeForbidden, tollkey.ReasonForbidden,
			"This root key expired at "+c.expires.UTC().Format(time.RFC3339)+".")
	case c.workspaceMissing:
		return nil, tollkey.NotFound(tollkey.ReasonWorkspaceNotFound, "The workspace of this root key does not exist.")
	case !c.workspaceEnabled:
		return nil, tollkey.NewError(tollkey.CodeForbidden, tollkey.ReasonWorkspaceDisabled, "This workspace is disabled.")
	}
	e.noteUse(c)
	return &c.principal, nil
}

// noteUse tells of a caller now and then, so that a request costs no more than a look.
func (e *Engine) noteUse(c *caller) {
	if e.used == nil {
		return
	}
	now := e.now()
	if last := c.noted.Load(); now.Unix() >= last+noteEvery && c.noted.CompareAndSwap(last, now.Unix()) {
		e.used(c.principal.RootKey, now)
	}
}

// AdmitRequest takes one from the requests per minute of the caller's workspace, which must have a cap. The count is this node's.
func (e *Engine) AdmitRequest(p *tollkey.Principal, now time.Time) (limit.Decision, bool) {
	var d [1]limit.Decision
	r := [1]limit.Request{{
		Bucket: limit.BucketFor(string(p.Workspace), "requests", "workspace", time.Minute), Limit: p.RequestsPerMinute, Duration: time.Minute, Cost: 1,
	}}
	taken, ok, err := e.requests.Take(context.Background(), now, r[:], d[:])
	taken.Keep()
	return d[0], ok || err != nil // a cap that cannot be counted does not stop the API
}

var errUnknownRootKey = tollkey.NewError(tollkey.CodeUnauthorized, tollkey.ReasonCredentialNotFound, "This root key does not exist.")

func (e *Engine) loadCaller(ctx context.Context, d tollkey.Digest) (*caller, []string, error) {
	if err := e.admitMiss(ctx); err != nil {
		return nil, nil, err
	}
	defer e.missDone()
	r, err := e.lookups.RootKeyByDigest(ctx, d)
	if err != nil || r == nil {
		return nil, []string{digestText(d)}, err
	}
	return newCaller(r), []string{string(r.ID), string(r.Workspace)}, nil
}

func newCaller(r *store.RootKeyRecord) *caller {
	permissions := make(map[string]struct{}, len(r.Permissions))
	for _, p := range r.Permissions {
		permissions[p] = struct{}{}
	}
	return &caller{
		principal: tollkey.Principal{
			RootKey: r.ID, Name: r.Name, Workspace: r.Workspace, Permissions: permissions, RequestsPerMinute: r.RequestsPerMinute,
		},
		enabled: r.Enabled, expires: r.Expires, workspaceMissing: r.WorkspaceMissing, workspaceEnabled: r.WorkspaceEnabled,
	}
}
