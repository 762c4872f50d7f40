package verify

import (
	"context"
	"runtime"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/singleflight"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/foreignhash"
	"github.com/tollkey/tollkey/internal/limit"
	"github.com/tollkey/tollkey/internal/store"
)

const (
	// maxWaiting is how many checks of slow hashes may wait for a core.
	maxWaiting = 64
	// guessesPerMinute is how many wrong secrets of one key are checked.
	guessesPerMinute = 5
	// knownGuesses is how many results are kept. They stay true: a key's hash never changes.
	knownGuesses = 10_000
)

// slowHashes checks hashes that take long by intent, so that those who guess cannot take the server's processors: at a time as many as there are cores but
// one, few wrong secrets of one key, and no secret twice. Its counts are this node's.
type slowHashes struct {
	places  chan struct{} // held by who checks or waits
	cores   chan struct{} // held by who checks
	known   *otter.Cache[guess, bool]
	flights singleflight.Group
	wrong   *limit.Local
	check   func(a tollkey.Algorithm, hash, secret string) bool
}

// guess is a secret that was presented as a key's. The digest stands for it, so that no secret is kept.
type guess struct {
	key    tollkey.KeyID
	digest tollkey.Digest
}

func newSlowHashes() *slowHashes {
	cores := max(runtime.GOMAXPROCS(0)-1, 1)
	return &slowHashes{
		places: make(chan struct{}, cores+maxWaiting), cores: make(chan struct{}, cores), check: foreignhash.Matches, wrong: limit.NewLocal(0, nil),
		known: otter.Must(&otter.Options[guess, bool]{MaximumSize: knownGuesses}),
	}
}

// matches reports whether the secret has the hash. Those who ask the same at a time share one check.
func (h *slowHashes) matches(ctx context.Context, now time.Time, a tollkey.Algorithm, f *store.ForeignHash, secret string) (bool, error) {
	g := guess{f.Key, digestOf(secret)}
	ch := h.flights.DoChan(string(g.key)+string(g.digest[:]), func() (any, error) {
		if ok, known := h.known.GetIfPresent(g); known {
			return ok, nil
		}
		ok, err := h.run(now, g.key, func() bool { return h.check(a, f.Hash, secret) })
		if err == nil {
			h.known.Set(g, ok)
		}
		return ok, err
	})
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case r := <-ch:
		return r.Err == nil && r.Val.(bool), r.Err
	}
}

// run checks when a core is free. A right secret does not count as a guess.
func (h *slowHashes) run(now time.Time, key tollkey.KeyID, check func() bool) (bool, error) {
	select {
	case h.places <- struct{}{}:
		defer func() { <-h.places }()
	default:
		return false, tooManyGuesses(time.Second)
	}
	var d [1]limit.Decision
	r := [1]limit.Request{{
		Bucket: limit.BucketFor("guesses", string(key), "key", time.Minute), Limit: guessesPerMinute, Duration: time.Minute, Cost: 1,
	}}
	taken, ok, err := h.wrong.Take(context.Background(), now, r[:], d[:])
	if err != nil {
		return false, err
	}
	if !ok {
		return false, tooManyGuesses(d[0].Reset.Sub(now))
	}
	h.cores <- struct{}{}
	defer func() { <-h.cores }()
	if check() {
		taken.Refund()
		return true, nil
	}
	taken.Keep()
	return false, nil
}

func tooManyGuesses(wait time.Duration) error {
	e := tollkey.NewError(tollkey.CodeTooManyRequests, tollkey.ReasonTooManyGuesses, "Too many imported keys that are slow to check were presented.")
	e.RetryAfter = wait
	return e
}
