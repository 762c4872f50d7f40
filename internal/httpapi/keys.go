package httpapi

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/go-faster/jx"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/control"
	"github.com/tollkey/tollkey/internal/wire"
)

// CreateKey implements wire.Handler.
func (s *server) CreateKey(ctx context.Context, in *wire.CreateKeyRequest) (*wire.CreateKeyResponse, error) {
	key := control.NewKey{
		API: tollkey.APIID(in.ApiId), Prefix: in.Prefix.Or(""), Name: in.Name.Or(""), ByteLength: in.ByteLength.Or(0),
		ExternalID: in.ExternalId.Or(""), Roles: in.Roles, Permissions: in.Permissions, Expires: timeOf(in.Expires.Or(0)),
		Enabled: in.Enabled.Or(true), Recoverable: in.Recoverable.Or(false),
	}
	meta, err := metaOf(in.Meta.Value)
	if err != nil {
		return nil, err
	}
	key.Meta = meta
	if credits, ok := in.Credits.Get(); ok {
		key.Credits = creditsOf(credits)
	}
	key.RateLimits = rateLimitsOf(in.Ratelimits)
	id, plain, p, err := s.Control.CreateKey(ctx, callerOf(ctx), key)
	if err != nil {
		return nil, err
	}
	return &wire.CreateKeyResponse{Meta: s.changed(ctx, p), Data: wire.CreateKeyResponseData{KeyId: string(id), Key: plain}}, nil
}

// GetKey implements wire.Handler.
func (s *server) GetKey(ctx context.Context, in *wire.GetKeyRequest) (*wire.GetKeyResponse, error) {
	k, plain, err := s.Control.GetKey(ctx, callerOf(ctx), tollkey.KeyID(in.KeyId), in.Decrypt.Or(false))
	if err != nil {
		return nil, err
	}
	return &wire.GetKeyResponse{Meta: s.meta(ctx), Data: keyOf(k, plain)}, nil
}

// DeleteKey implements wire.Handler.
func (s *server) DeleteKey(ctx context.Context, in *wire.DeleteKeyRequest) (*wire.EmptyResponse, error) {
	p, err := s.Control.DeleteKey(ctx, callerOf(ctx), tollkey.KeyID(in.KeyId), in.Permanent.Or(false))
	if err != nil {
		return nil, err
	}
	return &wire.EmptyResponse{Meta: s.changed(ctx, p)}, nil
}

// Whoami implements wire.Handler.
func (s *server) Whoami(ctx context.Context, in *wire.WhoamiRequest) (*wire.GetKeyResponse, error) {
	k, err := s.Control.WhoAmI(ctx, callerOf(ctx), in.Key)
	if err != nil {
		return nil, err
	}
	return &wire.GetKeyResponse{Meta: s.meta(ctx), Data: keyOf(k, "")}, nil
}

// UpdateCredits implements wire.Handler.
func (s *server) UpdateCredits(ctx context.Context, in *wire.UpdateCreditsRequest) (*wire.UpdateCreditsResponse, error) {
	change := control.CreditsChange{
		Operation: string(in.Operation), Value: control.Field[int64]{Set: in.Value.Set, Null: in.Value.Null, Value: in.Value.Value},
	}
	credits, p, err := s.Control.UpdateCredits(ctx, callerOf(ctx), tollkey.KeyID(in.KeyId), change)
	if err != nil {
		return nil, err
	}
	return &wire.UpdateCreditsResponse{Meta: s.changed(ctx, p), Data: creditsResponse(credits)}, nil
}

// RerollKey implements wire.Handler.
func (s *server) RerollKey(ctx context.Context, in *wire.RerollKeyRequest) (*wire.CreateKeyResponse, error) {
	id, plain, p, err := s.Control.RerollKey(ctx, callerOf(ctx), tollkey.KeyID(in.KeyId), time.Duration(in.Expiration)*time.Millisecond)
	if err != nil {
		return nil, err
	}
	return &wire.CreateKeyResponse{Meta: s.changed(ctx, p), Data: wire.CreateKeyResponseData{KeyId: string(id), Key: plain}}, nil
}

// keyOf shows a key; plain is its secret where that was asked for and can be had, or "".
func keyOf(k *tollkey.Key, plain string) wire.Key {
	out := wire.Key{
		KeyId: string(k.ID), Start: k.Start, Enabled: k.Enabled, CreatedAt: k.CreatedAt.UnixMilli(), UpdatedAt: optTime(k.UpdatedAt),
		Name: optText(k.Name), Meta: k.Meta, Expires: optTime(k.Expires), Ratelimits: limitsOf(k.RateLimits),
		LastUsedAt: optTime(k.LastUsedAt), Plaintext: optText(plain),
	}
	for _, p := range k.Permissions {
		out.Permissions = append(out.Permissions, p.Slug)
	}
	for _, r := range k.Roles {
		out.Roles = append(out.Roles, r.Name)
		for _, p := range r.Permissions {
			out.Permissions = append(out.Permissions, p.Slug)
		}
	}
	slices.Sort(out.Permissions)
	out.Permissions = slices.Compact(out.Permissions)
	if k.Credits.Remaining != nil {
		out.Credits = wire.NewOptCreditsResponse(creditsResponse(k.Credits))
	}
	if k.Identity != nil {
		out.Identity = wire.NewOptIdentity(identityOf(k.Identity))
	}
	return out
}

func creditsResponse(in tollkey.Credits) (out wire.CreditsResponse) {
	if in.Remaining == nil {
		out.Remaining.SetToNull()
	} else {
		out.Remaining.SetTo(*in.Remaining)
	}
	if r := in.Refill; r != nil {
		refill := wire.Refill{Interval: wire.RefillInterval(r.Interval), Amount: r.Amount}
		if r.Day > 0 {
			refill.RefillDay = wire.NewOptInt(r.Day)
		}
		out.Refill = wire.NewOptRefill(refill)
	}
	return out
}

func creditsOf(in wire.CreditsRequest) (c tollkey.Credits) {
	if !in.Remaining.Null {
		c.Remaining = &in.Remaining.Value
	}
	if r, ok := in.Refill.Get(); ok {
		refill := refillOf(r)
		c.Refill = &refill
	}
	return c
}

func refillOf(r wire.Refill) tollkey.Refill {
	return tollkey.Refill{Interval: tollkey.RefillInterval(r.Interval), Amount: r.Amount, Day: r.RefillDay.Or(0)}
}

func rateLimitsOf(in []wire.RatelimitRequest) []tollkey.RateLimit {
	out := make([]tollkey.RateLimit, len(in))
	for i, l := range in {
		out[i] = tollkey.RateLimit{Name: l.Name, Limit: l.Limit, Duration: time.Duration(l.Duration) * time.Millisecond, AutoApply: l.AutoApply}
	}
	return out
}

func identityOf(i *tollkey.Identity) wire.Identity {
	return wire.Identity{ID: string(i.ID), ExternalId: i.ExternalID, Meta: i.Meta, Ratelimits: limitsOf(i.RateLimits)}
}

func limitsOf(in []tollkey.RateLimit) (out []wire.RatelimitResponse) {
	for _, l := range in {
		out = append(out, wire.RatelimitResponse{ID: string(l.ID), Name: l.Name, Limit: l.Limit, Duration: l.Duration.Milliseconds(), AutoApply: l.AutoApply})
	}
	return out
}

// metaOf writes an object with its fields in order, so that equal ones are the same text; an empty one is none.
func metaOf(fields map[string]jx.Raw) ([]byte, error) {
	if len(fields) == 0 {
		return nil, nil
	}
	ordered := make(map[string]json.RawMessage, len(fields)) // the generated type marshals in the order of the map
	for name, value := range fields {
		ordered[name] = json.RawMessage(value)
	}
	return json.Marshal(ordered)
}

// timeOf reads a time; 0 is none.
func timeOf(millis int64) time.Time {
	if millis == 0 {
		return time.Time{}
	}
	return time.UnixMilli(millis)
}

func optTime(t time.Time) (o wire.OptInt64) {
	if !t.IsZero() {
		o.SetTo(t.UnixMilli())
	}
	return o
}

func optText(s string) (o wire.OptString) {
	if s != "" {
		o.SetTo(s)
	}
	return o
}
