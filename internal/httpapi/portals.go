package httpapi

import (
	"context"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/control"
	"github.com/tollkey/tollkey/internal/store"
	"github.com/tollkey/tollkey/internal/wire"
)

// CreatePortal implements wire.Handler.
func (s *server) CreatePortal(ctx context.Context, in *wire.CreatePortalRequest) (*wire.CreatePortalResponse, error) {
	id, p, err := s.Control.CreatePortal(ctx, callerOf(ctx), tollkey.Portal{
		Slug: in.Slug, Name: in.Name, APIs: apiIDs(in.ApiIds), PrimaryColor: in.PrimaryColor.Or(""), LogoURL: in.LogoUrl.Or(""), ReturnURL: in.ReturnUrl.Or(""),
	})
	if err != nil {
		return nil, err
	}
	return &wire.CreatePortalResponse{Meta: s.changed(ctx, p), Data: wire.CreatePortalResponseData{PortalId: string(id)}}, nil
}

func apiIDs(in []string) []tollkey.APIID {
	out := make([]tollkey.APIID, len(in))
	for i, id := range in {
		out[i] = tollkey.APIID(id)
	}
	return out
}

// GetPortal implements wire.Handler.
func (s *server) GetPortal(ctx context.Context, in *wire.PortalRequest) (*wire.GetPortalResponse, error) {
	p, err := s.Control.GetPortal(ctx, callerOf(ctx), in.Portal)
	if err != nil {
		return nil, err
	}
	return &wire.GetPortalResponse{Meta: s.meta(ctx), Data: portalOf(p)}, nil
}

// ListPortals implements wire.Handler.
func (s *server) ListPortals(ctx context.Context, in *wire.ListPortalsRequest) (*wire.ListPortalsResponse, error) {
	found, next, err := s.Control.ListPortals(ctx, callerOf(ctx), store.Page{From: in.Cursor.Or(""), Limit: in.Limit.Or(100)})
	if err != nil {
		return nil, err
	}
	out := &wire.ListPortalsResponse{Meta: s.meta(ctx), Data: make([]wire.Portal, len(found)), Pagination: pagination(next)}
	for i := range found {
		out.Data[i] = portalOf(&found[i])
	}
	return out, nil
}

// UpdatePortal implements wire.Handler.
func (s *server) UpdatePortal(ctx context.Context, in *wire.UpdatePortalRequest) (*wire.EmptyResponse, error) {
	text := func(o wire.OptNilString) control.Field[string] {
		return control.Field[string]{Set: o.Set, Null: o.Null, Value: o.Value}
	}
	change := control.PortalChange{PrimaryColor: text(in.PrimaryColor), LogoURL: text(in.LogoUrl), ReturnURL: text(in.ReturnUrl)}
	if in.Slug.Set {
		change.Slug = &in.Slug.Value
	}
	if in.Name.Set {
		change.Name = &in.Name.Value
	}
	if in.Enabled.Set {
		change.Enabled = &in.Enabled.Value
	}
	if in.ApiIds != nil {
		ids := apiIDs(in.ApiIds)
		change.APIs = &ids
	}
	p, err := s.Control.UpdatePortal(ctx, callerOf(ctx), in.Portal, change)
	if err != nil {
		return nil, err
	}
	return &wire.EmptyResponse{Meta: s.changed(ctx, p)}, nil
}

// DeletePortal implements wire.Handler.
func (s *server) DeletePortal(ctx context.Context, in *wire.PortalRequest) (*wire.EmptyResponse, error) {
	p, err := s.Control.DeletePortal(ctx, callerOf(ctx), in.Portal)
	if err != nil {
		return nil, err
	}
	return &wire.EmptyResponse{Meta: s.changed(ctx, p)}, nil
}

func portalOf(p *tollkey.Portal) wire.Portal {
	out := wire.Portal{
		ID: string(p.ID), Slug: p.Slug, Name: p.Name, ApiIds: make([]string, len(p.APIs)), PrimaryColor: optText(p.PrimaryColor), LogoUrl: optText(p.LogoURL),
		ReturnUrl: optText(p.ReturnURL), Enabled: p.Enabled, CreatedAt: p.CreatedAt.UnixMilli(),
	}
	for i, id := range p.APIs {
		out.ApiIds[i] = string(id)
	}
	return out
}
