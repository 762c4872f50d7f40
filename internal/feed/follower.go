// Package feed brings management changes to this node: it applies them in order, keeps the node's lease of its cache, and
// tells when a change has reached every node.
//
// It promises: once Confirm has reported a change as confirmed, no node answers from what was cached before it. A node
// may answer from its cache only while it Holds its lease, which ends 3 s after the start of its last successful heartbeat by its own
// monotonic clock; the others stop waiting for it a second later. A stopped, partitioned or frozen node therefore
// falls silent rather than stale.
package feed

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// The clockwork of the feed.
const (
	LeaseTTL       = 3 * time.Second
	deadAfter      = LeaseTTL + time.Second
	heartbeatEvery = time.Second
	pollEvery      = 250 * time.Millisecond
	confirmTimeout = deadAfter + time.Second
	readAtOnce     = 500
)

// Learner is told of created keys before the change that created them counts as applied.
type Learner interface {
	Learn(digests []tollkey.Digest)
	// LearnRange reads and learns the digests of the keys with ids in the range.
	LearnRange(ctx context.Context, first, last tollkey.KeyID) error
}

// Follower applies changes. Make one with NewFollower, call Start before the first lookup, then Run.
type Follower struct {
	Stamps *Stamps

	store   store.Changes
	node    string
	solo    bool
	learner Learner
	log     *slog.Logger

	base  time.Time    // origin of the monotonic readings below
	lease atomic.Int64 // nanoseconds after base until which the cache may be used

	applied atomic.Int64  // the last applied change
	turn    chan struct{} // of capacity one: whoever has put its token in may apply, and use what follows
	epoch   string
	acked   store.Node
	left    bool
}

// Options of NewFollower.
type Options struct {
	Store store.Changes
	Node  string // unique to this boot of this process
	// Solo says that no other process can answer from a cache (SQLite): nothing is acknowledged or waited for.
	Solo    bool
	Learner Learner
	Log     *slog.Logger
}

// NewFollower returns a Follower that has applied nothing and holds no lease.
func NewFollower(o Options) *Follower {
	return &Follower{
		Stamps: NewStamps(), store: o.Store, node: o.Node, solo: o.Solo, learner: o.Learner, log: o.Log, base: time.Now(),
		turn: make(chan struct{}, 1),
	}
}

// Start registers the node and notes where the feed stands. Whatever is read from the store after Start is kept true by the
// changes after that point.
func (f *Follower) Start(ctx context.Context) error { return f.Sync(ctx) }

// Run follows the feed until ctx ends, then takes the node off the list.
func (f *Follower) Run(ctx context.Context) {
	poll, beat := time.NewTicker(pollEvery), time.NewTicker(heartbeatEvery)
	defer poll.Stop()
	defer beat.Stop()
	wake := f.store.Watch(ctx)
	for {
		var err error
		select {
		case <-ctx.Done():
			f.leave()
			return
		case _, open := <-wake:
			if !open {
				wake = nil
				continue
			}
			err = f.poll(ctx, unknown)
		case <-poll.C:
			err = f.poll(ctx, unknown)
		case <-beat.C:
			err = f.Sync(ctx)
		}
		if err != nil && ctx.Err() == nil {
			f.log.Warn("the change feed cannot be read", "error", err)
		}
	}
}

func (f *Follower) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	f.turn <- struct{}{} // nobody keeps it for longer than a store call may take
	f.left = true
	<-f.turn
	f.lease.Store(0)
	if err := f.store.RemoveNode(ctx, f.node); err != nil {
		f.log.Warn("this node could not take itself off the list", "error", err)
	}
}

// Holds reports whether the node may answer from its cache now.
func (f *Follower) Holds() bool { return int64(time.Since(f.base)) < f.lease.Load() }

// Ensure returns at once while the lease holds; otherwise it asks the store for a new one. An error means that
// nothing that is cached may be used.
func (f *Follower) Ensure(ctx context.Context) error {
	if f.Holds() {
		return nil
	}
	if err := f.Sync(ctx); err != nil {
		return err
	}
	if !f.Holds() { // the store took longer than a lease lasts
		return tollkey.Unavailable(nil)
	}
	return nil
}

// enter waits for the caller's turn to apply, and bounds the time that its calls of the store may take. done ends the turn.
func (f *Follower) enter(ctx context.Context) (bounded context.Context, done func(), err error) {
	select {
	case f.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, tollkey.Unavailable(ctx.Err())
	}
	if f.left {
		<-f.turn
		return nil, nil, tollkey.Unavailable(errLeft)
	}
	bounded, cancel := context.WithTimeout(ctx, LeaseTTL)
	return bounded, func() { cancel(); <-f.turn }, nil
}

var errLeft = errors.New("feed: the node has left")

// Sync renews the lease and applies every change that was committed before it was called.
func (f *Follower) Sync(ctx context.Context) error {
	ctx, done, err := f.enter(ctx)
	if err != nil {
		return err
	}
	defer done()
	start := int64(time.Since(f.base))
	head, err := f.store.Heartbeat(ctx, f.self())
	if err != nil {
		return err
	}
	if err := f.catchUp(ctx, head); err != nil {
		return err
	}
	f.lease.Store(start + int64(LeaseTTL))
	return f.acknowledge(ctx)
}

// unknown is a number that no change has reached.
const unknown = math.MaxInt64

// poll applies what is new without renewing the lease: only a heartbeat, whose time the others see, may do that. It reads nothing when another has applied
// the wanted change meanwhile.
func (f *Follower) poll(ctx context.Context, wanted int64) error {
	ctx, done, err := f.enter(ctx)
	if err != nil {
		return err
	}
	defer done()
	if f.Applied() >= wanted {
		return nil
	}
	head, err := f.store.Head(ctx)
	if err != nil {
		return err
	}
	if err := f.catchUp(ctx, head); err != nil {
		return err
	}
	return f.acknowledge(ctx)
}

func (f *Follower) self() store.Node {
	return store.Node{ID: f.node, Applied: f.applied.Load(), Epoch: f.epoch}
}

func (f *Follower) acknowledge(ctx context.Context) error {
	self := f.self()
	if f.solo || f.acked == self {
		return nil
	}
	if err := f.store.Acknowledge(ctx, self); err != nil {
		return err
	}
	f.acked = self
	return nil
}

// catchUp applies the changes up to head. Where they cannot be had one by one, everything cached is dropped instead.
func (f *Follower) catchUp(ctx context.Context, head store.Head) error {
	if head.Epoch != f.epoch || head.Number < f.applied.Load() {
		return f.drop(ctx, head)
	}
	for f.applied.Load() < head.Number {
		changes, err := f.store.ChangesAfter(ctx, f.applied.Load(), readAtOnce)
		if err != nil {
			return err
		}
		if len(changes) == 0 {
			return f.drop(ctx, head)
		}
		for i := range changes {
			if changes[i].Number != f.applied.Load()+1 {
				return f.drop(ctx, head)
			}
			if err := f.apply(ctx, &changes[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// drop empties the cache and goes on from head. Keys may have been created unseen, so all are learned anew; the very first
// time the node's start does that itself.
func (f *Follower) drop(ctx context.Context, head store.Head) error {
	first := f.epoch == ""
	f.Stamps.flush()
	if !first {
		f.log.Warn("the cache was dropped: the change feed has a gap or another epoch", "applied", f.applied.Load(), "head", head.Number)
		if err := f.learner.LearnRange(ctx, "", ""); err != nil {
			return err
		}
	}
	f.epoch = head.Epoch
	f.applied.Store(head.Number)
	return nil
}

func (f *Follower) apply(ctx context.Context, c *tollkey.Change) error {
	f.learner.Learn(c.Digests)
	if c.FirstKey != "" {
		if err := f.learner.LearnRange(ctx, c.FirstKey, c.LastKey); err != nil {
			return err
		}
	}
	switch {
	case c.Kind == tollkey.ChangeFlush:
		f.Stamps.flush()
	case c.Kind != tollkey.ChangeCells: // what it means is unknown: also keys may have been created
		if err := f.learner.LearnRange(ctx, "", ""); err != nil {
			return err
		}
		f.Stamps.flush()
	case c.FirstKey != "": // any absence may be over: which ones was too long to list
		f.Stamps.flush()
	default:
		cells := make([]Cell, 0, len(c.Cells)+len(c.Digests))
		for _, name := range c.Cells {
			cells = append(cells, f.Stamps.Cell(name))
		}
		for i := range c.Digests {
			cells = append(cells, f.Stamps.DigestCell(c.Digests[i][:]))
		}
		f.Stamps.mark(cells)
	}
	f.applied.Store(c.Number)
	return nil
}

// Applied returns the number of the last applied change.
func (f *Follower) Applied() int64 { return f.applied.Load() }

// Confirm applies the change here and waits until every node that may still answer from its cache has applied it,
// for at most the time after which a silent node is dead. It never fails: the change is committed.
func (f *Follower) Confirm(ctx context.Context, change int64) tollkey.Propagation {
	start := time.Now()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), confirmTimeout)
	defer cancel()
	p := tollkey.Propagation{Silent: []string{f.node}}
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 25*time.Millisecond) {
		if err := f.look(ctx, change, &p); err != nil && ctx.Err() == nil {
			f.log.Warn("a change cannot be confirmed; it will be tried again", "change", change, "error", err)
		}
		p.Took = time.Since(start)
		if p.Confirmed || ctx.Err() != nil {
			return p
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// look writes into p what is known of the change's way. An error leaves p as it was.
func (f *Follower) look(ctx context.Context, change int64, p *tollkey.Propagation) error {
	if f.Applied() < change {
		if err := f.poll(ctx, change); err != nil || f.Applied() < change {
			return err
		}
	}
	if f.solo {
		p.Confirmed, p.Nodes, p.Silent = true, 1, nil
		return nil
	}
	all, err := f.store.Nodes(ctx)
	if err != nil {
		return err
	}
	head, err := f.store.Head(ctx)
	if err != nil {
		return err
	}
	p.Nodes, p.Silent = 1, nil
	for _, n := range all {
		switch {
		case n.ID == f.node:
		case n.Epoch == head.Epoch && n.Applied >= change:
			p.Nodes++
		case n.Age < deadAfter:
			p.Silent = append(p.Silent, n.ID)
		}
	}
	p.Confirmed = len(p.Silent) == 0
	return nil
}
