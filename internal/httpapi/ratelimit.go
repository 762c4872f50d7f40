package httpapi

import (
	"context"
	"errors"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
	"github.com/tollkey/tollkey/internal/verify"
	"github.com/tollkey/tollkey/internal/wire"
)

// Limit implements wire.Handler.
func (s *server) Limit(ctx context.Context, in *wire.LimitRequest) (*wire.LimitResponse, error) {
	a, err := orCreate(ctx, s, func() (verify.LimitAnswer, error) {
		return s.Verify.Limit(ctx, callerOf(ctx).Principal, limitQuestion(in))
	})
	if err != nil {
		return nil, err
	}
	eventOf(ctx).frequent = !a.Exceeded
	return &wire.LimitResponse{Meta: s.meta(ctx), Data: wire.LimitResponseData{
		Success: !a.Exceeded, Limit: a.Limit, Remaining: a.Remaining, Reset: a.Reset.UnixMilli(), OverrideId: optText(string(a.Override)),
	}}, nil
}

// MultiLimit implements wire.Handler.
func (s *server) MultiLimit(ctx context.Context, in wire.MultiLimitRequest) (*wire.MultiLimitResponse, error) {
	questions := make([]verify.LimitQuestion, len(in))
	for i := range in {
		questions[i] = limitQuestion(&in[i])
	}
	answers, err := orCreate(ctx, s, func() ([]verify.LimitAnswer, error) {
		return s.Verify.MultiLimit(ctx, callerOf(ctx).Principal, questions)
	})
	if err != nil {
		return nil, err
	}
	out := &wire.MultiLimitResponse{Meta: s.meta(ctx), Data: wire.MultiLimitResponseData{Passed: true, Limits: make([]wire.MultiLimitResult, len(in))}}
	for i := range answers {
		a := &answers[i]
		out.Data.Passed = out.Data.Passed && !a.Exceeded
		out.Data.Limits[i] = wire.MultiLimitResult{
			Namespace: in[i].Namespace, Identifier: in[i].Identifier, Passed: !a.Exceeded, Limit: a.Limit, Remaining: a.Remaining, Reset: a.Reset.UnixMilli(),
			OverrideId: optText(string(a.Override)),
		}
	}
	eventOf(ctx).frequent = out.Data.Passed
	return out, nil
}

func limitQuestion(in *wire.LimitRequest) verify.LimitQuestion {
	return verify.LimitQuestion{
		Namespace: in.Namespace, Identifier: in.Identifier, Limit: in.Limit, Duration: time.Duration(in.Duration) * time.Millisecond, Cost: in.Cost.Or(1),
	}
}

// orCreate asks again when the namespaces that do not exist are made.
func orCreate[T any](ctx context.Context, s *server, ask func() (T, error)) (T, error) {
	answer, err := ask()
	var unknown *verify.UnknownNamespaces
	if !errors.As(err, &unknown) {
		return answer, err
	}
	if _, err := s.Control.CreateNamespaces(ctx, callerOf(ctx), unknown.Names); err != nil {
		return answer, err
	}
	return ask()
}

// SetOverride implements wire.Handler.
func (s *server) SetOverride(ctx context.Context, in *wire.SetOverrideRequest) (*wire.SetOverrideResponse, error) {
	o := tollkey.Override{Identifier: in.Identifier, Limit: in.Limit, Duration: time.Duration(in.Duration) * time.Millisecond}
	id, p, err := s.Control.SetOverride(ctx, callerOf(ctx), in.Namespace, o)
	if err != nil {
		return nil, err
	}
	return &wire.SetOverrideResponse{Meta: s.changed(ctx, p), Data: wire.SetOverrideResponseData{OverrideId: string(id)}}, nil
}

// GetOverride implements wire.Handler.
func (s *server) GetOverride(ctx context.Context, in *wire.OverrideRequest) (*wire.GetOverrideResponse, error) {
	o, err := s.Control.GetOverride(ctx, callerOf(ctx), in.Namespace, in.Identifier)
	if err != nil {
		return nil, err
	}
	return &wire.GetOverrideResponse{Meta: s.meta(ctx), Data: overrideOf(o)}, nil
}

// ListOverrides implements wire.Handler.
func (s *server) ListOverrides(ctx context.Context, in *wire.ListOverridesRequest) (*wire.ListOverridesResponse, error) {
	found, next, err := s.Control.ListOverrides(ctx, callerOf(ctx), in.Namespace, store.Page{From: in.Cursor.Or(""), Limit: in.Limit.Or(10)})
	if err != nil {
		return nil, err
	}
	out := &wire.ListOverridesResponse{Meta: s.meta(ctx), Data: make([]wire.Override, len(found)), Pagination: pagination(next)}
	for i := range found {
		out.Data[i] = overrideOf(&found[i])
	}
	return out, nil
}

// DeleteOverride implements wire.Handler.
func (s *server) DeleteOverride(ctx context.Context, in *wire.OverrideRequest) (*wire.EmptyResponse, error) {
	p, err := s.Control.DeleteOverride(ctx, callerOf(ctx), in.Namespace, in.Identifier)
	if err != nil {
		return nil, err
	}
	return &wire.EmptyResponse{Meta: s.changed(ctx, p)}, nil
}

// ListNamespaces implements wire.Handler.
func (s *server) ListNamespaces(ctx context.Context, in *wire.ListNamespacesRequest) (*wire.ListNamespacesResponse, error) {
	found, next, err := s.Control.ListNamespaces(ctx, callerOf(ctx), store.Page{From: in.Cursor.Or(""), Limit: in.Limit.Or(100)})
	if err != nil {
		return nil, err
	}
	out := &wire.ListNamespacesResponse{Meta: s.meta(ctx), Data: make([]wire.Namespace, len(found)), Pagination: pagination(next)}
	for i := range found {
		out.Data[i] = wire.Namespace{ID: string(found[i].ID), Name: found[i].Name, CreatedAt: found[i].CreatedAt.UnixMilli()}
	}
	return out, nil
}

// DeleteNamespace implements wire.Handler.
func (s *server) DeleteNamespace(ctx context.Context, in *wire.DeleteNamespaceRequest) (*wire.EmptyResponse, error) {
	p, err := s.Control.DeleteNamespace(ctx, callerOf(ctx), in.Namespace)
	if err != nil {
		return nil, err
	}
	return &wire.EmptyResponse{Meta: s.changed(ctx, p)}, nil
}

func overrideOf(o *tollkey.Override) wire.Override {
	return wire.Override{OverrideId: string(o.ID), Identifier: o.Identifier, Limit: o.Limit, Duration: o.Duration.Milliseconds()}
}
