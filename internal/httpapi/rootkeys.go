package httpapi

import (
	"context"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/control"
	"github.com/tollkey/tollkey/internal/store"
	"github.com/tollkey/tollkey/internal/wire"
)

// CreateRootKey implements wire.Handler.
func (s *server) CreateRootKey(ctx context.Context, in *wire.CreateRootKeyRequest) (*wire.CreateKeyResponse, error) {
	id, plain, p, err := s.Control.CreateRootKey(ctx, callerOf(ctx), in.Name.Or(""), in.Permissions, timeOf(in.Expires.Or(0)))
	if err != nil {
		return nil, err
	}
	return &wire.CreateKeyResponse{Meta: s.changed(ctx, p), Data: wire.CreateKeyResponseData{KeyId: string(id), Key: plain}}, nil
}

// ListRootKeys implements wire.Handler.
func (s *server) ListRootKeys(ctx context.Context, in *wire.ListRootKeysRequest) (*wire.ListRootKeysResponse, error) {
	keys, next, err := s.Control.ListRootKeys(ctx, callerOf(ctx), store.Page{From: in.Cursor.Or(""), Limit: in.Limit.Or(100)})
	if err != nil {
		return nil, err
	}
	out := &wire.ListRootKeysResponse{Meta: s.meta(ctx), Data: make([]wire.RootKeyData, len(keys)), Pagination: pagination(next)}
	for i := range keys {
		out.Data[i] = rootKeyOf(&keys[i])
	}
	return out, nil
}

// GetRootKey implements wire.Handler.
func (s *server) GetRootKey(ctx context.Context, in *wire.RootKeyRequest) (*wire.GetRootKeyResponse, error) {
	k, err := s.Control.GetRootKey(ctx, callerOf(ctx), tollkey.KeyID(in.KeyId))
	if err != nil {
		return nil, err
	}
	return &wire.GetRootKeyResponse{Meta: s.meta(ctx), Data: rootKeyOf(k)}, nil
}

// UpdateRootKey implements wire.Handler.
func (s *server) UpdateRootKey(ctx context.Context, in *wire.UpdateRootKeyRequest) (*wire.EmptyResponse, error) {
	change := control.RootKeyChange{
		Name:    control.Field[string]{Set: in.Name.Set, Null: in.Name.Null, Value: in.Name.Value},
		Expires: control.Field[time.Time]{Set: in.Expires.Set, Null: in.Expires.Null, Value: timeOf(in.Expires.Value)},
	}
	if in.Permissions != nil {
		change.Permissions = &in.Permissions
	}
	if in.Enabled.Set {
		change.Enabled = &in.Enabled.Value
	}
	p, err := s.Control.UpdateRootKey(ctx, callerOf(ctx), tollkey.KeyID(in.KeyId), change)
	if err != nil {
		return nil, err
	}
	return &wire.EmptyResponse{Meta: s.changed(ctx, p)}, nil
}

// RerollRootKey implements wire.Handler.
func (s *server) RerollRootKey(ctx context.Context, in *wire.RerollRootKeyRequest) (*wire.CreateKeyResponse, error) {
	id, plain, p, err := s.Control.RerollRootKey(ctx, callerOf(ctx), tollkey.KeyID(in.KeyId), time.Duration(in.Expiration)*time.Millisecond)
	if err != nil {
		return nil, err
	}
	return &wire.CreateKeyResponse{Meta: s.changed(ctx, p), Data: wire.CreateKeyResponseData{KeyId: string(id), Key: plain}}, nil
}

// DeleteRootKey implements wire.Handler.
func (s *server) DeleteRootKey(ctx context.Context, in *wire.RootKeyRequest) (*wire.EmptyResponse, error) {
	p, err := s.Control.DeleteRootKey(ctx, callerOf(ctx), tollkey.KeyID(in.KeyId))
	if err != nil {
		return nil, err
	}
	return &wire.EmptyResponse{Meta: s.changed(ctx, p)}, nil
}

func rootKeyOf(k *tollkey.RootKey) wire.RootKeyData {
	return wire.RootKeyData{
		KeyId: string(k.ID), Start: k.Start, Name: optText(k.Name), Permissions: k.Permissions, Enabled: k.Enabled,
		Expires: optTime(k.Expires), CreatedAt: k.CreatedAt.UnixMilli(), LastUsedAt: optTime(k.LastUsedAt),
	}
}

func pagination(next string) wire.Pagination {
	return wire.Pagination{HasMore: next != "", Cursor: optText(next)}
}
