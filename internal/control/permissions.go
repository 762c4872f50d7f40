package control

import (
	"context"
	"slices"
	"strings"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// CreatePermission makes a permission. Its slug must be new in every letter case.
func (s *Service) CreatePermission(ctx context.Context, caller Caller, p tollkey.Permission) (tollkey.PermissionID, tollkey.Propagation, error) {
	if !caller.Can("rbac", "*", "create_permission") {
		return "", tollkey.Propagation{}, denied("rbac.*.create_permission")
	}
	p.ID = tollkey.PermissionID(tollkey.NewID("perm", s.now()))
	done, err := s.mutate(ctx, caller, func(c *change) error {
		c.record("permission.create", "Created a permission", permissionTarget(p), store.Announcement{Cells: []string{string(p.ID)}})
		return c.Tx.CreatePermission(ctx, caller.Workspace, &p)
	})
	return p.ID, done, err
}

// GetPermission reads a permission by its id or slug.
func (s *Service) GetPermission(ctx context.Context, caller Caller, ref string) (p *tollkey.Permission, err error) {
	if !caller.Can("rbac", "*", "read_permission") {
		return nil, denied("rbac.*.read_permission")
	}
	err = s.store.View(ctx, func(r store.Reader) error {
		p, err = r.Permission(ctx, caller.Workspace, ref)
		return err
	})
	return p, err
}

// ListPermissions returns one page of those in which search occurs, and the cursor of the next, "" on the last.
func (s *Service) ListPermissions(ctx context.Context, caller Caller, search string, page store.Page) (list []tollkey.Permission, next string, err error) {
	if !caller.Can("rbac", "*", "read_permission") {
		return nil, "", denied("rbac.*.read_permission")
	}
	err = s.store.View(ctx, func(r store.Reader) error {
		list, err = r.ListPermissions(ctx, caller.Workspace, strings.TrimSpace(search), store.Page{From: page.From, Limit: page.Limit + 1})
		return err
	})
	list, next = cut(list, page.Limit, func(p tollkey.Permission) string { return string(p.ID) })
	return list, next, err
}

// DeletePermission takes a permission, named by its id or slug, from every key and role that holds it. Keys that hold it directly depend on its cell,
// those that hold it through a role on the role's.
func (s *Service) DeletePermission(ctx context.Context, caller Caller, ref string) (tollkey.Propagation, error) {
	if !caller.Can("rbac", "*", "delete_permission") {
		return tollkey.Propagation{}, denied("rbac.*.delete_permission")
	}
	return s.mutate(ctx, caller, func(c *change) error {
		p, roles, err := c.Tx.DeletePermission(ctx, caller.Workspace, ref)
		if err != nil {
			return err
		}
		cells := []string{string(p.ID)}
		for _, id := range roles {
			cells = append(cells, string(id))
		}
		c.record("permission.delete", "Deleted a permission", permissionTarget(*p), store.Announcement{Cells: cells})
		return nil
	})
}

// AddKeyPermissions gives a key permissions, which are made where they do not exist, and returns all that it then has directly: those it had and then the
// new ones, each ordered by slug.
func (s *Service) AddKeyPermissions(ctx context.Context, caller Caller, id tollkey.KeyID, slugs []string) (now []tollkey.Permission, p tollkey.Propagation, err error) {
	p, err = s.changeKey(ctx, caller, id, []string{"add_permission_to_key"}, func(c *change, k *tollkey.Key) error {
		wanted, err := c.grantPermissions(ctx, slugs)
		if err != nil {
			return err
		}
		fresh := without(wanted, k.Permissions)
		now = slices.Concat(k.Permissions, fresh)
		return c.linkKey(ctx, k, links{permissions: fresh}, links{})
	})
	return now, p, err
}

// SetKeyPermissions makes the direct permissions of a key exactly these, which are made where they do not exist, and returns them.
func (s *Service) SetKeyPermissions(ctx context.Context, caller Caller, id tollkey.KeyID, slugs []string) (now []tollkey.Permission, p tollkey.Propagation, err error) {
	needs := []string{"add_permission_to_key", "remove_permission_from_key"}
	p, err = s.changeKey(ctx, caller, id, needs, func(c *change, k *tollkey.Key) error {
		if now, err = c.grantPermissions(ctx, slugs); err != nil {
			return err
		}
		return c.linkKey(ctx, k, links{permissions: without(now, k.Permissions)}, links{permissions: without(k.Permissions, now)})
	})
	return now, p, err
}

// RemoveKeyPermissions takes permissions, which must exist, from a key and returns what it still has directly.
func (s *Service) RemoveKeyPermissions(ctx context.Context, caller Caller, id tollkey.KeyID, slugs []string) (now []tollkey.Permission, p tollkey.Propagation, err error) {
	p, err = s.changeKey(ctx, caller, id, []string{"remove_permission_from_key"}, func(c *change, k *tollkey.Key) error {
		gone, err := c.PermissionsBySlug(ctx, caller.Workspace, slugs)
		if err != nil {
			return err
		}
		if slug := absent(slugs, gone, func(p tollkey.Permission) string { return p.Slug }); slug != "" {
			return tollkey.NotFound(tollkey.ReasonPermissionNotFound, "There is no permission with the slug \""+slug+"\".")
		}
		now = without(k.Permissions, gone)
		return c.linkKey(ctx, k, links{}, links{permissions: without(k.Permissions, now)})
	})
	return now, p, err
}

// grantPermissions finds permissions, or makes them if the caller may.
func (c *change) grantPermissions(ctx context.Context, slugs []string) ([]tollkey.Permission, error) {
	all, created, err := c.putPermissions(ctx, slugs)
	if err == nil && created && !c.caller.Can("rbac", "*", "create_permission") {
		return nil, denied("rbac.*.create_permission") // and nothing was made
	}
	return all, err
}

// putPermissions finds or makes permissions.
func (c *change) putPermissions(ctx context.Context, slugs []string) (all []tollkey.Permission, anew bool, err error) {
	all, created, err := c.PutPermissions(ctx, c.caller.Workspace, slugs)
	for _, p := range created {
		c.record("permission.create", "Created a permission", permissionTarget(p), store.Announcement{})
	}
	return all, len(created) > 0, err
}

func permissionTarget(p tollkey.Permission) tollkey.AuditTarget {
	return tollkey.AuditTarget{Type: "permission", ID: string(p.ID), Name: p.Slug}
}

// without returns those of list that are not in others, in their order.
func without(list, others []tollkey.Permission) (out []tollkey.Permission) {
	known := make(map[tollkey.PermissionID]bool, len(others))
	for _, p := range others {
		known[p.ID] = true
	}
	for _, p := range list {
		if !known[p.ID] {
			out = append(out, p)
		}
	}
	return out
}

// absent returns a name that nothing found has, or "".
func absent[T any](names []string, found []T, nameOf func(T) string) string {
	have := make(map[string]bool, len(found))
	for _, f := range found {
		have[tollkey.Fold(nameOf(f))] = true
	}
	for _, name := range names {
		if !have[tollkey.Fold(name)] {
			return name
		}
	}
	return ""
}

// cut takes the row that begins the next page, read in addition, from a page and returns its id.
func cut[T any](list []T, limit int, id func(T) string) ([]T, string) {
	if len(list) <= limit {
		return list, ""
	}
	return list[:limit], id(list[limit])
}
