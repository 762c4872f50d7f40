package control

import (
	"context"

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
		c.record("permission.create", "Created a permission",
			tollkey.AuditTarget{Type: "permission", ID: string(p.ID), Name: p.Slug}, store.Announcement{Cells: []string{string(p.ID)}})
		return c.Tx.CreatePermission(ctx, caller.Workspace, &p)
	})
	return p.ID, done, err
}

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
		permissions, created, err := c.PutPermissions(ctx, caller.Workspace, slugs)
		if err != nil {
			return err
		}
		if len(created) > 0 && !caller.Can("rbac", "*", "create_permission") {
			return denied("rbac.*.create_permission") // and nothing was made
		}
		role := tollkey.AuditTarget{Type: "role", ID: string(id), Name: name}
		c.record("role.create", "Created a role", role, store.Announcement{Cells: []string{string(id)}})
		for _, p := range created {
			c.record("permission.create", "Created a permission", tollkey.AuditTarget{Type: "permission", ID: string(p.ID), Name: p.Slug}, store.Announcement{})
		}
		for range permissions {
			c.record("authorization.connect_role_and_permission", "Added a permission to a role", role, store.Announcement{})
		}
		return c.Tx.CreateRole(ctx, caller.Workspace, &tollkey.Role{ID: id, Name: name, Description: description, Permissions: permissions})
	})
	return id, done, err
}
