package httpapi

import (
	"context"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/control"
	"github.com/tollkey/tollkey/internal/store"
	"github.com/tollkey/tollkey/internal/wire"
)

// CreateRole implements wire.Handler.
func (s *server) CreateRole(ctx context.Context, in *wire.CreateRoleRequest) (*wire.CreateRoleResponse, error) {
	id, p, err := s.Control.CreateRole(ctx, callerOf(ctx), in.Name, in.Description.Or(""), in.Permissions)
	if err != nil {
		return nil, err
	}
	return &wire.CreateRoleResponse{Meta: s.changed(ctx, p), Data: wire.CreateRoleResponseData{RoleId: string(id)}}, nil
}

// GetRole implements wire.Handler.
func (s *server) GetRole(ctx context.Context, in *wire.RoleRequest) (*wire.GetRoleResponse, error) {
	r, err := s.Control.GetRole(ctx, callerOf(ctx), in.Role)
	if err != nil {
		return nil, err
	}
	return &wire.GetRoleResponse{Meta: s.meta(ctx), Data: roleOf(*r)}, nil
}

// ListRoles implements wire.Handler.
func (s *server) ListRoles(ctx context.Context, in *wire.ListRolesRequest) (*wire.ListRolesResponse, error) {
	list, next, err := s.Control.ListRoles(ctx, callerOf(ctx), in.Search.Or(""), store.Page{From: in.Cursor.Or(""), Limit: in.Limit.Or(100)})
	if err != nil {
		return nil, err
	}
	return &wire.ListRolesResponse{Meta: s.meta(ctx), Data: rolesOf(list), Pagination: pagination(next)}, nil
}

// DeleteRole implements wire.Handler.
func (s *server) DeleteRole(ctx context.Context, in *wire.RoleRequest) (*wire.EmptyResponse, error) {
	p, err := s.Control.DeleteRole(ctx, callerOf(ctx), in.Role)
	if err != nil {
		return nil, err
	}
	return &wire.EmptyResponse{Meta: s.changed(ctx, p)}, nil
}

// SetRolePermissions implements wire.Handler.
func (s *server) SetRolePermissions(ctx context.Context, in *wire.SetRolePermissionsRequest) (*wire.PermissionsResponse, error) {
	now, p, err := s.Control.SetRolePermissions(ctx, callerOf(ctx), tollkey.RoleID(in.RoleId), in.Permissions)
	if err != nil {
		return nil, err
	}
	return &wire.PermissionsResponse{Meta: s.changed(ctx, p), Data: permissionsOf(now)}, nil
}

// AddRoles implements wire.Handler.
func (s *server) AddRoles(ctx context.Context, in *wire.KeyRolesRequest) (*wire.RolesResponse, error) {
	return s.keyRoles(ctx, s.Control.AddKeyRoles, in.KeyId, in.Roles)
}

// SetRoles implements wire.Handler.
func (s *server) SetRoles(ctx context.Context, in *wire.SetKeyRolesRequest) (*wire.RolesResponse, error) {
	return s.keyRoles(ctx, s.Control.SetKeyRoles, in.KeyId, in.Roles)
}

// RemoveRoles implements wire.Handler.
func (s *server) RemoveRoles(ctx context.Context, in *wire.KeyRolesRequest) (*wire.RolesResponse, error) {
	return s.keyRoles(ctx, s.Control.RemoveKeyRoles, in.KeyId, in.Roles)
}

type changeRoles func(context.Context, control.Caller, tollkey.KeyID, []string) ([]tollkey.Role, tollkey.Propagation, error)

func (s *server) keyRoles(ctx context.Context, change changeRoles, key string, names []string) (*wire.RolesResponse, error) {
	now, p, err := change(ctx, callerOf(ctx), tollkey.KeyID(key), names)
	if err != nil {
		return nil, err
	}
	return &wire.RolesResponse{Meta: s.changed(ctx, p), Data: rolesOf(now)}, nil
}

func roleOf(r tollkey.Role) wire.Role {
	out := wire.Role{ID: string(r.ID), Name: r.Name, Description: optText(r.Description)}
	if len(r.Permissions) > 0 { // without any, the field is left out
		out.Permissions = permissionsOf(r.Permissions)
	}
	return out
}

// rolesOf never returns nil: an empty list is [].
func rolesOf(list []tollkey.Role) []wire.Role {
	out := make([]wire.Role, len(list))
	for i, r := range list {
		out[i] = roleOf(r)
	}
	return out
}
