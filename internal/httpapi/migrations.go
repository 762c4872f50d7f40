package httpapi

import (
	"context"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/control"
	"github.com/tollkey/tollkey/internal/store"
	"github.com/tollkey/tollkey/internal/wire"
)

// CreateMigration implements wire.Handler.
func (s *server) CreateMigration(ctx context.Context, in *wire.CreateMigrationRequest) (*wire.CreateMigrationResponse, error) {
	m := tollkey.Migration{Name: in.Name.Or(""), Algorithm: tollkey.Algorithm(in.Algorithm)}
	if l, ok := in.Lookup.Get(); ok {
		m.Lookup = tollkey.Lookup{Separator: l.Separator, Part: l.Part}
	}
	id, p, err := s.Control.CreateMigration(ctx, callerOf(ctx), m)
	if err != nil {
		return nil, err
	}
	return &wire.CreateMigrationResponse{Meta: s.changed(ctx, p), Data: wire.CreateMigrationResponseData{MigrationId: string(id)}}, nil
}

// ListMigrations implements wire.Handler.
func (s *server) ListMigrations(ctx context.Context, in *wire.ListMigrationsRequest) (*wire.ListMigrationsResponse, error) {
	found, next, err := s.Control.ListMigrations(ctx, callerOf(ctx), store.Page{From: in.Cursor.Or(""), Limit: in.Limit.Or(100)})
	if err != nil {
		return nil, err
	}
	out := &wire.ListMigrationsResponse{Meta: s.meta(ctx), Data: make([]wire.Migration, len(found)), Pagination: pagination(next)}
	for i := range found {
		m := &found[i]
		out.Data[i] = wire.Migration{ID: string(m.ID), Name: optText(m.Name), Algorithm: wire.MigrationAlgorithm(m.Algorithm), CreatedAt: m.CreatedAt.UnixMilli()}
		if m.Lookup.Separator != "" {
			out.Data[i].Lookup.SetTo(wire.MigrationLookup{Separator: m.Lookup.Separator, Part: m.Lookup.Part})
		}
	}
	return out, nil
}

// DeleteMigration implements wire.Handler.
func (s *server) DeleteMigration(ctx context.Context, in *wire.MigrationRequest) (*wire.EmptyResponse, error) {
	p, err := s.Control.DeleteMigration(ctx, callerOf(ctx), tollkey.MigrationID(in.MigrationId))
	if err != nil {
		return nil, err
	}
	return &wire.EmptyResponse{Meta: s.changed(ctx, p)}, nil
}

// MigrateKeys implements wire.Handler.
func (s *server) MigrateKeys(ctx context.Context, in *wire.MigrateKeysRequest) (*wire.MigrateKeysResponse, error) {
	keys := make([]control.ImportKey, len(in.Keys))
	for i := range in.Keys {
		var err error
		if keys[i], err = importOf(&in.Keys[i]); err != nil {
			return nil, err
		}
	}
	done, failed, p, err := s.Control.MigrateKeys(ctx, callerOf(ctx), tollkey.APIID(in.ApiId), tollkey.MigrationID(in.MigrationId), keys)
	if err != nil {
		return nil, err
	}
	out := &wire.MigrateKeysResponse{Meta: s.changed(ctx, p), Data: wire.MigrateKeysResponseData{
		Migrated: make([]wire.MigratedKey, len(done)), Failed: append([]string{}, failed...), // never null
	}}
	for i := range done {
		out.Data.Migrated[i] = wire.MigratedKey{Hash: done[i].Hash, KeyId: string(done[i].Key)}
	}
	return out, nil
}

func importOf(in *wire.MigrateKey) (control.ImportKey, error) {
	key := control.ImportKey{Hash: in.Hash, Lookup: in.Lookup.Or(""), Start: in.Start.Or(""), NewKey: control.NewKey{
		Name: in.Name.Or(""), ExternalID: in.ExternalId.Or(""), Roles: in.Roles, Permissions: in.Permissions, Expires: timeOf(in.Expires.Or(0)),
		Enabled: in.Enabled.Or(true), RateLimits: rateLimitsOf(in.Ratelimits),
	}}
	if credits, ok := in.Credits.Get(); ok {
		key.Credits = creditsOf(credits)
	}
	var err error
	key.Meta, err = metaOf(in.Meta.Value)
	return key, err
}
