package control

import (
	"context"
	"slices"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// CreatePortal makes a portal for customers of the APIs that p names. Its slug must be new.
func (s *Service) CreatePortal(ctx context.Context, caller Caller, p tollkey.Portal) (tollkey.PortalID, tollkey.Propagation, error) {
	if !caller.Can("portal", "*", "create_portal") {
		return "", tollkey.Propagation{}, denied("portal.*.create_portal")
	}
	p.ID, p.Workspace, p.Enabled = tollkey.PortalID(tollkey.NewID("pc", s.now())), caller.Workspace, true
	done, err := s.mutate(ctx, caller, func(c *change) error {
		p.CreatedAt = c.Now()
		if err := c.checkAPIs(ctx, &p); err != nil {
			return err
		}
		c.record("portal.create", "Created a portal", portalTarget(&p), store.Announcement{Cells: []string{string(p.ID)}})
		return c.Tx.CreatePortal(ctx, &p)
	})
	return p.ID, done, err
}

// checkAPIs makes sure that all APIs of a portal exist, and names each once.
func (c *change) checkAPIs(ctx context.Context, p *tollkey.Portal) error {
	p.APIs = slices.Compact(slices.Sorted(slices.Values(p.APIs)))
	for _, id := range p.APIs {
		if _, err := c.API(ctx, p.Workspace, id); err != nil {
			return err
		}
	}
	return nil
}

// GetPortal reads a portal by its id or slug. A caller that may not read it learns no more than one for whom there is none.
func (s *Service) GetPortal(ctx context.Context, caller Caller, ref string) (p *tollkey.Portal, err error) {
	err = s.store.View(ctx, func(r store.Reader) error {
		p, err = r.Portal(ctx, caller.Workspace, ref)
		return err
	})
	if err == nil && !caller.Can("portal", string(p.ID), "read_portal") {
		return nil, portalNotFound()
	}
	return p, err
}

// ListPortals returns one page and the cursor of the next, "" on the last.
func (s *Service) ListPortals(ctx context.Context, caller Caller, page store.Page) (found []tollkey.Portal, next string, err error) {
	if !caller.Can("portal", "*", "read_portal") {
		return nil, "", denied("portal.*.read_portal")
	}
	err = s.store.View(ctx, func(r store.Reader) error {
		found, err = r.ListPortals(ctx, caller.Workspace, store.Page{From: page.From, Limit: page.Limit + 1})
		return err
	})
	found, next = cut(found, page.Limit, func(p tollkey.Portal) string { return string(p.ID) })
	return found, next, err
}

// PortalChange is what a caller asks to change of a portal.
type PortalChange struct {
	Slug, Name                       *string
	APIs                             *[]tollkey.APIID
	PrimaryColor, LogoURL, ReturnURL Field[string]
	Enabled                          *bool // false ends all its sessions
}

// UpdatePortal changes the fields that are given. Sessions that are under way keep the APIs that they were made for.
func (s *Service) UpdatePortal(ctx context.Context, caller Caller, ref string, in PortalChange) (tollkey.Propagation, error) {
	return s.mutate(ctx, caller, func(c *change) error {
		p, err := c.portal(ctx, ref, "update_portal")
		if err != nil {
			return err
		}
		in.apply(p)
		if in.APIs != nil {
			if err := c.checkAPIs(ctx, p); err != nil {
				return err
			}
		}
		c.record("portal.update", "Changed a portal", portalTarget(p), store.Announcement{Cells: []string{string(p.ID)}})
		return c.Tx.UpdatePortal(ctx, p)
	})
}

func (in *PortalChange) apply(p *tollkey.Portal) {
	for _, f := range []struct {
		to   *string
		from *string
	}{{&p.Slug, in.Slug}, {&p.Name, in.Name}} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	for _, f := range []struct {
		to   *string
		from Field[string]
	}{{&p.PrimaryColor, in.PrimaryColor}, {&p.LogoURL, in.LogoURL}, {&p.ReturnURL, in.ReturnURL}} {
		if f.from.Set {
			*f.to = f.from.Value // null comes with ""
		}
	}
	if in.APIs != nil {
		p.APIs = *in.APIs
	}
	if in.Enabled != nil {
		p.Enabled = *in.Enabled
	}
}

// DeletePortal ends a portal and all its sessions.
func (s *Service) DeletePortal(ctx context.Context, caller Caller, ref string) (tollkey.Propagation, error) {
	return s.mutate(ctx, caller, func(c *change) error {
		p, err := c.portal(ctx, ref, "delete_portal")
		if err != nil {
			return err
		}
		c.record("portal.delete", "Deleted a portal", portalTarget(p), store.Announcement{Cells: []string{string(p.ID)}})
		return c.Tx.DeletePortal(ctx, caller.Workspace, p.ID)
	})
}

// portal finds a portal on which the caller may do action; without that it does not exist for the caller.
func (c *change) portal(ctx context.Context, ref, action string) (*tollkey.Portal, error) {
	p, err := c.Portal(ctx, c.caller.Workspace, ref)
	if err == nil && !c.caller.Can("portal", string(p.ID), action) {
		return nil, portalNotFound()
	}
	return p, err
}

func portalNotFound() error {
	return tollkey.NotFound(tollkey.ReasonPortalNotFound, "There is no such portal.")
}

func portalTarget(p *tollkey.Portal) tollkey.AuditTarget {
	return tollkey.AuditTarget{Type: "portal", ID: string(p.ID), Name: p.Slug}
}
