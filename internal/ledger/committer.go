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

// ErrClosed is returned by Commit after Close.
var ErrClosed = errors.New("ledger: the committer is closed")

const (
	maxBatch    = 512   // entries in one transaction
	maxQueue    = 65536 // entries that wait; then callers wait to get in
	retryAtMost = time.Second
)

// Committer gathers entries into batches and commits them one after another. Make one with NewCommitter, then Run it.
type Committer struct {
	store Store
	boot  int64
	seq   atomic.Int64 // of the batch in work
	slots chan struct{}
	wake  chan struct{}

	mu     sync.Mutex
	queue  []*waiter
	closed bool
}

type waiter struct {
	entry  Entry
	result Result
	err    error
	done   chan struct{}
}

// NewBoot returns a random boot number.
func NewBoot() int64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return int64(binary.LittleEndian.Uint64(b[:])>>1) | 1
}

// NewCommitter returns a committer of its own boot.
func NewCommitter(store Store) *Committer {
	return &Committer{store: store, boot: NewBoot(), wake: make(chan struct{}, 1), slots: make(chan struct{}, maxQueue)}
}

// Last returns the last batch that was begun, per lane. A Commit that has returned is in one of these or an earlier one.
func (c *Committer) Last() []BatchID { return []BatchID{{c.boot, c.seq.Load()}} }

// Commit waits until the entry is durably decided. When ctx ends first, its error is returned, and whether the entry was
// committed is unknown; a balance is never spent twice for it. Safe for concurrent use.
func (c *Committer) Commit(ctx context.Context, e Entry) (Result, error) {
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
	w := &waiter{entry: e, done: make(chan struct{})}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		<-c.slots
		return Result{}, ErrClosed
	}
	c.queue = append(c.queue, w)
	first := len(c.queue) == 1
	c.mu.Unlock()
	if first {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
	select {
	case <-w.done:
		return w.result, w.err
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
}

// Run commits until ctx ends, then commits what still waits, within what remains of drain, and refuses what comes after.
func (c *Committer) Run(ctx context.Context, drain time.Duration) {
	for {
		select {
		case <-c.wake:
			c.commitAll(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
			defer cancel()
			c.mu.Lock()
			c.closed = true
			c.mu.Unlock()
			c.commitAll(last)
			return
		}
	}
}

func (c *Committer) commitAll(ctx context.Context) {
	// A batch that has begun is finished, also while the server stops.
	ctx = context.WithoutCancel(ctx)
	for batch := c.next(); len(batch) > 0; batch = c.next() {
		c.commit(ctx, batch)
		for range batch {
			<-c.slots
		}
	}
}

// next takes the next batch off the queue. It first lets the callers run while the queue still grows: that makes batches several times
// larger under load and costs an idle server nothing.
func (c *Committer) next() []*waiter {
	grown := -1
	for range 32 {
		c.mu.Lock()
		n := len(c.queue)
		c.mu.Unlock()
		if n == grown || n >= maxBatch {
			break
		}
		grown = n
		runtime.Gosched()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(c.queue), maxBatch)
	batch := c.queue[:n:n]
	c.queue = c.queue[n:]
	if len(c.queue) == 0 {
		c.queue = nil
	}
	return batch
}

func (c *Committer) commit(ctx context.Context, batch []*waiter) {
	entries := make([]*Entry, len(batch))
	for i, w := range batch {
		entries[i] = &w.entry
	}
	results, err := c.settle(ctx, BatchID{c.boot, c.seq.Add(1)}, entries)
	for i, w := range batch {
		if err != nil {
			w.err = err
		} else {
			w.result = results[i]
		}
		close(w.done)
	}
}

// settle runs the transaction. After an error it first learns whether the batch was committed all the same: only a batch that
// surely was not is tried again, under the same id.
func (c *Committer) settle(ctx context.Context, id BatchID, entries []*Entry) ([]Result, error) {
	balances := distinct(entries)
	var results []Result
	decide := func(have map[tollkey.BalanceID]int64) Settlement {
		var changed map[tollkey.BalanceID]int64
		results, changed = Settle(have, entries)
		return Settlement{Balances: changed, Data: encodeSettled(entries, results)}
	}
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, retryAtMost) {
		err := c.store.Settle(ctx, id, balances, decide)
		if err == nil {
			return results, nil
		}
		committed, lookErr := c.store.Committed(ctx, id)
		if lookErr == nil && committed {
			return results, nil
		}
		if lookErr == nil && !temporary(err) {
			return nil, err
		}
		time.Sleep(wait)
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
