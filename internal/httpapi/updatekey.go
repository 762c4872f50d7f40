package httpapi

import (
	"context"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/control"
	"github.com/tollkey/tollkey/internal/wire"
)

// UpdateKey implements wire.Handler.
func (s *server) UpdateKey(ctx context.Context, in *wire.UpdateKeyRequest) (*wire.EmptyResponse, error) {
	change := control.KeyChange{
		Name:       control.Field[string]{Set: in.Name.Set, Null: in.Name.Null, Value: in.Name.Value},
		ExternalID: control.Field[string]{Set: in.ExternalId.Set, Null: in.ExternalId.Null, Value: in.ExternalId.Value},
		Expires:    control.Field[time.Time]{Set: in.Expires.Set, Null: in.Expires.Null, Value: timeOf(in.Expires.Value)},
		Unlimited:  in.Credits.Set && in.Credits.Null,
		Meta:       control.Field[[]byte]{Set: in.Meta.Set, Null: in.Meta.Null},
	}
	var err error
	if change.Meta.Value, err = metaOf(in.Meta.Value); err != nil {
		return nil, err
	}
	if c, ok := in.Credits.Get(); ok {
		change.Remaining = control.Field[int64]{Set: c.Remaining.Set, Null: c.Remaining.Null, Value: c.Remaining.Value}
		change.Refill.Set, change.Refill.Null = c.Refill.Set, c.Refill.Null
		if r, ok := c.Refill.Get(); ok {
			change.Refill.Value = refillOf(r)
		}
	}
	if in.Enabled.Set {
		change.Enabled = &in.Enabled.Value
	}
	if in.Ratelimits != nil {
		limits := rateLimitsOf(in.Ratelimits)
		change.RateLimits = &limits
	}
	if in.Roles != nil {
		change.Roles = &in.Roles
	}
	if in.Permissions != nil {
		change.Permissions = &in.Permissions
	}
	p, err := s.Control.UpdateKey(ctx, callerOf(ctx), tollkey.KeyID(in.KeyId), change)
	if err != nil {
		return nil, err
	}
	return &wire.EmptyResponse{Meta: s.changed(ctx, p)}, nil
}
