package httpapi

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/control"
	"github.com/tollkey/tollkey/internal/verify"
	"github.com/tollkey/tollkey/internal/wire"
)

// VerifyKey implements wire.Handler.
func (s *server) VerifyKey(ctx context.Context, in *wire.VerifyKeyRequest) (*wire.VerifyKeyResponse, error) {
	caller := callerOf(ctx)
	q := verify.Question{
		Secret: in.Key, Permissions: in.Permissions.Or(""), Cost: 1, Tags: in.Tags, Migration: tollkey.MigrationID(in.MigrationId.Or("")),
	}
	if c, ok := in.Credits.Get(); ok {
		q.Cost = c.Cost
	}
	var err error
	if q.ClientIP, err = netip.ParseAddr(in.ClientIp.Or(caller.RemoteIP)); err != nil && in.ClientIp.Set {
		return nil, tollkey.Invalid("/clientIp", "This is no IP address.")
	}
	for i := range in.Ratelimits {
		l := &in.Ratelimits[i]
		r := verify.RateLimitQuestion{Name: l.Name, Cost: l.Cost.Or(1), Inline: l.Limit.Set && l.Duration.Set}
		if r.Inline {
			r.Limit, r.Duration = l.Limit.Value, time.Duration(l.Duration.Value)*time.Millisecond
			if r.Limit < 1 || r.Duration < time.Second {
				return nil, tollkey.Invalid("/ratelimits", "A limit given in the question must be at least 1, its duration at least 1000 ms.")
			}
		}
		q.RateLimits = append(q.RateLimits, r)
	}
	v, err := s.verify(ctx, caller, &q)
	if err != nil {
		return nil, err
	}
	ev := eventOf(ctx)
	ev.verified, ev.outcome, ev.frequent = true, v.Outcome, v.Outcome == tollkey.OutcomeValid
	if v.Subject != nil {
		ev.key = v.Subject.ID
	}
	return &wire.VerifyKeyResponse{Meta: s.meta(ctx), Data: verificationOf(&v)}, nil
}

// verify gives an imported key its native digest at its first use.
func (s *server) verify(ctx context.Context, caller control.Caller, q *verify.Question) (verify.Verification, error) {
	v, err := s.Verify.Verify(ctx, caller.Principal, q)
	var unhashed *verify.Unhashed
	if !errors.As(err, &unhashed) {
		return v, err
	}
	if _, err := s.Control.RehashKey(ctx, caller, unhashed.StandIn, unhashed.Digest, unhashed.Start); err != nil {
		return v, err
	}
	q.AsImported = true
	return s.Verify.Verify(ctx, caller.Principal, q)
}

func verificationOf(v *verify.Verification) wire.Verification {
	out := wire.Verification{Valid: v.Outcome == tollkey.OutcomeValid, Code: v.Outcome.String()}
	k := v.Subject
	if k == nil {
		return out
	}
	out.KeyId.SetTo(string(k.ID))
	out.Enabled.SetTo(k.Enabled)
	out.Name, out.Meta, out.Expires = optText(k.Name), k.Meta, optTime(k.Expires)
	out.Permissions, out.Roles = k.Permissions, k.Roles
	if _, limited := k.Remaining(); limited {
		out.Credits.SetTo(v.Remaining)
	}
	if k.Identity != nil {
		out.Identity.SetTo(identityOf(k.Identity))
	}
	for i := range v.RateLimits {
		l := &v.RateLimits[i]
		out.Ratelimits = append(out.Ratelimits, wire.LimitResult{
			ID: string(l.ID), Name: l.Name, Limit: l.Limit, Duration: l.Duration.Milliseconds(), Reset: l.Reset.UnixMilli(),
			Remaining: l.Remaining, Exceeded: l.Exceeded, AutoApply: l.AutoApply,
		})
	}
	return out
}
