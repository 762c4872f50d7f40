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
	return &wire.GetApiResponse{Meta: s.meta(ctx), Data: apiOf(a)}, nil
}

// ListApis implements wire.Handler.
func (s *server) ListApis(ctx context.Context, in *wire.ListApisRequest) (*wire.ListApisResponse, error) {
	apis, next, err := s.Control.ListAPIs(ctx, callerOf(ctx), in.Search.Or(""), store.Page{From: in.Cursor.Or(""), Limit: in.Limit.Or(100)})
	if err != nil {
		return nil, err
	}
	out := &wire.ListApisResponse{Meta: s.meta(ctx), Data: make([]wire.API, len(apis)), Pagination: pagination(next)}
	for i := range apis {
		out.Data[i] = apiOf(&apis[i])
	}
	return out, nil
}

// UpdateApi implements wire.Handler.
func (s *server) UpdateApi(ctx context.Context, in *wire.UpdateApiRequest) (*wire.EmptyResponse, error) {
	u := store.APIUpdate{
		Name: given(in.Name), DeleteProtection: given(in.DeleteProtection), RecoverableKeys: given(in.RecoverableKeys),
	}
	if in.DefaultPrefix.Set {
		u.DefaultPrefix = &in.DefaultPrefix.Value // "" for null
	}
	if in.DefaultByteLength.Set {
		u.DefaultByteLength = &in.DefaultByteLength.Value // 0 for null
	}
	if in.IpAllowList != nil {
		u.IPAllowList = &in.IpAllowList
	}
	if f, ok := in.KeyFormat.Get(); ok {
		u.KeyFormat = (*tollkey.KeyFormat)(&f)
	}
	p, err := s.Control.UpdateAPI(ctx, callerOf(ctx), tollkey.APIID(in.ApiId), u)
	if err != nil {
		return nil, err
	}
	return &wire.EmptyResponse{Meta: s.changed(ctx, p)}, nil
}

// given is a pointer to an optional value, nil when it was omitted.
func given[T any](o interface{ Get() (T, bool) }) *T {
	if v, ok := o.Get(); ok {
		return &v
	}
	return nil
}

func apiOf(a *tollkey.API) wire.API {
	out := wire.API{
		ID: string(a.ID), Name: a.Name, KeyCount: a.KeyCount, DefaultPrefix: optText(a.DefaultPrefix), DeleteProtection: a.DeleteProtection,
		IpAllowList: append([]string{}, a.IPAllowList...), RecoverableKeys: a.RecoverableKeys, KeyFormat: string(a.KeyFormat),
		CreatedAt: a.CreatedAt.UnixMilli(),
	}
	if a.DefaultByteLength > 0 {
		out.DefaultByteLength = wire.NewOptInt(a.DefaultByteLength)
	}
	return out
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
	keys, plain, next, err := s.Control.ListKeys(ctx, callerOf(ctx), filter, store.Page{From: in.Cursor.Or(""), Limit: in.Limit.Or(100)}, in.Decrypt.Or(false))
	if err != nil {
		return nil, err
	}
	out := &wire.ListKeysResponse{Meta: s.meta(ctx), Data: make([]wire.Key, len(keys)), Pagination: pagination(next)}
	for i := range keys {
		out.Data[i] = keyOf(&keys[i], plain[keys[i].ID])
	}
	return out, nil
}
