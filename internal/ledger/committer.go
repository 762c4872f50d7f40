package ledger

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tollkey/tollkey"
)

// ErrClosed is returned by Commit after the drain has begun.
var ErrClosed = errors.New("ledger: the committer is closed")

const (
	maxBatch    = 512   // entries in one transaction
	maxQueue    = 65536 // entries that wait; then callers wait to get in
	retryAtMost = time.Second
	// gatherFor is how long answered entries may wait for company; with the commit itself they are durable within 100 ms.
	gatherFor = 50 * time.Millisecond
)

// Options of NewCommitter.
type Options struct {
	// Buffered answers what spends nothing at once and commits it within 100 ms. A process that dies loses what was not committed.
	Buffered bool
	// Lanes is 2 where the store commits in parallel: then what spends nothing has a lane of its own and waits for no balance. 0 is 1.
	Lanes int
}

// Committer gathers entries into batches and commits them one after another. Make one with NewCommitter, then Run it.
type Committer struct {
	store    Store
	slots    chan struct{}
	spending *lane
	plain    *lane // of entries without spends; may be the same as spending
	buffered bool
}

// lane is a queue whose batches are committed one after another under a boot of its own.
type lane struct {
	store  Store
	slots  chan struct{}
	gather time.Duration
	boot   int64
	seq    atomic.Int64 // of the batch in work
	wake   chan struct{}
	full   chan struct{}

	mu     sync.Mutex
	queue  []*waiter
	closed bool
}

type waiter struct {
	entry  Entry
	result Result
	err    error
	done   chan struct{} // nil = answered already
}

// NewBoot returns a random boot number.
func NewBoot() int64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return int64(binary.LittleEndian.Uint64(b[:])>>1) | 1
}

// NewCommitter returns a committer of its own boots.
func NewCommitter(store Store, o Options) *Committer {
	c := &Committer{store: store, slots: make(chan struct{}, maxQueue), buffered: o.Buffered}
	c.spending = newLane(store, c.slots)
	c.plain = c.spending
	if o.Buffered || o.Lanes > 1 {
		c.plain = newLane(store, c.slots)
	}
	if o.Buffered {
		c.plain.gather = gatherFor
	}
	return c
}

func newLane(store Store, slots chan struct{}) *lane {
	return &lane{store: store, slots: slots, boot: NewBoot(), wake: make(chan struct{}, 1), full: make(chan struct{}, 1)}
}

// Last returns the last batch that was begun, per lane. A Commit that has returned is in one of these or an earlier one, unless it was buffered.
func (c *Committer) Last() []BatchID {
	out := []BatchID{{c.spending.boot, c.spending.seq.Load()}}
	if c.plain != c.spending {
		out = append(out, BatchID{c.plain.boot, c.plain.seq.Load()})
	}
	return out
}

// Waiting returns how many entries are not committed yet.
func (c *Committer) Waiting() int { return len(c.slots) }

// Balance reads a balance as it is now, without a lock. ok is false when there is none.
func (c *Committer) Balance(ctx context.Context, id tollkey.BalanceID) (remaining int64, ok bool, err error) {
	return c.store.Balance(ctx, id)
}

// Commit waits until the entry is durably decided (see Options for the exception). When ctx ends first, its error is returned, and whether
// the entry was committed is unknown; a balance is never spent twice for it. Safe for concurrent use.
func (c *Committer) Commit(ctx context.Context, e Entry) (Result, error) {
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
	w := &waiter{entry: e}
	if len(e.Spends) == 0 && c.buffered {
		return Result{Admitted: true}, c.plain.push(w)
	}
	w.done = make(chan struct{})
	l := c.plain
	if len(e.Spends) > 0 {
		l = c.spending
	}
	if err := l.push(w); err != nil {
		return Result{}, err
	}
	select {
	case <-w.done:
		return w.result, w.err
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
}

func (l *lane) push(w *waiter) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		<-l.slots
		return ErrClosed
	}
	l.queue = append(l.queue, w)
	n := len(l.queue)
	l.mu.Unlock()
	if n == 1 {
		ring(l.wake)
	}
	if n == maxBatch {
		ring(l.full)
	}
	return nil
}

func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// Run commits until ctx ends, then commits what still waits, for at most drain, and refuses what comes after.
func (c *Committer) Run(ctx context.Context, drain time.Duration) {
	// A batch that has begun is finished, also while the server stops.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(drain, cancel) })
	defer stop()
	var lanes sync.WaitGroup
	lanes.Go(func() { c.spending.run(ctx, work) })
	if c.plain != c.spending {
		lanes.Go(func() { c.plain.run(ctx, work) })
	}
	lanes.Wait()
}

func (l *lane) run(ctx, work context.Context) {
	for {
		select {
		case <-l.wake:
			l.awaitCompany(ctx)
			l.commitAll(work)
		case <-ctx.Done():
			l.mu.Lock()
			l.closed = true
			l.mu.Unlock()
			l.commitAll(work)
			return
		}
	}
}

func (l *lane) awaitCompany(ctx context.Context) {
	if l.gather == 0 {
		return
	}
	timer := time.NewTimer(l.gather)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.full:
	case <-ctx.Done():
	}
}

func (l *lane) commitAll(work context.Context) {
	for batch := l.next(); len(batch) > 0; batch = l.next() {
		l.commit(work, batch)
		for range batch {
			<-l.slots
		}
	}
}

// next takes the next batch off the queue. It first lets the callers run while the queue still grows: that makes batches several times
// larger under load and costs an idle server nothing.
func (l *lane) next() []*waiter {
	grown := -1
	for range 32 {
		l.mu.Lock()
		n := len(l.queue)
		l.mu.Unlock()
		if n == grown || n >= maxBatch {
			break
		}
		grown = n
		runtime.Gosched()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(l.queue), maxBatch)
	batch := l.queue[:n:n]
	l.queue = l.queue[n:]
	if len(l.queue) == 0 {
		l.queue = nil
	}
	return batch
}

func (l *lane) commit(work context.Context, batch []*waiter) {
	entries := make([]*Entry, len(batch))
	answered := false
	for i, w := range batch {
		entries[i] = &w.entry
		answered = answered || w.done == nil
	}
	results, err := l.settle(work, BatchID{l.boot, l.seq.Add(1)}, entries, answered)
	for i, w := range batch {
		if w.done == nil {
			continue
		}
		if err != nil {
			w.err = err
		} else {
			w.result = results[i]
		}
		close(w.done)
	}
}

// settle runs the transaction. After an error it first learns whether the batch was committed all the same: only a batch that
// surely was not is tried again, under the same id. What was answered already is tried until work ends, whatever the error.
func (l *lane) settle(work context.Context, id BatchID, entries []*Entry, answered bool) ([]Result, error) {
	balances := distinct(entries)
	var results []Result
	decide := func(have map[tollkey.BalanceID]int64) Settlement {
		var changed map[tollkey.BalanceID]int64
		results, changed = Settle(have, entries)
		return Settlement{Balances: changed, Data: encodeSettled(entries, results)}
	}
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, retryAtMost) {
		err := l.store.Settle(work, id, balances, decide)
		if err == nil {
			return results, nil
		}
		committed, lookErr := l.store.Committed(work, id)
		if lookErr == nil && committed {
			return results, nil
		}
		if lookErr == nil && !temporary(err) && !answered {
			return nil, err
		}
		select {
		case <-work.Done():
			return nil, errors.Join(err, lookErr)
		case <-time.After(wait):
		}
	}
}

// temporary reports whether the store may answer differently in a moment.
func temporary(err error) bool {
	return tollkey.IsReason(err, tollkey.ReasonUnavailable)
}

// encodeSettled writes the events as they turned out: a refused spend is recorded as such, without what it would have taken.
func encodeSettled(entries []*Entry, results []Result) []byte {
	events := make([]*tollkey.Event, 0, len(entries))
	for i, e := range entries {
		switch {
		case results[i].Missing:
		case results[i].Admitted:
			events = append(events, &e.Event)
		default:
			refused := e.Event
			refused.Outcome, refused.Credits, refused.Takes = tollkey.OutcomeUsageExceeded, 0, nil
			events = append(events, &refused)
		}
	}
	if len(events) == 0 {
		return nil
	}
	return Encode(make([]byte, 0, 160*len(events)), events)
}

func distinct(entries []*Entry) []tollkey.BalanceID {
	var out []tollkey.BalanceID
	for _, e := range entries {
		for _, s := range e.Spends {
			out = append(out, s.Balance)
		}
	}
	slices.SortFunc(out, cmp.Compare)
	return slices.Compact(out)
}
