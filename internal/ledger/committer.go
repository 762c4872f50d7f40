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
	firstRetry  = 5 * time.Millisecond
	retryAtMost = time.Second
	attemptFor  = 10 * time.Second
	// calmCommits is after how many commits without company a caller commits by itself. Under load that makes batches smaller, so that it is left at the first meeting.
	calmCommits = 64
	// gatherFor is how long answered entries may wait for company; with the commit itself they are durable within 100 ms.
	gatherFor = 50 * time.Millisecond
)

// Options of NewCommitter.
type Options struct {
	// Buffered answers what spends nothing at once and commits it within 100 ms. A process that dies loses what was not committed.
	Buffered bool
	// Remote says that the store is another process: it commits in parallel, so that what spends nothing has a lane of its own and waits for no balance. In
	// this process a caller that is alone commits by itself, which saves two changes of goroutine.
	Remote bool
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
	gather time.Duration // how long answered entries wait for company
	inline bool          // callers may commit
	enough chan struct{} // of one: the queue has as many entries as wanted
	timer  *time.Timer
	work   context.Context // ends when a batch in work must give up
	cancel context.CancelFunc
	taken  atomic.Int64

	mu     sync.Mutex
	queue  []*waiter
	busy   bool // somebody commits
	closed bool
	idle   sync.Cond // busy has become false
	last   BatchID   // begun
	wanted int       // entries for which commitAll waits; 0 = it does not
	calm   int       // commits since two callers last met
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
	return int64(binary.LittleEndian.Uint64(b[:])&MaxBoot) | 1
}

// NewCommitter returns a committer of its own boots.
func NewCommitter(store Store, o Options) *Committer {
	c := &Committer{store: store, slots: make(chan struct{}, maxQueue), buffered: o.Buffered}
	c.spending = newLane(store, c.slots)
	c.spending.inline = !o.Remote
	c.plain = c.spending
	if o.Buffered || o.Remote {
		c.plain = newLane(store, c.slots)
		c.plain.inline = !o.Remote && !o.Buffered
	}
	if o.Buffered {
		c.plain.gather = gatherFor
	}
	return c
}

func newLane(store Store, slots chan struct{}) *lane {
	l := &lane{store: store, slots: slots, enough: make(chan struct{}, 1), timer: stopped(), last: BatchID{Boot: NewBoot()}}
	l.idle.L = &l.mu
	l.work, l.cancel = context.WithCancel(context.Background())
	return l
}

func stopped() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// Last returns the last batch that was begun, per lane. A Commit that has returned is in one of these or an earlier one, unless it was buffered.
func (c *Committer) Last() []BatchID {
	out := []BatchID{c.spending.begun()}
	if c.plain != c.spending {
		out = append(out, c.plain.begun())
	}
	return out
}

func (l *lane) begun() BatchID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// Taken returns how many entries were taken into batches, whatever became of them.
func (c *Committer) Taken() int64 {
	n := c.spending.taken.Load()
	if c.plain != c.spending {
		n += c.plain.taken.Load()
	}
	return n
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

// push queues w and sees to it that somebody commits.
func (l *lane) push(w *waiter) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		<-l.slots
		return ErrClosed
	}
	l.queue = append(l.queue, w)
	lead := !l.busy
	if !lead {
		l.calm = 0
	}
	alone := l.calm >= calmCommits
	l.busy = true
	if l.wanted > 0 && len(l.queue) >= l.wanted {
		l.wanted = 0
		l.enough <- struct{}{} // has room: the one before was taken, or wanted is 0
	}
	l.mu.Unlock()
	switch {
	case lead && alone && l.inline:
		l.commit(l.next())
		l.mu.Lock()
		more := len(l.queue) > 0
		l.calm++
		if !more {
			l.rest()
		}
		l.mu.Unlock()
		if more { // this caller has its answer; the others' must not wait for what it does next
			go l.commitAll()
		}
	case lead:
		go l.commitAll()
	}
	return nil
}

// rest is called under the lock when the queue is empty.
func (l *lane) rest() {
	l.busy = false
	l.idle.Broadcast()
}

// Run waits until ctx ends, then refuses what comes after and commits what still waits, for at most drain.
func (c *Committer) Run(ctx context.Context, drain time.Duration) {
	<-ctx.Done()
	giveUp := time.AfterFunc(drain, func() { c.spending.cancel(); c.plain.cancel() })
	defer giveUp.Stop()
	c.spending.close()
	c.plain.close()
}

func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.wanted > 0 { // nobody is waited for any more
		l.wanted = 0
		l.enough <- struct{}{}
	}
	for l.busy {
		l.idle.Wait()
	}
}

// commitAll commits until the queue is empty.
func (l *lane) commitAll() {
	for {
		if l.gather > 0 {
			l.await(maxBatch, l.gather)
		} else {
			l.yield()
		}
		batch := l.next()
		if len(batch) > 0 {
			l.commit(batch)
		}
		l.mu.Lock()
		l.calm++
		if len(l.queue) == 0 {
			l.rest()
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
	}
}

// await returns when the queue has n entries, or after the given time. Only whoever is busy calls it.
func (l *lane) await(n int, atMost time.Duration) {
	l.mu.Lock()
	if len(l.queue) >= n || l.closed {
		l.mu.Unlock()
		return
	}
	l.wanted = n
	l.mu.Unlock()
	l.timer.Reset(atMost)
	select {
	case <-l.enough:
	case <-l.timer.C:
	}
	l.mu.Lock()
	l.wanted = 0
	l.mu.Unlock()
	select { // it may have come at the same moment
	case <-l.enough:
	default:
	}
}

// yield lets the callers run while the queue still grows: that makes batches several times larger under load, without a timer.
func (l *lane) yield() {
	grown := -1
	for range 32 {
		l.mu.Lock()
		n := len(l.queue)
		l.mu.Unlock()
		if n == grown || n >= maxBatch {
			return
		}
		grown = n
		runtime.Gosched()
	}
}

// next takes the next batch off the queue.
func (l *lane) next() []*waiter {
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

func (l *lane) commit(batch []*waiter) {
	l.taken.Add(int64(len(batch)))
	entries := make([]*Entry, len(batch))
	answered := false
	for i, w := range batch {
		entries[i] = &w.entry
		answered = answered || w.done == nil
	}
	results, err := l.settle(l.begin(), entries, answered)
	for i, w := range batch {
		<-l.slots
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

// begin names the next batch.
func (l *lane) begin() BatchID {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last.Seq == MaxSeq {
		l.last = BatchID{Boot: NewBoot()}
	}
	l.last.Seq++
	return l.last
}

// settle runs the transaction. After an error it first learns, however long that takes, whether the batch was committed all the same: only a batch
// that was not is tried again, under the same id. What was answered already is tried until the lane gives up, whatever the error.
func (l *lane) settle(id BatchID, entries []*Entry, answered bool) ([]Result, error) {
	balances := distinct(entries)
	var results, earlier []Result
	decide := func(have map[tollkey.BalanceID]int64) Settlement {
		var changed map[tollkey.BalanceID]int64
		results, changed = Settle(have, entries)
		return Settlement{Balances: changed, Data: encodeSettled(entries, results)}
	}
	for wait := firstRetry; ; wait = min(2*wait, retryAtMost) {
		ctx, cancel := l.bounded()
		err := l.store.Settle(ctx, id, balances, decide)
		cancel()
		if err == nil {
			return results, nil
		}
		committed, lookErr := l.committed(id)
		switch {
		case lookErr != nil:
			return nil, errors.Join(err, lookErr)
		case committed && earlier != nil && tollkey.IsReason(err, tollkey.ReasonConflict):
			return earlier, nil // an attempt that was still under way when it was looked for
		case committed:
			return results, nil
		case !temporary(err) && !answered:
			return nil, err
		}
		earlier = results
		select {
		case <-l.work.Done():
			return nil, err
		case <-time.After(wait):
		}
	}
}

// committed asks until the store answers, or the lane gives up.
func (l *lane) committed(id BatchID) (bool, error) {
	for wait := firstRetry; ; wait = min(2*wait, retryAtMost) {
		ctx, cancel := l.bounded()
		ok, err := l.store.Committed(ctx, id)
		cancel()
		if err == nil {
			return ok, nil
		}
		select {
		case <-l.work.Done():
			return false, err
		case <-time.After(wait):
		}
	}
}

// bounded limits a call of a store in another process, which may never answer.
func (l *lane) bounded() (context.Context, context.CancelFunc) {
	if l.inline {
		return l.work, func() {}
	}
	return context.WithTimeout(l.work, attemptFor)
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
