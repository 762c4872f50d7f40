package verify

import (
	"context"

	"github.com/tollkey/tollkey"
)

// maxMisses bounds how many reads of the store unknown digests may cause at a time, so that a flood of
// invented keys cannot take all its connections.
const maxMisses = 16

// mayExist reports false only if no key with this digest exists, as far as the applied changes tell.
func (e *Engine) mayExist(d *tollkey.Digest) bool { return !e.known.ready.Load() || e.known.has(d) }

// Lookups returns how many reads of the store digests have caused.
func (e *Engine) Lookups() int64 { return e.looked.Load() }

func (e *Engine) admitMiss(ctx context.Context) error {
	select {
	case e.misses <- struct{}{}:
		e.looked.Add(1)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *Engine) missDone() { <-e.misses }

// LoadFilter learns every digest in the store. Until it has returned, unknown digests are looked up in the store. Start the
// feed first, so that no key created meanwhile is missed.
func (e *Engine) LoadFilter(ctx context.Context) error {
	if err := e.LearnRange(ctx, "", ""); err != nil {
		return err
	}
	e.known.ready.Store(true)
	return nil
}

// Learn makes created keys known. It is part of feed.Learner.
func (e *Engine) Learn(digests []tollkey.Digest) {
	for i := range digests {
		e.known.add(&digests[i])
	}
}

// LearnRange reads and learns the digests of a range of keys, or of all. It is part of feed.Learner.
func (e *Engine) LearnRange(ctx context.Context, first, last tollkey.KeyID) error {
	return e.lookups.Digests(ctx, first, last, func(digests []tollkey.Digest) error {
		e.Learn(digests)
		return nil
	})
}
