package httpapi

import (
	"context"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/control"
	"github.com/tollkey/tollkey/internal/store"
	"github.com/tollkey/tollkey/internal/wire"
)

// CreateIdentity implements wire.Handler.
func (s *server) CreateIdentity(ctx context.Context, in *wire.CreateIdentityRequest) (*wire.CreateIdentityResponse, error) {
	meta, err := metaOf(in.Meta.Value)
	if err != nil {
		return nil, err
	}
	id, p, err := s.Control.CreateIdentity(ctx, callerOf(ctx), in.ExternalId, meta, rateLimitsOf(in.Ratelimits))
	if err != nil {
		return nil, err
	}
	return &wire.CreateIdentityResponse{Meta: s.changed(ctx, p), Data: wire.CreateIdentityResponseData{IdentityId: string(id)}}, nil
}

// GetIdentity implements wire.Handler.
func (s *server) GetIdentity(ctx context.Context, in *wire.IdentityRequest) (*wire.GetIdentityResponse, error) {
	i, err := s.Control.GetIdentity(ctx, callerOf(ctx), in.Identity)
	if err != nil {
		return nil, err
	}
	return &wire.GetIdentityResponse{Meta: s.meta(ctx), Data: identityOf(i)}, nil
}

// ListIdentities implements wire.Handler.
func (s *server) ListIdentities(ctx context.Context, in *wire.ListIdentitiesRequest) (*wire.ListIdentitiesResponse, error) {
	found, next, err := s.Control.ListIdentities(ctx, callerOf(ctx), in.Search.Or(""), store.Page{From: in.Cursor.Or(""), Limit: in.Limit.Or(100)})
	if err != nil {
		return nil, err
	}
	out := &wire.ListIdentitiesResponse{Meta: s.meta(ctx), Data: make([]wire.Identity, len(found)), Pagination: pagination(next)}
	for i := range found {
		out.Data[i] = identityOf(&found[i])
	}
	return out, nil
}

// UpdateIdentity implements wire.Handler. The answer shows the metadata of the request, as the contract has it.
func (s *server) UpdateIdentity(ctx context.Context, in *wire.UpdateIdentityRequest) (*wire.GetIdentityResponse, error) {
	var change control.IdentityChange
	if in.Meta.Set {
		meta, err := metaOf(in.Meta.Value)
		if err != nil {
			return nil, err
		}
		change.Meta = &meta
	}
	if in.Ratelimits != nil {
		limits := rateLimitsOf(in.Ratelimits)
		change.RateLimits = &limits
	}
	i, p, err := s.Control.UpdateIdentity(ctx, callerOf(ctx), in.Identity, change)
	if err != nil {
		return nil, err
	}
	shown := tollkey.Identity{ID: i.ID, ExternalID: i.ExternalID, RateLimits: i.RateLimits}
	if change.Meta != nil {
		shown.Meta = *change.Meta
	}
	return &wire.GetIdentityResponse{Meta: s.changed(ctx, p), Data: identityOf(&shown)}, nil
}

// DeleteIdentity implements wire.Handler.
func (s *server) DeleteIdentity(ctx context.Context, in *wire.IdentityRequest) (*wire.MetaResponse, error) {
	p, err := s.Control.DeleteIdentity(ctx, callerOf(ctx), in.Identity)
	if err != nil {
		return nil, err
	}
	return &wire.MetaResponse{Meta: s.changed(ctx, p)}, nil
}
