package verify

import (
	"context"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/ledger"
	"github.com/tollkey/tollkey/internal/limit"
	"github.com/tollkey/tollkey/internal/store"
)

// LimitQuestion asks a standalone limit: one that belongs to no key, counted per identifier within a namespace.
type LimitQuestion struct {
	Namespace  string // name or id
	Identifier string
	Limit      int64
	Duration   time.Duration
	Cost       int64 // 0 looks without taking
}

// LimitAnswer is what the limit said.
type LimitAnswer struct {
	limit.Decision
	Limit    int64              // the override's where one applies
	Override tollkey.OverrideID // "" = none
}

// UnknownNamespaces is the error for namespaces that do not exist yet.
type UnknownNamespaces struct{ Names []string }

func (e *UnknownNamespaces) Error() string { return "verify: there is no such namespace" }

// namespace is what a limit needs of one, decoded once and immutable.
type namespace struct {
	id        tollkey.NamespaceID
	deleted   bool
	overrides *limit.Overrides
}

// Limit asks one standalone limit. What was taken is durably recorded before it returns, as the ledger is configured; a refusal takes nothing.
func (e *Engine) Limit(ctx context.Context, p *tollkey.Principal, q LimitQuestion) (LimitAnswer, error) {
	questions := [1]LimitQuestion{q}
	found, err := e.namespacesOf(ctx, p, questions[:])
	if err != nil {
		return LimitAnswer{}, err
	}
	if found[0].deleted {
		return LimitAnswer{}, errNamespaceGone
	}
	if !p.Can("ratelimit", string(found[0].id), "limit") {
		return LimitAnswer{}, errMayNotLimit
	}
	answers, err := e.limitAll(ctx, p, questions[:], found)
	if err != nil {
		return LimitAnswer{}, err
	}
	return answers[0], nil
}

// MultiLimit asks several standalone limits, all or nothing, and answers in their order: if one is exceeded, nothing is taken. Questions about one counter add up in their order.
func (e *Engine) MultiLimit(ctx context.Context, p *tollkey.Principal, questions []LimitQuestion) ([]LimitAnswer, error) {
	found, err := e.namespacesOf(ctx, p, questions)
	if err != nil {
		return nil, err
	}
	for _, n := range found {
		if !p.Can("ratelimit", string(n.id), "limit") {
			return nil, errMayNotLimit
		}
	}
	for _, n := range found {
		if n.deleted {
			return nil, errNamespaceGone
		}
	}
	return e.limitAll(ctx, p, questions, found)
}

var (
	errNamespaceGone = tollkey.NewError(tollkey.CodeGone, tollkey.ReasonNamespaceGone, "This namespace was deleted; its name cannot be used again.")
	errMayNotLimit   = tollkey.NewError(tollkey.CodeForbidden, tollkey.ReasonInsufficientPermissions, "The root key lacks the permission ratelimit.*.limit.")
)

func (e *Engine) namespacesOf(ctx context.Context, p *tollkey.Principal, questions []LimitQuestion) ([]*namespace, error) {
	found := make([]*namespace, len(questions))
	var unknown []string
	for i := range questions {
		n, err := e.namespaces.get(ctx, namespaceName{p.Workspace, questions[i].Namespace})
		if err != nil {
			return nil, err
		}
		if found[i] = n; n == nil {
			unknown = append(unknown, questions[i].Namespace)
		}
	}
	if len(unknown) > 0 {
		return nil, &UnknownNamespaces{unknown}
	}
	return found, nil
}

func (e *Engine) limitAll(ctx context.Context, p *tollkey.Principal, questions []LimitQuestion, found []*namespace) ([]LimitAnswer, error) {
	now := e.now()
	requests := make([]limit.Request, len(questions))
	decisions := make([]limit.Decision, len(questions))
	answers := make([]LimitAnswer, len(questions))
	for i := range questions {
		q := &questions[i]
		r := limit.Request{Limit: q.Limit, Duration: q.Duration, Cost: q.Cost}
		if o := found[i].overrides.Match(q.Identifier); o != nil {
			r.Limit, r.Duration, answers[i].Override = o.Limit, o.Duration, o.ID
			if o.Limit == 0 {
				r.Cost = max(r.Cost, 1) // a block refuses those who only look, too
			}
		}
		r.Bucket = limit.StandaloneBucket(string(p.Workspace), string(found[i].id), q.Identifier, r.Duration)
		requests[i], answers[i].Limit = r, r.Limit
	}
	taken, _, err := e.limits.Take(ctx, now, requests, decisions)
	if err != nil {
		return nil, err
	}
	for i := range decisions {
		answers[i].Decision = decisions[i]
	}
	if len(taken.Takes()) > 0 {
		_, err = e.ledger.Commit(ctx, ledger.Entry{Event: tollkey.Event{
			Kind: tollkey.EventLimit, Time: now, Workspace: p.Workspace, Takes: taken.Takes(),
		}})
	}
	taken.Keep() // also after an error: whether it was committed may be unknown
	return answers, err
}

// namespaceName is where a namespace is cached: by the name or id that is asked for.
type namespaceName struct {
	workspace tollkey.WorkspaceID
	nameOrID  string
}

func (n namespaceName) cell() string { return store.NamespaceCell(n.workspace, n.nameOrID) }

func (e *Engine) loadNamespace(ctx context.Context, n namespaceName) (*namespace, []string, error) {
	if err := e.admitMiss(ctx); err != nil {
		return nil, nil, err
	}
	defer e.missDone()
	r, err := e.lookups.Namespace(ctx, n.workspace, n.nameOrID)
	if err != nil || r == nil {
		return nil, []string{n.cell()}, err
	}
	return &namespace{r.ID, r.Deleted, limit.NewOverrides(r.Overrides)}, []string{n.cell(), string(r.ID)}, nil
}
