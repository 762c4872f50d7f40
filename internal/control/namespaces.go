package control

import (
	"context"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/limit"
	"github.com/tollkey/tollkey/internal/store"
)

// CreateNamespaces makes those of the namespaces that do not exist. It is done at their first use.
func (s *Service) CreateNamespaces(ctx context.Context, caller Caller, names []string) (tollkey.Propagation, error) {
	if !caller.Can("ratelimit", "*", "create_namespace") {
		return tollkey.Propagation{}, denied("ratelimit.*.create_namespace")
	}
	return s.mutate(ctx, caller, func(c *change) error {
		created, err := c.PutNamespaces(ctx, caller.Workspace, names)
		for i := range created {
			n := &created[i]
			c.record("ratelimitNamespace.create", "Created a namespace", namespaceTarget(n), store.Announcement{Cells: []string{store.NamespaceCell(n.Workspace, n.Name)}})
		}
		return err
	})
}

// ListNamespaces returns one page of the live namespaces and the cursor of the next, "" on the last.
func (s *Service) ListNamespaces(ctx context.Context, caller Caller, page store.Page) (found []tollkey.Namespace, next string, err error) {
	if !caller.Can("ratelimit", "*", "read_namespace") {
		return nil, "", denied("ratelimit.*.read_namespace")
	}
	err = s.store.View(ctx, func(r store.Reader) error {
		found, err = r.ListNamespaces(ctx, caller.Workspace, store.Page{From: page.From, Limit: page.Limit + 1})
		return err
	})
	found, next = cut(found, page.Limit, func(v tollkey.Namespace) string { return string(v.ID) })
	return found, next, err
}

// DeleteNamespace ends a namespace for good: its limits answer "gone", and its name stays taken.
func (s *Service) DeleteNamespace(ctx context.Context, caller Caller, nameOrID string) (tollkey.Propagation, error) {
	return s.mutate(ctx, caller, func(c *change) error {
		n, err := c.liveNamespace(ctx, nameOrID, "delete_namespace")
		if err != nil {
			return err
		}
		c.record("ratelimitNamespace.delete", "Deleted a namespace", namespaceTarget(n), store.Announcement{Cells: []string{string(n.ID)}})
		return c.Tx.DeleteNamespace(ctx, caller.Workspace, n.ID)
	})
}

// SetOverride makes or replaces the override of an identifier or pattern.
func (s *Service) SetOverride(ctx context.Context, caller Caller, nameOrID string, o tollkey.Override) (id tollkey.OverrideID, p tollkey.Propagation, err error) {
	p, err = s.mutate(ctx, caller, func(c *change) error {
		n, err := c.liveNamespace(ctx, nameOrID, "set_override")
		if err != nil {
			return err
		}
		if id, err = c.PutOverride(ctx, n.ID, o); err != nil {
			return err
		}
		c.record("ratelimit.set_override", "Set an override", overrideTarget(id, o.Identifier), store.Announcement{Cells: []string{string(n.ID)}})
		return nil
	})
	return id, p, err
}

// DeleteOverride removes the override of exactly this identifier.
func (s *Service) DeleteOverride(ctx context.Context, caller Caller, nameOrID, identifier string) (tollkey.Propagation, error) {
	return s.mutate(ctx, caller, func(c *change) error {
		n, err := c.liveNamespace(ctx, nameOrID, "delete_override")
		if err != nil {
			return err
		}
		id, err := c.Tx.DeleteOverride(ctx, n.ID, identifier)
		if err != nil {
			return err
		}
		c.record("ratelimit.delete_override", "Deleted an override", overrideTarget(id, identifier), store.Announcement{Cells: []string{string(n.ID)}}, namespaceTarget(n))
		return nil
	})
}

// GetOverride returns the override that applies to an identifier. A caller that may not read it learns no more than one for whom there is none.
func (s *Service) GetOverride(ctx context.Context, caller Caller, nameOrID, identifier string) (*tollkey.Override, error) {
	n, err := s.store.Namespace(ctx, caller.Workspace, nameOrID)
	if err != nil {
		return nil, err
	}
	if n == nil || n.Deleted {
		return nil, namespaceNotFound()
	}
	o := limit.NewOverrides(n.Overrides).Match(identifier)
	if o == nil || !caller.Can("ratelimit", string(n.ID), "read_override") {
		return nil, tollkey.NotFound(tollkey.ReasonOverrideNotFound, "There is no override for this identifier.")
	}
	return o, nil
}

// ListOverrides returns one page of a namespace's overrides, also of a deleted one's, and the cursor of the next, "" on the last.
func (s *Service) ListOverrides(ctx context.Context, caller Caller, nameOrID string, page store.Page) (found []tollkey.Override, next string, err error) {
	err = s.store.View(ctx, func(r store.Reader) error {
		n, err := r.Namespace(ctx, caller.Workspace, nameOrID)
		if err != nil {
			return err
		}
		if !caller.Can("ratelimit", string(n.ID), "read_override") {
			return denied("ratelimit.*.read_override")
		}
		found, err = r.ListOverrides(ctx, n.ID, store.Page{From: page.From, Limit: page.Limit + 1})
		return err
	})
	found, next = cut(found, page.Limit, func(v tollkey.Override) string { return string(v.ID) })
	return found, next, err
}

// liveNamespace finds a namespace on which the caller may do action. That it does not exist comes before that the caller may not.
func (c *change) liveNamespace(ctx context.Context, nameOrID, action string) (*tollkey.Namespace, error) {
	n, err := c.Namespace(ctx, c.caller.Workspace, nameOrID)
	switch {
	case err != nil:
		return nil, err
	case n.Deleted:
		return nil, namespaceNotFound()
	case !c.caller.Can("ratelimit", string(n.ID), action):
		return nil, denied("ratelimit.*." + action)
	}
	return n, nil
}

func namespaceNotFound() error {
	return tollkey.NotFound(tollkey.ReasonNamespaceNotFound, "There is no such namespace.")
}

func namespaceTarget(n *tollkey.Namespace) tollkey.AuditTarget {
	return tollkey.AuditTarget{Type: "ratelimitNamespace", ID: string(n.ID), Name: n.Name}
}

func overrideTarget(id tollkey.OverrideID, identifier string) tollkey.AuditTarget {
	return tollkey.AuditTarget{Type: "ratelimitOverride", ID: string(id), Name: identifier}
}
