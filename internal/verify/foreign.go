package verify

import (
	"context"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/foreignhash"
	"github.com/tollkey/tollkey/internal/store"
)

// Unhashed is the error for a key that is valid as far as its foreign hash tells, and known by nothing else: give it its native digest and ask again, with
// AsImported, so that the answer comes in any case.
type Unhashed struct {
	StandIn, Digest tollkey.Digest
	Start           string
}

func (e *Unhashed) Error() string { return "verify: the key has no native digest yet" }

var errMalformedKey = tollkey.NewError(tollkey.CodeInvalid, tollkey.ReasonMalformedAuth, "The key must have the form prefix_short_long, as this migration's algorithm makes them.")

// migrationName is where a migration is cached.
type migrationName struct {
	workspace tollkey.WorkspaceID
	id        tollkey.MigrationID
}

func (m migrationName) text() string { return string(m.workspace) + "/" + string(m.id) }

// foreign finds the key of a secret that is no native one among those imported through the question's migration; nil means that there is none. It reads
// nothing of the store for an invented key: the filter knows the stand-ins.
func (e *Engine) foreign(ctx context.Context, p *tollkey.Principal, q *Question) (*Subject, error) {
	m, err := e.migrations.get(ctx, migrationName{p.Workspace, q.Migration})
	if err != nil || m == nil {
		return nil, err
	}
	standIn, ok, err := foreignhash.Locate(m, q.Secret)
	if err != nil {
		return nil, errMalformedKey
	}
	if !ok || !e.mayExist(&standIn) {
		return nil, nil
	}
	s, err := e.subjects.get(ctx, standIn)
	if err != nil || !s.visibleTo(p) {
		return nil, err
	}
	h, err := e.hashes.get(ctx, standIn)
	if err != nil {
		return nil, err
	}
	if h == nil { // somebody was faster
		return e.subject(ctx, q.Secret)
	}
	if m.Algorithm.Slow() {
		if ok, err := e.slow.matches(ctx, e.now(), m.Algorithm, h, q.Secret); err != nil || !ok {
			return nil, err
		}
	}
	if h.Migration != m.ID || q.AsImported {
		return s, nil
	}
	return nil, &Unhashed{StandIn: standIn, Digest: digestOf(q.Secret), Start: foreignhash.Start(m.Algorithm, q.Secret)}
}

// visibleTo reports whether the caller may verify the key; otherwise it learns no more than of a missing one.
func (s *Subject) visibleTo(p *tollkey.Principal) bool {
	return s != nil && s.Workspace == p.Workspace && !s.apiDeleted && p.Can("api", string(s.API), "verify_key")
}

func (e *Engine) loadMigration(ctx context.Context, name migrationName) (*tollkey.Migration, []string, error) {
	if err := e.admitMiss(ctx); err != nil {
		return nil, nil, err
	}
	defer e.missDone()
	m, err := e.lookups.Migration(ctx, name.workspace, name.id)
	return m, []string{string(name.id)}, err
}

func (e *Engine) loadHash(ctx context.Context, standIn tollkey.Digest) (*store.ForeignHash, []string, error) {
	if err := e.admitMiss(ctx); err != nil {
		return nil, nil, err
	}
	defer e.missDone()
	h, err := e.lookups.ForeignHash(ctx, standIn)
	if err != nil || h == nil {
		return nil, []string{digestText(standIn)}, err
	}
	return h, []string{string(h.Key)}, nil
}
