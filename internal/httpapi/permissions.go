package httpapi

import (
	"context"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/control"
	"github.com/tollkey/tollkey/internal/store"
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

// GetPermission implements wire.Handler.
func (s *server) GetPermission(ctx context.Context, in *wire.PermissionRequest) (*wire.GetPermissionResponse, error) {
	p, err := s.Control.GetPermission(ctx, callerOf(ctx), in.Permission)
	if err != nil {
		return nil, err
	}
	return &wire.GetPermissionResponse{Meta: s.meta(ctx), Data: permissionOf(*p)}, nil
}

// ListPermissions implements wire.Handler.
func (s *server) ListPermissions(ctx context.Context, in *wire.ListPermissionsRequest) (*wire.ListPermissionsResponse, error) {
	list, next, err := s.Control.ListPermissions(ctx, callerOf(ctx), in.Search.Or(""), store.Page{From: in.Cursor.Or(""), Limit: in.Limit.Or(100)})
	if err != nil {
		return nil, err
	}
	return &wire.ListPermissionsResponse{Meta: s.meta(ctx), Data: permissionsOf(list), Pagination: pagination(next)}, nil
}

// DeletePermission implements wire.Handler.
func (s *server) DeletePermission(ctx context.Context, in *wire.PermissionRequest) (*wire.EmptyResponse, error) {
	p, err := s.Control.DeletePermission(ctx, callerOf(ctx), in.Permission)
	if err != nil {
		return nil, err
	}
	return &wire.EmptyResponse{Meta: s.changed(ctx, p)}, nil
}

// AddPermissions implements wire.Handler.
func (s *server) AddPermissions(ctx context.Context, in *wire.KeyPermissionsRequest) (*wire.PermissionsResponse, error) {
	return s.keyPermissions(ctx, s.Control.AddKeyPermissions, in.KeyId, in.Permissions)
}

// SetPermissions implements wire.Handler.
func (s *server) SetPermissions(ctx context.Context, in *wire.SetKeyPermissionsRequest) (*wire.PermissionsResponse, error) {
	return s.keyPermissions(ctx, s.Control.SetKeyPermissions, in.KeyId, in.Permissions)
}

// RemovePermissions implements wire.Handler.
func (s *server) RemovePermissions(ctx context.Context, in *wire.KeyPermissionsRequest) (*wire.PermissionsResponse, error) {
	return s.keyPermissions(ctx, s.Control.RemoveKeyPermissions, in.KeyId, in.Permissions)
}

type changePermissions func(context.Context, control.Caller, tollkey.KeyID, []string) ([]tollkey.Permission, tollkey.Propagation, error)

func (s *server) keyPermissions(ctx context.Context, change changePermissions, key string, slugs []string) (*wire.PermissionsResponse, error) {
	now, p, err := change(ctx, callerOf(ctx), tollkey.KeyID(key), slugs)
	if err != nil {
		return nil, err
	}
	return &wire.PermissionsResponse{Meta: s.changed(ctx, p), Data: permissionsOf(now)}, nil
}

func permissionOf(p tollkey.Permission) wire.Permission {
	return wire.Permission{ID: string(p.ID), Name: p.Name, Slug: p.Slug, Description: optText(p.Description)}
}

// permissionsOf never returns nil: an empty list is [].
func permissionsOf(list []tollkey.Permission) []wire.Permission {
	out := make([]wire.Permission, len(list))
	for i, p := range list {
		out[i] = permissionOf(p)
	}
	return out
}
