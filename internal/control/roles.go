package control

import (
	"context"
	"slices"
	"strings"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// CreateRole makes a role with permissions, which are made where they do not exist.
func (s *Service) CreateRole(ctx context.Context, caller Caller, name, description string, slugs []string) (tollkey.RoleID, tollkey.Propagation, error) {
	if !caller.Can("rbac", "*", "create_role") {
		return "", tollkey.Propagation{}, denied("rbac.*.create_role")
	}
	if len(slugs) > 0 && !caller.Can("rbac", "*", "add_permission_to_role") {
		return "", tollkey.Propagation{}, denied("rbac.*.add_permission_to_role")
	}
	id := tollkey.RoleID(tollkey.NewID("role", s.now()))
	done, err := s.mutate(ctx, caller, func(c *change) error {
		permissions, err := c.grantPermissions(ctx, slugs)
		if err != nil {
			return err
		}
		role := tollkey.Role{ID: id, Name: name, Description: description, Permissions: permissions}
		c.record("role.create", "Created a role", roleTarget(role), store.Announcement{Cells: []string{string(id)}})
		for _, p := range permissions {
			c.audit("authorization.connect_role_and_permission", "Added a permission to a role", roleTarget(role), permissionTarget(p))
		}
		return c.Tx.CreateRole(ctx, caller.Workspace, &role)
	})
	return id, done, err
}

// GetRole reads a role by its id or name.
func (s *Service) GetRole(ctx context.Context, caller Caller, ref string) (role *tollkey.Role, err error) {
	if !caller.Can("rbac", "*", "read_role") {
		return nil, denied("rbac.*.read_role")
	}
	err = s.store.View(ctx, func(r store.Reader) error {
		role, err = r.Role(ctx, caller.Workspace, ref)
		return err
	})
	return role, err
}

// ListRoles returns one page of those in which search occurs, and the cursor of the next, "" on the last.
func (s *Service) ListRoles(ctx context.Context, caller Caller, search string, page store.Page) (list []tollkey.Role, next string, err error) {
	if !caller.Can("rbac", "*", "read_role") {
		return nil, "", denied("rbac.*.read_role")
	}
	err = s.store.View(ctx, func(r store.Reader) error {
		list, err = r.ListRoles(ctx, caller.Workspace, strings.TrimSpace(search), store.Page{From: page.From, Limit: page.Limit + 1})
		return err
	})
	list, next = cut(list, page.Limit, func(r tollkey.Role) string { return string(r.ID) })
	return list, next, err
}

// DeleteRole takes a role, named by its id or name, from every key that has it.
func (s *Service) DeleteRole(ctx context.Context, caller Caller, ref string) (tollkey.Propagation, error) {
	if !caller.Can("rbac", "*", "delete_role") {
		return tollkey.Propagation{}, denied("rbac.*.delete_role")
	}
	return s.mutate(ctx, caller, func(c *change) error {
		role, err := c.Tx.DeleteRole(ctx, caller.Workspace, ref)
		if err != nil {
			return err
		}
		c.record("role.delete", "Deleted a role", roleTarget(*role), store.Announcement{Cells: []string{string(role.ID)}})
		return nil
	})
}

// SetRolePermissions makes the permissions of a role exactly these, which are made where they do not exist, and returns them in the order of the slugs
// given. Every key with the role depends on its cell: one mark reaches all of them.
func (s *Service) SetRolePermissions(ctx context.Context, caller Caller, id tollkey.RoleID, slugs []string) (now []tollkey.Permission, p tollkey.Propagation, err error) {
	for _, action := range []string{"add_permission_to_role", "remove_permission_from_role"} {
		if !caller.Can("rbac", "*", action) {
			return nil, p, denied("rbac.*." + action)
		}
	}
	p, err = s.mutate(ctx, caller, func(c *change) error {
		role, err := c.LockRole(ctx, caller.Workspace, id)
		if err != nil {
			return err
		}
		if now, err = c.grantPermissions(ctx, slugs); err != nil {
			return err
		}
		add, remove := without(now, role.Permissions), without(role.Permissions, now)
		if len(add)+len(remove) == 0 {
			return nil
		}
		for _, p := range add {
			c.audit("authorization.connect_role_and_permission", "Added a permission to a role", roleTarget(*role), permissionTarget(p))
		}
		for _, p := range remove {
			c.audit("authorization.disconnect_role_and_permissions", "Took a permission from a role", roleTarget(*role), permissionTarget(p))
		}
		c.Announce(store.Announcement{Cells: []string{string(id)}})
		return c.ChangeRolePermissions(ctx, id, permissionIDs(add), permissionIDs(remove))
	})
	sortAsGiven(now, slugs)
	return now, p, err
}

// sortAsGiven orders permissions by the spelling of their slugs in slugs.
func sortAsGiven(list []tollkey.Permission, slugs []string) {
	given := make(map[string]string, len(slugs))
	for _, slug := range slices.Backward(slugs) {
		given[tollkey.Fold(slug)] = slug // of several spellings the first counts
	}
	slices.SortFunc(list, func(a, b tollkey.Permission) int {
		return strings.Compare(given[tollkey.Fold(a.Slug)], given[tollkey.Fold(b.Slug)])
	})
}

// AddKeyRoles gives a key roles, which must exist, and returns all that it then has.
func (s *Service) AddKeyRoles(ctx context.Context, caller Caller, id tollkey.KeyID, names []string) ([]tollkey.Role, tollkey.Propagation, error) {
	return s.changeKeyRoles(ctx, caller, id, []string{"add_role_to_key"}, names, func(has, named []tollkey.Role) []tollkey.Role {
		return slices.Concat(has, withoutRoles(named, has))
	})
}

// SetKeyRoles makes the roles of a key exactly these, which must exist, and returns them.
func (s *Service) SetKeyRoles(ctx context.Context, caller Caller, id tollkey.KeyID, names []string) ([]tollkey.Role, tollkey.Propagation, error) {
	return s.changeKeyRoles(ctx, caller, id, nil, names, func(_, named []tollkey.Role) []tollkey.Role { return named })
}

// RemoveKeyRoles takes roles, which must exist, from a key and returns what it still has.
func (s *Service) RemoveKeyRoles(ctx context.Context, caller Caller, id tollkey.KeyID, names []string) ([]tollkey.Role, tollkey.Propagation, error) {
	return s.changeKeyRoles(ctx, caller, id, nil, names, withoutRoles)
}

// changeKeyRoles gives a key the roles that next makes of those it has and those named.
func (s *Service) changeKeyRoles(
	ctx context.Context, caller Caller, id tollkey.KeyID, needs, names []string, next func(has, named []tollkey.Role) []tollkey.Role,
) (now []tollkey.Role, p tollkey.Propagation, err error) {
	p, err = s.changeKey(ctx, caller, id, needs, func(c *change, k *tollkey.Key) error {
		named, err := c.roles(ctx, caller.Workspace, names)
		if err != nil {
			return err
		}
		now = next(k.Roles, named)
		return c.linkKey(ctx, k, links{roles: withoutRoles(now, k.Roles)}, links{roles: withoutRoles(k.Roles, now)})
	})
	slices.SortFunc(now, func(a, b tollkey.Role) int { return strings.Compare(a.Name, b.Name) })
	return now, p, err
}

// roles finds roles that must all exist.
func (c *change) roles(ctx context.Context, ws tollkey.WorkspaceID, names []string) ([]tollkey.Role, error) {
	found, err := c.RolesByName(ctx, ws, names)
	if err != nil {
		return nil, err
	}
	if name := absent(names, found, func(r tollkey.Role) string { return r.Name }); name != "" {
		return nil, tollkey.NotFound(tollkey.ReasonRoleNotFound, "There is no role named \""+name+"\".")
	}
	return found, nil
}

func roleTarget(r tollkey.Role) tollkey.AuditTarget {
	return tollkey.AuditTarget{Type: "role", ID: string(r.ID), Name: r.Name}
}

// withoutRoles returns those of list that are not in others, in their order.
func withoutRoles(list, others []tollkey.Role) (out []tollkey.Role) {
	for _, r := range list {
		if !slices.ContainsFunc(others, func(o tollkey.Role) bool { return o.ID == r.ID }) {
			out = append(out, r)
		}
	}
	return out
}
