// Package verify answers the one question that Tollkey exists for: may this key do this, now?
//
// The order is: free and pure first, reversible next, durable last. What a refusal costs:
//
//	step                                     outcome                   store  limits  credits  event
//	1 lookup by digest, then by foreign hash NOT_FOUND                 no*    no      no       counted per minute
//	2 workspace, API, the caller's grants    NOT_FOUND                 no     no      no       counted per minute
//	3 syntax of the permission query         (HTTP 400)                no     no      no       no
//	4 workspace enabled                      FORBIDDEN                 no     no      no       yes
//	5 key enabled                            DISABLED                  no     no      no       yes
//	6 not expired                            EXPIRED                   no     no      no       yes
//	7 address allowed                        FORBIDDEN                 no     no      no       yes
//	8 permission query satisfied             INSUFFICIENT_PERMISSIONS  no     no      no       yes
//	9 the named rate limits exist            (HTTP 412)                no     no      no       no
//	10 take from all limits, or from none    RATE_LIMITED              no     no      no       yes
//	11 spend credits, record the event       USAGE_EXCEEDED            yes    returned  no     yes
//	   otherwise                             VALID                     yes    taken   spent    yes
//
// (*) a filter over all digests answers for keys that do not exist; one that is in doubt costs one indexed read.
//
// It promises that an answer reflects every change whose reply was sent before the question came in, on this node and,
// once the change is confirmed, on every node; and that a VALID was durably recorded before it was answered, as the
// ledger is configured. No lock is held while the store or the ledger is waited for.
package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/access"
	"github.com/tollkey/tollkey/internal/feed"
	"github.com/tollkey/tollkey/internal/ledger"
	"github.com/tollkey/tollkey/internal/limit"
	"github.com/tollkey/tollkey/internal/store"
)

// Ledger commits what a verification costs. *ledger.Committer implements it.
type Ledger interface {
	Commit(ctx context.Context, e ledger.Entry) (ledger.Result, error)
	Balance(ctx context.Context, id tollkey.BalanceID) (remaining int64, ok bool, err error)
}

// Engine verifies. It is safe for concurrent use.
type Engine struct {
	lookups  store.Lookups
	node     freshness
	limits   limit.Limiter
	ledger   Ledger
	now      func() time.Time
	known    *filter
	subjects *cache[tollkey.Digest, Subject]
	callers  *cache[tollkey.Digest, caller]
	// namespaces are those of standalone limits.
	namespaces *cache[namespaceName, namespace]
	migrations *cache[migrationName, tollkey.Migration]
	// hashes are those of imported keys, by their stand-ins.
	hashes   *cache[tollkey.Digest, store.ForeignHash]
	slow     *slowHashes
	misses   chan struct{}
	looked   atomic.Int64 // reads of the store that digests have caused
	folded   folder
	requests *limit.Local // of workspaces with a cap
	used     func(tollkey.KeyID, time.Time)
}

// Options of New.
type Options struct {
	Lookups store.Lookups
	Limits  limit.Limiter
	Ledger  Ledger
	Now     func() time.Time // nil = time.Now
	// Used, if set, is told every few seconds of a root key that callers use.
	Used func(rootKey tollkey.KeyID, at time.Time)
	// CacheSize is how many keys are kept decoded, about 1 kB each.
	CacheSize int
}

// New returns an Engine that is not connected to a feed yet: see Follow.
func New(o Options) *Engine {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Engine{
		lookups: o.Lookups, limits: o.Limits, ledger: o.Ledger, now: o.Now,
		known: newFilter(), misses: make(chan struct{}, maxMisses), folded: newFolder(),
		requests: limit.NewLocal(0, nil), used: o.Used, slow: newSlowHashes(),
	}
}

// Follow connects the engine to the follower that keeps its caches true. Call it once, before the first question.
func (e *Engine) Follow(f *feed.Follower, cacheSize int) {
	e.node = f
	e.subjects = newCache(cacheSize, f, f.Stamps, digestText, e.loadSubject)
	e.callers = newCache(max(cacheSize/10, 1000), f, f.Stamps, digestText, e.loadCaller)
	e.migrations = newCache(max(cacheSize/100, 100), f, f.Stamps, migrationName.text, e.loadMigration)
	e.hashes = newCache(max(cacheSize/10, 1000), f, f.Stamps, digestText, e.loadHash)
	e.namespaces = newCache(max(cacheSize/10, 1000), f, f.Stamps, namespaceName.cell, e.loadNamespace)
}

// Question is one verification as asked.
type Question struct {
	Secret      string
	Permissions string // a permission query; "" asks for none
	Cost        int64  // credits; 1 unless the caller said otherwise
	RateLimits  []RateLimitQuestion
	Tags        []string
	ClientIP    netip.Addr
	Migration   tollkey.MigrationID // where to look for a key that is not known by its digest; "" = nowhere
	AsImported  bool                // answer with a key that has no native digest, instead of Unhashed
}

// RateLimitQuestion asks for a named limit, or with Inline for one that exists in this question only.
type RateLimitQuestion struct {
	Name     string
	Cost     int64
	Inline   bool
	Limit    int64
	Duration time.Duration
}

// Verification is the answer. Subject is nil with OutcomeNotFound, and holds what may be shown otherwise.
type Verification struct {
	Outcome    tollkey.Outcome
	Subject    *Subject
	Remaining  int64 // credits after this call; of use when Subject is limited
	RateLimits []LimitResult
}

// LimitResult is what one checked limit said.
type LimitResult struct {
	tollkey.RateLimit
	limit.Decision
	cost int64
}

// Verify answers q for the caller p. An error means that the question could not be answered; Unhashed, that something comes first.
func (e *Engine) Verify(ctx context.Context, p *tollkey.Principal, q *Question) (Verification, error) {
	for range 3 {
		v, err := e.verify(ctx, p, q)
		if !errors.Is(err, errMoved) {
			return v, err
		}
		// The key's balance came or went since the key was read.
		e.subjects.forget(v.Subject.digest)
	}
	return Verification{}, tollkey.Unavailable(errMoved)
}

var errMoved = errors.New("verify: the balance of the key does not exist any more")

func (e *Engine) verify(ctx context.Context, p *tollkey.Principal, q *Question) (Verification, error) {
	now := e.now()
	s, err := e.subject(ctx, q.Secret)
	if err == nil && s == nil && q.Migration != "" {
		s, err = e.foreign(ctx, p, q)
	}
	if err != nil {
		return Verification{}, err
	}
	if !s.visibleTo(p) {
		e.folded.notFound(p.Workspace)
		return Verification{Outcome: tollkey.OutcomeNotFound}, nil
	}
	outcome, err := check(s, q, now)
	if err != nil {
		return Verification{}, err
	}
	v := Verification{Outcome: outcome, Subject: s, Remaining: s.remaining.Load()}
	if outcome != tollkey.OutcomeValid {
		return v, e.recordRefusal(ctx, &v, q, now)
	}
	checks, err := s.checks(q)
	if err != nil {
		return Verification{}, err
	}
	taken, ok, err := e.take(ctx, checks, &v, now)
	if err != nil {
		return Verification{}, err
	}
	if !ok {
		v.Outcome = tollkey.OutcomeRateLimited
		return v, e.recordRefusal(ctx, &v, q, now)
	}
	return v, e.commit(ctx, &v, q, taken, now)
}

// subject finds the key of a secret; nil means that there is none.
func (e *Engine) subject(ctx context.Context, secret string) (*Subject, error) {
	digest := digestOf(secret)
	if !e.mayExist(&digest) {
		return nil, e.node.Ensure(ctx)
	}
	return e.subjects.get(ctx, digest)
}

// check is the pure part: what the key and the question say, without anything that counts.
func check(s *Subject, q *Question, now time.Time) (tollkey.Outcome, error) {
	var query access.Query
	if q.Permissions != "" {
		var err error
		if query, err = access.Parse(q.Permissions); err != nil {
			return 0, tollkey.NewError(tollkey.CodeInvalid, tollkey.ReasonPermissionQuerySyntax, err.Error())
		}
	}
	switch {
	case !s.workspaceEnabled:
		return tollkey.OutcomeForbidden, nil
	case !s.Enabled:
		return tollkey.OutcomeDisabled, nil
	case !s.Expires.IsZero() && now.After(s.Expires):
		return tollkey.OutcomeExpired, nil
	case !s.admits(q.ClientIP):
		return tollkey.OutcomeForbidden, nil
	case q.Permissions != "" && !query.Satisfied(s.grants.Has):
		return tollkey.OutcomeInsufficientPermissions, nil
	}
	return tollkey.OutcomeValid, nil
}

// commit spends and records. Credits that are not there give the limits back what was taken.
func (e *Engine) commit(ctx context.Context, v *Verification, q *Question, taken limit.Taken, now time.Time) error {
	s := v.Subject
	if s.limited && v.Remaining < q.Cost {
		if enough, err := e.enough(ctx, v, q.Cost); err != nil || !enough {
			v.refund(taken)
			if err == nil {
				err = e.recordRefusal(ctx, v, q, now)
			}
			return err
		}
	}
	entry := ledger.Entry{Event: e.event(v, q, now)}
	entry.Event.Takes = taken.Takes()
	if s.limited {
		entry.Spends = []tollkey.Spend{{Balance: tollkey.BalanceID(s.ID), Amount: q.Cost}}
		entry.Event.Credits = q.Cost
	}
	r, err := e.ledger.Commit(ctx, entry)
	switch {
	case err != nil:
		// Whether it was committed may be unknown: then what was taken counts as used.
		taken.Keep()
		return err
	case r.Missing:
		taken.Refund()
		return errMoved
	case !r.Admitted:
		v.refund(taken)
		v.Outcome = tollkey.OutcomeUsageExceeded
	default:
		taken.Keep()
	}
	if s.limited {
		v.Remaining = r.Remaining[0]
		s.remaining.Store(v.Remaining)
	}
	return nil
}

// refund gives the limits back what was taken, and says so.
func (v *Verification) refund(taken limit.Taken) {
	taken.Refund()
	for i := range v.RateLimits {
		v.RateLimits[i].Remaining += v.RateLimits[i].cost
	}
}

// enough reads a balance that was too low when last seen, so that a key without credits does not make others wait for its lock. When it still is
// too low, v says so.
func (e *Engine) enough(ctx context.Context, v *Verification, cost int64) (bool, error) {
	have, ok, err := e.ledger.Balance(ctx, tollkey.BalanceID(v.Subject.ID))
	switch {
	case err != nil:
		return false, err
	case !ok:
		return false, errMoved
	case have >= cost:
		return true, nil
	}
	v.Outcome, v.Remaining = tollkey.OutcomeUsageExceeded, have
	v.Subject.remaining.Store(have)
	return false, nil
}

func (e *Engine) event(v *Verification, q *Question, now time.Time) tollkey.Event {
	s := v.Subject
	ev := tollkey.Event{
		Time: now, Workspace: s.Workspace, API: s.API, Key: s.ID, Outcome: v.Outcome, Count: 1, Tags: q.Tags,
	}
	if s.Identity != nil {
		ev.Identity = s.Identity.ID
	}
	return ev
}

func digestText(d tollkey.Digest) string { return string(d[:]) }

// digestOf hashes without copying the secret; the bytes are not kept or changed.
func digestOf(secret string) tollkey.Digest {
	return sha256.Sum256(unsafe.Slice(unsafe.StringData(secret), len(secret))) //nolint:gosec // only read
}
