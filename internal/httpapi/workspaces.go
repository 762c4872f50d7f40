package httpapi

import (
	"context"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/control"
	"github.com/tollkey/tollkey/internal/store"
	"github.com/tollkey/tollkey/internal/wire"
)

// CreateWorkspace implements wire.Handler.
func (s *server) CreateWorkspace(ctx context.Context, in *wire.CreateWorkspaceRequest) (*wire.CreateWorkspaceResponse, error) {
	w, p, err := s.Control.CreateWorkspace(ctx, callerOf(ctx), in.Name, in.Slug.Or(""))
	if err != nil {
		return nil, err
	}
	return &wire.CreateWorkspaceResponse{Meta: s.changed(ctx, p), Data: wire.CreateWorkspaceResponseData{
		ID: string(w.ID), Name: w.Name, Slug: w.Slug, CreatedAt: w.CreatedAt.UnixMilli(),
		RootKey: wire.CreateWorkspaceResponseDataRootKey{KeyId: string(w.RootKey), Key: w.Secret},
	}}, nil
}

// ListWorkspaces implements wire.Handler.
func (s *server) ListWorkspaces(ctx context.Context, in *wire.ListWorkspacesRequest) (*wire.ListWorkspacesResponse, error) {
	found, next, err := s.Control.ListWorkspaces(ctx, callerOf(ctx), store.Page{From: in.Cursor.Or(""), Limit: in.Limit.Or(100)})
	if err != nil {
		return nil, err
	}
	out := &wire.ListWorkspacesResponse{Meta: s.meta(ctx), Data: make([]wire.Workspace, len(found)), Pagination: pagination(next)}
	for i := range found {
		out.Data[i] = workspaceOf(&found[i])
	}
	return out, nil
}

// GetWorkspace implements wire.Handler.
func (s *server) GetWorkspace(ctx context.Context, _ *wire.GetWorkspaceRequest) (*wire.WorkspaceResponse, error) {
	w, err := s.Control.GetWorkspace(ctx, callerOf(ctx))
	if err != nil {
		return nil, err
	}
	return &wire.WorkspaceResponse{Meta: s.meta(ctx), Data: workspaceOf(w)}, nil
}

// UpdateWorkspace implements wire.Handler.
func (s *server) UpdateWorkspace(ctx context.Context, in *wire.UpdateWorkspaceRequest) (*wire.WorkspaceResponse, error) {
	change := control.WorkspaceChange{
		RequestsPerMinute: control.Field[int64]{Set: in.RequestsPerMinute.Set, Null: in.RequestsPerMinute.Null, Value: in.RequestsPerMinute.Value},
		RetentionDays: control.Field[int]{
			Set: in.AnalyticsRetentionDays.Set, Null: in.AnalyticsRetentionDays.Null, Value: in.AnalyticsRetentionDays.Value,
		},
	}
	if in.Name.Set {
		change.Name = &in.Name.Value
	}
	w, p, err := s.Control.UpdateWorkspace(ctx, callerOf(ctx), tollkey.WorkspaceID(in.WorkspaceId.Or("")), change)
	if err != nil {
		return nil, err
	}
	return &wire.WorkspaceResponse{Meta: s.changed(ctx, p), Data: workspaceOf(w)}, nil
}

func workspaceOf(w *tollkey.Workspace) wire.Workspace {
	out := wire.Workspace{ID: string(w.ID), Name: w.Name, Slug: w.Slug, CreatedAt: w.CreatedAt.UnixMilli()}
	if w.RequestsPerMinute >= 0 {
		out.RequestsPerMinute = wire.NewOptInt64(w.RequestsPerMinute)
	}
	if w.RetentionDays > 0 {
		out.AnalyticsRetentionDays = wire.NewOptInt(w.RetentionDays)
	}
	return out
}
