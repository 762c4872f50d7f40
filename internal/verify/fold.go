package verify

import (
	"context"
	"sync"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/ledger"
)

// maxRefusalEvents is how many refusals of one key get an event of their own in a second; the others share one event with a
// count, so that usage stays exact and a flood stays cheap.
const maxRefusalEvents = 100

// foldEvery is how often what was folded is recorded. A killed process loses at most this much of the folded refusals, and nothing else.
const foldEvery = time.Second

// refusalRate counts the refusals of one key in the present second.
type refusalRate struct {
	mu     sync.Mutex
	second int64
	count  int
}

// over counts one refusal and reports whether it is beyond those that get an event.
func (r *refusalRate) over(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := now.Unix(); s != r.second {
		r.second, r.count = s, 0
	}
	r.count++
	return r.count > maxRefusalEvents
}

// folder adds up refusals until they are recorded.
type folder struct {
	mu     *sync.Mutex
	counts map[foldKey]*tollkey.Event
}

type foldKey struct {
	workspace tollkey.WorkspaceID
	key       tollkey.KeyID
	outcome   tollkey.Outcome
}

func newFolder() folder { return folder{mu: new(sync.Mutex), counts: map[foldKey]*tollkey.Event{}} }

// notFound counts a question about a key that does not exist for this caller.
func (f *folder) notFound(ws tollkey.WorkspaceID) {
	f.add(tollkey.Event{Workspace: ws, Outcome: tollkey.OutcomeNotFound, Count: 1})
}

func (f *folder) add(ev tollkey.Event) {
	k := foldKey{ev.Workspace, ev.Key, ev.Outcome}
	f.mu.Lock()
	defer f.mu.Unlock()
	if have := f.counts[k]; have != nil {
		have.Count += ev.Count
		return
	}
	ev.Tags = nil // a count has no tags of its own
	f.counts[k] = &ev
}

func (f *folder) drain() []*tollkey.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	events := make([]*tollkey.Event, 0, len(f.counts))
	for k, ev := range f.counts {
		events = append(events, ev)
		delete(f.counts, k)
	}
	return events
}

// recordRefusal records the refusal of an existing key: by an event of its own, or folded.
func (e *Engine) recordRefusal(ctx context.Context, v *Verification, q *Question, now time.Time) error {
	ev := e.event(v, q, now)
	if v.Subject.refusals.over(now) {
		e.folded.add(ev)
		return nil
	}
	_, err := e.ledger.Commit(ctx, ledger.Entry{Event: ev})
	return err
}

// Run records what is folded, each second, until ctx ends; then a last time.
func (e *Engine) Run(ctx context.Context) {
	tick := time.NewTicker(foldEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			e.recordFolded(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			e.recordFolded(last)
			return
		}
	}
}

func (e *Engine) recordFolded(ctx context.Context) {
	for _, ev := range e.folded.drain() {
		if ev.Time.IsZero() {
			ev.Time = e.now()
		}
		if _, err := e.ledger.Commit(ctx, ledger.Entry{Event: *ev}); err != nil {
			e.folded.add(*ev) // next time
		}
	}
}
