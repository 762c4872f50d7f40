package feed_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/feed"
	"github.com/tollkey/tollkey/internal/store"
)

var errDown = errors.New("the store is down")

// source is a store.Changes in memory, on the bubble's clock. Like a real store it refuses a context that has ended.
type source struct {
	mu      sync.Mutex
	head    store.Head
	changes []tollkey.Change
	nodes   map[string]row
	bells   []chan struct{}
	quiet   bool            // commits ring no bell
	down    map[string]bool // methods that fail
	slow    time.Duration   // how long a heartbeat takes after it was written
	calls   map[string]int
}

type row struct {
	applied int64
	epoch   string
	seen    time.Time
	beating bool // seen is always now
}

func newSource() *source {
	return &source{head: store.Head{Epoch: "first"}, nodes: map[string]row{}, down: map[string]bool{}, calls: map[string]int{}}
}

// enter begins a call of method; what it locks stays locked when it returns nil.
func (s *source) enter(ctx context.Context, method string) error {
	s.mu.Lock()
	s.calls[method]++
	err := ctx.Err()
	if s.down[method] {
		err = errDown
	}
	if err != nil {
		s.mu.Unlock()
	}
	return err
}

func (s *source) Head(ctx context.Context) (store.Head, error) {
	if err := s.enter(ctx, "Head"); err != nil {
		return store.Head{}, err
	}
	defer s.mu.Unlock()
	return s.head, nil
}

func (s *source) ChangesAfter(ctx context.Context, after int64, limit int) ([]tollkey.Change, error) {
	if err := s.enter(ctx, "ChangesAfter"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var out []tollkey.Change
	for _, c := range s.changes {
		if c.Number > after && len(out) < limit {
			out = append(out, c)
		}
	}
	return out, nil
}

func (s *source) Heartbeat(ctx context.Context, n store.Node) (store.Head, error) {
	if err := s.enter(ctx, "Heartbeat"); err != nil {
		return store.Head{}, err
	}
	s.nodes[n.ID] = row{applied: n.Applied, epoch: n.Epoch, seen: time.Now()}
	slow := s.slow
	s.mu.Unlock()
	if slow > 0 {
		time.Sleep(slow) // of the bubble's time
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.head, nil
}

func (s *source) Acknowledge(ctx context.Context, n store.Node) error {
	if err := s.enter(ctx, "Acknowledge"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if r, ok := s.nodes[n.ID]; ok {
		r.applied, r.epoch = n.Applied, n.Epoch
		s.nodes[n.ID] = r
	}
	return nil
}

func (s *source) Nodes(ctx context.Context) ([]store.NodeStatus, error) {
	if err := s.enter(ctx, "Nodes"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var out []store.NodeStatus
	for id, r := range s.nodes {
		age := time.Since(r.seen)
		if r.beating {
			age = 0
		}
		out = append(out, store.NodeStatus{Node: store.Node{ID: id, Applied: r.applied, Epoch: r.epoch}, Age: age})
	}
	slices.SortFunc(out, func(a, b store.NodeStatus) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

func (s *source) RemoveNode(ctx context.Context, id string) error {
	if err := s.enter(ctx, "RemoveNode"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	delete(s.nodes, id)
	return nil
}

func (s *source) Watch(ctx context.Context) <-chan struct{} {
	ch := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bells = append(s.bells, ch)
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.bells = slices.DeleteFunc(s.bells, func(b chan struct{}) bool { return b == ch })
		close(ch)
	})
	return ch
}

func (s *source) PruneChanges(context.Context, time.Duration, int) (int, error) {
	panic("a follower prunes nothing")
}

// commit appends a change, rings, and returns its number.
func (s *source) commit(c tollkey.Change) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.head.Number++
	c.Number, c.Time = s.head.Number, time.Now()
	s.changes = append(s.changes, c)
	for _, bell := range s.bells {
		if s.quiet {
			continue
		}
		select {
		case bell <- struct{}{}:
		default:
		}
	}
	return c.Number
}

func (s *source) touch(names ...string) int64 {
	return s.commit(tollkey.Change{Kind: tollkey.ChangeCells, Cells: names})
}

// prune deletes the changes with these numbers.
func (s *source) prune(numbers ...int64) {
	s.set(func() {
		s.changes = slices.DeleteFunc(s.changes, func(c tollkey.Change) bool { return slices.Contains(numbers, c.Number) })
	})
}

func (s *source) set(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
}

func (s *source) count(method string) (n int) {
	s.set(func() { n = s.calls[method] })
	return n
}

func (s *source) row(id string) (r row, ok bool) {
	s.set(func() { r, ok = s.nodes[id] })
	return r, ok
}

// stuck lists a node that lives but applies nothing.
func (s *source) stuck(id string, applied int64) {
	s.set(func() { s.nodes[id] = row{applied: applied, epoch: s.head.Epoch, beating: true} })
}

// learner notes what it is told. A test that sets its fields does so while nothing follows.
type learner struct {
	digests []tollkey.Digest
	ranges  [][2]tollkey.KeyID
	fails   bool
	onLearn func()
}

func (l *learner) Learn(digests []tollkey.Digest) {
	l.digests = append(l.digests, digests...)
	if l.onLearn != nil {
		l.onLearn()
	}
}

func (l *learner) LearnRange(_ context.Context, first, last tollkey.KeyID) error {
	if l.onLearn != nil {
		l.onLearn()
	}
	if l.fails {
		return errDown
	}
	l.ranges = append(l.ranges, [2]tollkey.KeyID{first, last})
	return nil
}

// node is a Follower with a test's view of what its cache would do.
type node struct {
	*feed.Follower
	t       *testing.T
	source  *source
	learner *learner
}

// entry stands for a cached value: what a fill notes before it reads.
type entry struct {
	asOf  uint64
	cells []feed.Cell
}

func newNode(t *testing.T, s *source, id string, solo bool) *node {
	l := &learner{}
	return &node{
		Follower: feed.NewFollower(feed.Options{Store: s, Node: id, Solo: solo, Learner: l, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}),
		t:        t, source: s, learner: l,
	}
}

func (n *node) fill(names ...string) entry {
	e := entry{asOf: n.Stamps.Now()}
	for _, name := range names {
		e.cells = append(e.cells, n.Stamps.Cell(name))
	}
	return e
}

func (n *node) want(e entry, valid bool, why string) {
	n.t.Helper()
	if got := n.Stamps.Valid(e.asOf, e.cells); got != valid {
		n.t.Errorf("%s: the entry may be used: %v, want %v", why, got, valid)
	}
}

// apart returns a name that shares no cell with names, since cells are hashes with a seed.
func (n *node) apart(names ...string) string {
	for i := 0; ; i++ {
		candidate := fmt.Sprint("key_apart", i)
		if !slices.ContainsFunc(names, func(name string) bool { return n.Stamps.Cell(name) == n.Stamps.Cell(candidate) }) {
			return candidate
		}
	}
}

func (n *node) start() *node {
	n.t.Helper()
	if err := n.Start(n.t.Context()); err != nil {
		n.t.Fatalf("Start: %v", err)
	}
	return n
}

func (n *node) sync() {
	n.t.Helper()
	if err := n.Sync(n.t.Context()); err != nil {
		n.t.Fatalf("Sync: %v", err)
	}
}

// run starts and follows until the returned function is called, at the latest at the test's end.
func (n *node) run() (stop func()) {
	n.t.Helper()
	n.start()
	ctx, cancel := context.WithCancel(n.t.Context())
	var running sync.WaitGroup
	running.Go(func() { n.Run(ctx) })
	stop = func() { cancel(); running.Wait() }
	n.t.Cleanup(stop)
	synctest.Wait()
	return stop
}

func (n *node) wantHolds(held bool, when string) {
	n.t.Helper()
	if n.Holds() != held {
		n.t.Errorf("%s: Holds is %v, want %v", when, !held, held)
	}
}

func (n *node) wantApplied(want int64, when string) {
	n.t.Helper()
	if got := n.Applied(); got != want {
		n.t.Errorf("%s: change %d is applied, want %d", when, got, want)
	}
}

// bubble runs fn with a source and one started node, on virtual time.
func bubble(t *testing.T, fn func(t *testing.T, s *source, n *node)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		fn(t, s, newNode(t, s, "a", false).start())
	})
}

// cluster runs nodes a, b and c on one source.
func cluster(t *testing.T, fn func(t *testing.T, s *source, nodes []*node)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		var nodes []*node
		for _, id := range []string{"a", "b", "c"} {
			n := newNode(t, s, id, false)
			n.run()
			nodes = append(nodes, n)
		}
		time.Sleep(10 * time.Millisecond) // off the ticks
		fn(t, s, nodes)
	})
}
