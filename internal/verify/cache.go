package verify

import (
	"context"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/singleflight"

	"github.com/tollkey/tollkey/internal/feed"
)

// absenceTTL bounds how long "there is no such key" is kept. A created key ends it at once; this bounds memory's use only.
const absenceTTL = 10 * time.Second

// freshness is what a cache asks before every answer. *feed.Follower implements it.
type freshness interface {
	Ensure(ctx context.Context) error
}

// cache holds what keys, such as digests of secrets, lead to. A value that it returns was true at some moment after get was called, or no change that touches
// it was applied since and the node holds its lease: a fill cannot publish anything stale, since validity is asked at each use and not when a value is put in (see feed.Stamps).
type cache[K comparable, T any] struct {
	node    freshness
	stamps  *feed.Stamps
	entries *otter.Cache[K, *entry[T]]
	flights singleflight.Group
	// text tells keys apart.
	text func(K) string
	// load reads the value and the names of what it depends on; nil means that there is none, which depends on something too.
	load func(ctx context.Context, key K) (value *T, names []string, err error)
}

type entry[T any] struct {
	value   *T // nil = absent
	asOf    uint64
	cells   []feed.Cell
	expires time.Time // zero = does not
}

func newCache[K comparable, T any](size int, node freshness, stamps *feed.Stamps, text func(K) string, load func(context.Context, K) (*T, []string, error)) *cache[K, T] {
	return &cache[K, T]{
		node: node, stamps: stamps, text: text, load: load,
		entries: otter.Must(&otter.Options[K, *entry[T]]{MaximumSize: size}),
	}
}

// get returns the value of key, or nil when there is none.
func (c *cache[K, T]) get(ctx context.Context, key K) (*T, error) {
	if err := c.node.Ensure(ctx); err != nil {
		return nil, err
	}
	if e, ok := c.peek(key); ok {
		return e.value, nil
	}
	// Concurrent misses share one read. One that began before this call may be out of date by now: then read again, and at last alone.
	for range 3 {
		ch := c.flights.DoChan(c.text(key), func() (any, error) { return c.fill(context.WithoutCancel(ctx), key) })
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case r := <-ch:
			if r.Err != nil {
				return nil, r.Err
			}
			if e := r.Val.(*entry[T]); c.stamps.Valid(e.asOf, e.cells) {
				return e.value, nil
			}
		}
	}
	e, err := c.fill(ctx, key)
	if err != nil {
		return nil, err
	}
	return e.value, nil
}

// peek returns the cached entry if it may be used. The caller has made sure of the lease.
func (c *cache[K, T]) peek(key K) (*entry[T], bool) {
	e, ok := c.entries.GetIfPresent(key)
	if !ok || !c.stamps.Valid(e.asOf, e.cells) || (!e.expires.IsZero() && time.Now().After(e.expires)) {
		return nil, false
	}
	return e, true
}

func (c *cache[K, T]) fill(ctx context.Context, key K) (*entry[T], error) {
	e := &entry[T]{asOf: c.stamps.Now()} // before the read: see feed.Stamps
	value, names, err := c.load(ctx, key)
	if err != nil {
		return nil, err
	}
	e.value = value
	for _, name := range names {
		e.cells = append(e.cells, c.stamps.Cell(name))
	}
	if value == nil {
		e.expires = time.Now().Add(absenceTTL)
	}
	c.entries.Set(key, e)
	return e, nil
}

// forget drops key, so that the next get reads the store.
func (c *cache[K, T]) forget(key K) { c.entries.Invalidate(key) }
