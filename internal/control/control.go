// Package control is the management side of Tollkey: creating, reading, changing and deleting things. Every change goes
// through mutate, which says once what each must do: one transaction, an audit entry, an announcement, and the wait until
// all nodes have applied it. It sees neither HTTP nor SQL.
//
// It promises: a call that returns an error has changed nothing but, at most, that the workspace got its data key, and but for MigrateKeys, which may be repeated; a call whose change was committed returns no error; what
// belongs to another workspace is answered as missing.
package control

import (
	"context"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/meter"
	"github.com/tollkey/tollkey/internal/store"
	"github.com/tollkey/tollkey/internal/vault"
)

// Service does the operations. It is safe for concurrent use.
type Service struct {
	store   store.Store
	usage   meter.Store
	vault   *vault.Vault
	confirm func(ctx context.Context, change int64) tollkey.Propagation
	now     func() time.Time
}

// New returns a Service. confirm waits until a committed change is applied everywhere.
func New(s store.Store, usage meter.Store, v *vault.Vault, confirm func(context.Context, int64) tollkey.Propagation, now func() time.Time) *Service {
	return &Service{store: s, usage: usage, vault: v, confirm: confirm, now: now}
}

// Caller is who asks, and from where.
type Caller struct {
	*tollkey.Principal
	RemoteIP  string
	UserAgent string

	actor *tollkey.Actor // nil = the root key
}

// change is a transaction with what it will audit and announce.
type change struct {
	store.Tx
	caller      Caller
	correlation string
}

// record audits one event and announces what it touched.
func (c *change) record(event, description string, target tollkey.AuditTarget, a store.Announcement, others ...tollkey.AuditTarget) {
	c.audit(event, description, append([]tollkey.AuditTarget{target}, others...)...)
	c.Announce(a)
}

// audit writes down one event. Whoever calls it announces what was touched, too, if any node must know of it.
func (c *change) audit(event, description string, targets ...tollkey.AuditTarget) {
	const longest = 512 // bytes of a user agent
	actor := tollkey.Actor{Type: "rootkey"}
	if c.caller.actor != nil {
		actor = *c.caller.actor
	} else {
		actor.ID, actor.Name = string(c.caller.RootKey), c.caller.Name
	}
	actor.RemoteIP, actor.UserAgent = c.caller.RemoteIP, c.caller.UserAgent[:min(len(c.caller.UserAgent), longest)]
	c.Audit(tollkey.AuditEntry{
		ID: tollkey.NewID("log", c.Now()), Workspace: c.caller.Workspace, Time: c.Now(), Event: event, Description: description,
		Actor: actor, Targets: targets, Correlation: c.correlation,
	})
}

// mutate runs fn in a transaction and waits until its change is applied everywhere. fn may run twice.
func (s *Service) mutate(ctx context.Context, caller Caller, fn func(*change) error) (tollkey.Propagation, error) {
	now := s.now()
	correlation := tollkey.NewID("cor", now)
	number, err := s.store.Update(ctx, now, func(tx store.Tx) error { return fn(&change{tx, caller, correlation}) })
	if err != nil || number == 0 {
		return tollkey.Propagation{Confirmed: true, Nodes: 1}, err
	}
	return s.confirm(ctx, number), nil
}

func denied(permission string) error {
	return tollkey.NewError(tollkey.CodeForbidden, tollkey.ReasonInsufficientPermissions, "The root key lacks the permission "+permission+".")
}

// bySystem audits what the server did, or what was done to a workspace from another, which is not named.
func bySystem(tx store.Tx, ws tollkey.WorkspaceID, event, description string, targets ...tollkey.AuditTarget) {
	tx.Audit(tollkey.AuditEntry{
		ID: tollkey.NewID("log", tx.Now()), Workspace: ws, Time: tx.Now(), Event: event, Description: description,
		Actor: tollkey.Actor{Type: "system", ID: "system"}, Targets: targets,
	})
}

func apiNotFound() error {
	return tollkey.NotFound(tollkey.ReasonAPINotFound, "There is no such API.")
}
