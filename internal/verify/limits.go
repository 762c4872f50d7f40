package verify

import (
	"context"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/limit"
)

// checked is one limit that this question is held to.
type checked struct {
	rule
	cost int64
}

// checks lists the limits to take from: those that apply by themselves, at cost 1, and those that the question names. A name
// that is asked for twice counts once, as last asked. An inline limit hides a stored one of its name.
func (s *Subject) checks(q *Question) ([]checked, error) {
	if len(q.RateLimits) == 0 && len(s.rules) == 0 {
		return nil, nil
	}
	out := make([]checked, 0, len(s.rules)+len(q.RateLimits))
	for i := range s.rules {
		if s.rules[i].AutoApply {
			out = append(out, checked{s.rules[i], 1})
		}
	}
	for i := range q.RateLimits {
		c, err := s.asked(&q.RateLimits[i])
		if err != nil {
			return nil, err
		}
		out = put(out, c)
	}
	return out, nil
}

func (s *Subject) asked(r *RateLimitQuestion) (checked, error) {
	if r.Inline {
		inline := rule{RateLimit: tollkey.RateLimit{Name: r.Name, Limit: r.Limit, Duration: r.Duration}}
		inline.bucket = limit.BucketFor(string(s.Workspace), r.Name, string(s.ID), r.Duration)
		return checked{inline, r.Cost}, nil
	}
	stored := s.rule(r.Name)
	if stored == nil {
		return checked{}, tollkey.NewError(tollkey.CodePrecondition, tollkey.ReasonPrecondition,
			"Neither the key nor its identity has a rate limit named \""+r.Name+"\".")
	}
	return checked{*stored, r.Cost}, nil
}

func put(list []checked, c checked) []checked {
	for i := range list {
		if list[i].Name == c.Name {
			list[i] = c
			return list
		}
	}
	return append(list, c)
}

// take asks all limits at once and writes what they said into v.
func (e *Engine) take(ctx context.Context, checks []checked, v *Verification, now time.Time) (limit.Taken, bool, error) {
	if len(checks) == 0 {
		return limit.Taken{}, true, nil
	}
	requests := make([]limit.Request, len(checks))
	decisions := make([]limit.Decision, len(checks))
	for i := range checks {
		c := &checks[i]
		requests[i] = limit.Request{Bucket: c.bucket, Limit: c.Limit, Duration: c.Duration, Cost: c.cost}
	}
	taken, ok, err := e.limits.Take(ctx, now, requests, decisions)
	if err != nil {
		return taken, false, err
	}
	v.RateLimits = make([]LimitResult, len(checks))
	for i := range checks {
		v.RateLimits[i] = LimitResult{checks[i].RateLimit, decisions[i], checks[i].cost}
	}
	return taken, ok, nil
}
