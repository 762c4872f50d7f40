package httpapi

import (
	"context"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/wire"
)

// CreatePermission implements wire.Handler.
func (s *server) CreatePermission(ctx context.Context, in *wire.CreatePermissionRequest) (*wire.CreatePermissionResponse, error) {
	id, p, err := s.Control.CreatePermission(ctx, callerOf(ctx), tollkey.Permission{Name: in.Name, Slug: in.Slug, Description: in.Description.Or("")})
	if err != nil {
		return nil, err
	}
	return &wire.CreatePermissionResponse{Meta: s.changed(ctx, p), Data: wire.CreatePermissionResponseData{PermissionId: string(id)}}, nil
}

// CreateRole implements wire.Handler.
func (s *server) CreateRole(ctx context.Context, in *wire.CreateRoleRequest) (*wire.CreateRoleResponse, error) {
	id, p, err := s.Control.CreateRole(ctx, callerOf(ctx), in.Name, in.Description.Or(""), in.Permissions)
	if err != nil {
		return nil, err
	}
	return &wire.CreateRoleResponse{Meta: s.changed(ctx, p), Data: wire.CreateRoleResponseData{RoleId: string(id)}}, nil
}
