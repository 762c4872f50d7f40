package httpapi

import (
	"context"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
	"github.com/tollkey/tollkey/internal/wire"
)

// CreateApi implements wire.Handler.
func (s *server) CreateApi(ctx context.Context, in *wire.CreateApiRequest) (*wire.CreateApiResponse, error) {
	id, p, err := s.Control.CreateAPI(ctx, callerOf(ctx), in.Name)
	if err != nil {
		return nil, err
	}
	return &wire.CreateApiResponse{Meta: s.changed(ctx, p), Data: wire.CreateApiResponseData{ApiId: string(id)}}, nil
}

// GetApi implements wire.Handler.
func (s *server) GetApi(ctx context.Context, in *wire.ApiRequest) (*wire.GetApiResponse, error) {
	a, err := s.Control.GetAPI(ctx, callerOf(ctx), tollkey.APIID(in.ApiId))
	if err != nil {
		return nil, err
	}
	return &wire.GetApiResponse{Meta: s.meta(ctx), Data: wire.GetApiResponseData{ID: string(a.ID), Name: a.Name}}, nil
}

// DeleteApi implements wire.Handler.
func (s *server) DeleteApi(ctx context.Context, in *wire.ApiRequest) (*wire.EmptyResponse, error) {
	p, err := s.Control.DeleteAPI(ctx, callerOf(ctx), tollkey.APIID(in.ApiId))
	if err != nil {
		return nil, err
	}
	return &wire.EmptyResponse{Meta: s.changed(ctx, p)}, nil
}

// ListKeys implements wire.Handler.
func (s *server) ListKeys(ctx context.Context, in *wire.ListKeysRequest) (*wire.ListKeysResponse, error) {
	filter := store.KeyFilter{API: tollkey.APIID(in.ApiId), ExternalID: in.ExternalId.Or("")}
	keys, next, err := s.Control.ListKeys(ctx, callerOf(ctx), filter, store.Page{From: in.Cursor.Or(""), Limit: in.Limit.Or(100)}, in.Decrypt.Or(false))
	if err != nil {
		return nil, err
	}
	out := &wire.ListKeysResponse{Meta: s.meta(ctx), Data: make([]wire.Key, len(keys)), Pagination: pagination(next)}
	for i := range keys {
		out.Data[i] = keyOf(&keys[i])
	}
	return out, nil
}
