package feed_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/feed"
	"github.com/tollkey/tollkey/internal/store"
)

// What the others may count on, written out: a change of the package's constants is a change of its promise.
const (
	lease     = 3 * time.Second
	dead      = 4 * time.Second
	patience  = 5 * time.Second
	pollEvery = 250 * time.Millisecond
	confirmed = 30 * time.Millisecond // within which Confirm notices an acknowledgement
	instant   = time.Nanosecond
)

func TestAChangeEndsOnlyWhatDependsOnIt(t *testing.T) {
	bubble(t, func(t *testing.T, s *source, n *node) {
		apart := n.apart("key_1")
		one, shared, other, free := n.fill("key_1"), n.fill(apart, "key_1"), n.fill(apart), n.fill()
		s.touch("key_1")
		n.want(one, true, "before the change is applied")
		n.sync()
		n.want(one, false, "it depends on the changed key")
		n.want(shared, false, "it depends on the changed key among others")
		n.want(other, true, "it depends on another key")
		n.want(free, true, "it depends on nothing")
	})
}

func TestAFillBegunBeforeAChangeMayNotPublishAndOneBegunAfterMay(t *testing.T) {
	bubble(t, func(_ *testing.T, s *source, n *node) {
		before := n.fill("key_1") // its read of the store ends after the change
		s.touch("key_1")
		between := n.fill("key_1") // read the change, but this node cannot know that
		n.sync()
		after := n.fill("key_1")
		n.want(before, false, "begun before the commit")
		n.want(between, false, "begun before the change was applied here")
		n.want(after, true, "begun after the change was applied")
		s.touch("key_1")
		n.sync()
		n.want(after, false, "a second change of the key")
	})
}

func TestWhatIsReadAfterStartIsKeptTrue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		s.touch("key_1")
		s.touch("key_1")
		s.prune(1) // a gap before the node's time is none of its business
		n := newNode(t, s, "a", false)
		early := n.fill("key_2")
		n.start()
		n.wantApplied(2, "after Start")
		n.want(early, false, "read before Start")
		e := n.fill("key_1")
		s.touch("key_1")
		n.sync()
		n.want(e, false, "the first change after Start")
		if len(n.learner.ranges) != 0 {
			t.Errorf("Start learned %v; loading the filter is the caller's part", n.learner.ranges)
		}
	})
}

func TestALongBacklogIsAppliedOneByOne(t *testing.T) {
	bubble(t, func(t *testing.T, s *source, n *node) {
		var names []string
		var entries []entry
		for i := range 1201 {
			names = append(names, fmt.Sprint("key_", i))
			entries = append(entries, n.fill(names[i]))
		}
		other := n.fill(n.apart(names...))
		for _, name := range names {
			s.touch(name)
		}
		n.sync()
		for i, e := range entries {
			n.want(e, false, names[i])
		}
		n.want(other, true, "nothing touched it")
		n.wantApplied(1201, "after one Sync")
		if reads := s.count("ChangesAfter"); reads != 3 {
			t.Errorf("%d reads of at most 500 changes, want 3", reads)
		}
	})
}

func TestCreatedKeysAreLearnedBeforeTheirAbsenceEnds(t *testing.T) {
	bubble(t, func(t *testing.T, s *source, n *node) {
		digest := tollkey.Digest{1, 2, 3}
		absent := entry{n.Stamps.Now(), []feed.Cell{n.Stamps.DigestCell(digest[:])}}
		n.learner.onLearn = func() { n.want(absent, true, "when the key is learned") }
		s.commit(tollkey.Change{Kind: tollkey.ChangeCells, Digests: []tollkey.Digest{digest}})
		n.sync()
		n.want(absent, false, "a listed key was created")
		if !slices.Equal(n.learner.digests, []tollkey.Digest{digest}) {
			t.Errorf("learned %v, want the created key", n.learner.digests)
		}
		absent = n.fill("a digest of the range")
		s.commit(tollkey.Change{Kind: tollkey.ChangeCells, FirstKey: "key_1", LastKey: "key_9"})
		n.sync()
		n.want(absent, false, "keys too many to list were created")
		if want := [][2]tollkey.KeyID{{"key_1", "key_9"}}; !slices.Equal(n.learner.ranges, want) {
			t.Errorf("learned the ranges %v, want %v", n.learner.ranges, want)
		}
	})
}

func TestAChangeThatCannotBeLearnedIsNotAppliedAndRenewsNothing(t *testing.T) {
	t.Parallel()
	for name, gap := range map[string]bool{"a range": false, "a gap": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *source, n *node) {
				time.Sleep(time.Second)
				s.commit(tollkey.Change{Kind: tollkey.ChangeCells, FirstKey: "key_1", LastKey: "key_9"})
				if gap {
					s.prune(1)
				}
				n.learner.fails = true
				if err := n.Sync(t.Context()); !errors.Is(err, errDown) {
					t.Errorf("Sync: %v, want %v", err, errDown)
				}
				n.wantApplied(0, "its keys are unknown")
				if r, _ := s.row("a"); r.applied != 0 {
					t.Errorf("change %d is acknowledged, want 0", r.applied)
				}
				time.Sleep(lease - time.Second)
				n.wantHolds(false, "3 s after the last successful Sync")
				n.learner.fails = false
				n.sync()
				n.wantApplied(1, "after the learner recovered")
				n.wantHolds(true, "after the learner recovered")
			})
		})
	}
}

// wantDropped applies what edit does to the source and wants everything gone, then one more change to count singly again.
func wantDropped(t *testing.T, learned int, edit func(s *source)) {
	t.Helper()
	bubble(t, func(t *testing.T, s *source, n *node) {
		for range 5 {
			s.touch("key_old")
		}
		n.sync()
		apart := n.apart("key_1", "key_old")
		touched, other, free := n.fill("key_1"), n.fill(apart), n.fill()
		edit(s)
		n.sync()
		n.want(touched, false, "touched")
		n.want(other, false, "unrelated to any change")
		n.want(free, false, "without dependencies")
		n.wantApplied(s.head.Number, "the node goes on from the head")
		if r, _ := s.row("a"); r.applied != s.head.Number {
			t.Errorf("change %d is acknowledged, want %d", r.applied, s.head.Number)
		}
		if len(n.learner.ranges) != learned || (learned == 1 && n.learner.ranges[0] != [2]tollkey.KeyID{}) {
			t.Errorf("learned %v; want everything, %d times", n.learner.ranges, learned)
		}
		one, other := n.fill("key_1"), n.fill(apart)
		s.touch("key_1")
		n.sync()
		n.want(one, false, "the next change")
		n.want(other, true, "unrelated to the next change")
	})
}

func TestAGapDropsTheWholeCache(t *testing.T) {
	t.Parallel()
	for name, gone := range map[string][]int64{"the next": {6}, "all but the last": {6, 7}, "all": {6, 7, 8}} {
		t.Run(name, func(t *testing.T) {
			wantDropped(t, 1, func(s *source) {
				for range 3 {
					s.touch("key_1")
				}
				s.prune(gone...)
			})
		})
	}
}

// Changes are pruned by the time at which their transactions began, which need not rise with their numbers.
func TestAGapBehindTheNextChangeDropsTheWholeCache(t *testing.T) {
	wantDropped(t, 1, func(s *source) {
		for range 3 {
			s.touch("key_1")
		}
		s.prune(7)
	})
}

func TestARestoreDropsTheWholeCache(t *testing.T) {
	t.Parallel()
	for name, head := range map[string]store.Head{
		"the counter went back":                {Number: 3, Epoch: "first"},
		"the counter went back to nothing":     {Number: 0, Epoch: "first"},
		"another epoch, the counter went back": {Number: 3, Epoch: "second"},
		"another epoch at the same number":     {Number: 5, Epoch: "second"},
	} {
		t.Run(name, func(t *testing.T) {
			wantDropped(t, 1, func(s *source) {
				s.head = head
				s.changes = s.changes[:head.Number]
			})
		})
	}
	// Its next numbers look like a continuation, but what came before them is another history.
	t.Run("another epoch that has gone on", func(t *testing.T) {
		wantDropped(t, 1, func(s *source) {
			s.head.Epoch = "second"
			s.touch("key_1")
		})
	})
}

func TestAnUnknownKindOfChangeDropsTheWholeCache(t *testing.T) {
	t.Parallel()
	for _, kind := range []tollkey.ChangeKind{"of a later version", "", tollkey.ChangeFlush} {
		t.Run(fmt.Sprintf("%q", kind), func(t *testing.T) {
			learned := 1 // all keys anew, since the change may have created some
			if kind == tollkey.ChangeFlush {
				learned = 0
			}
			wantDropped(t, learned, func(s *source) {
				s.touch("key_1")
				s.commit(tollkey.Change{Kind: kind, Cells: []string{"key_1"}})
				s.touch("key_1")
			})
		})
	}
}

func TestTheLeaseRunsFromTheStartOfTheHeartbeat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		n := newNode(t, s, "a", false)
		n.wantHolds(false, "before Start")
		s.slow = time.Second
		n.start() // returns a second later
		time.Sleep(lease - time.Second - instant)
		n.wantHolds(true, "just within 3 s of the heartbeat's start")
		time.Sleep(instant)
		n.wantHolds(false, "3 s after the heartbeat's start, 2 s after its end")
		s.slow = lease
		if err := n.Ensure(t.Context()); !tollkey.IsReason(err, tollkey.ReasonUnavailable) {
			t.Errorf("Ensure with a heartbeat slower than the lease: %v, want unavailable", err)
		}
		n.wantHolds(false, "after a heartbeat slower than the lease")
	})
}

func TestEnsureAsksTheStoreOnlyWithoutALease(t *testing.T) {
	bubble(t, func(t *testing.T, s *source, n *node) {
		ensure := func(beats int, when string) {
			t.Helper()
			if err := n.Ensure(t.Context()); err != nil {
				t.Errorf("%s: Ensure: %v", when, err)
			}
			if got := s.count("Heartbeat"); got != beats {
				t.Errorf("%s: %d heartbeats, want %d", when, got, beats)
			}
			n.wantHolds(true, when)
		}
		time.Sleep(lease - instant)
		ensure(1, "while the lease holds")
		e := n.fill("key_1")
		s.touch("key_1") // unseen by a node that was frozen
		time.Sleep(instant)
		ensure(2, "when the lease has ended")
		n.want(e, false, "changed while the node was out of touch")
		time.Sleep(lease)
		s.down["Heartbeat"] = true
		if err := n.Ensure(t.Context()); !errors.Is(err, errDown) {
			t.Errorf("Ensure without lease and store: %v, want %v", err, errDown)
		}
	})
}

func TestOnlyAHeartbeatRenewsTheLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		n := newNode(t, s, "a", false)
		n.run()
		s.set(func() { s.down["Heartbeat"] = true })
		time.Sleep(2900 * time.Millisecond)
		number := s.touch("key_1") // by a wake-up, by polls, and by a confirmation the feed is read all the while
		if p := n.Confirm(t.Context(), number); !p.Confirmed {
			t.Errorf("a node without heartbeats did not confirm its own change: %+v", p)
		}
		n.wantApplied(number, "without heartbeats")
		n.wantHolds(true, "2.9 s after the last successful heartbeat")
		time.Sleep(100 * time.Millisecond)
		n.wantHolds(false, "3 s after the last successful heartbeat")
		time.Sleep(10 * time.Second)
		n.wantHolds(false, "after 10 s of polls")
		if heads := s.count("Head"); heads < 40 {
			t.Errorf("%d polls in 13 s, want 4 a second", heads)
		}
		s.set(func() { s.down["Heartbeat"] = false })
		time.Sleep(1100 * time.Millisecond)
		n.wantHolds(true, "after the next heartbeat")
	})
}

func TestAFollowingNodeAlwaysHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, newSource(), "a", false)
		n.run()
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(90 * time.Millisecond) {
			if !n.Holds() {
				t.Fatalf("the lease lapsed %v before the minute's end", time.Until(end))
			}
		}
	})
}

func TestANodeThatLeavesHoldsNothingAndIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		a, b := newNode(t, s, "a", false).start(), newNode(t, s, "b", false)
		stop := b.run()
		stop()
		b.wantHolds(false, "after it left")
		if _, listed := s.row("b"); listed {
			t.Error("the node is still listed")
		}
		if p := a.Confirm(t.Context(), s.touch("key_1")); !p.Confirmed || p.Took > confirmed {
			t.Errorf("%+v, want confirmed at once", p)
		}
	})
}

func TestConfirmedMeansThatNoNodeAnswersFromBefore(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		quiet  bool
		within time.Duration
	}{"woken": {false, confirmed}, "polling": {true, pollEvery + confirmed}} {
		t.Run(name, func(t *testing.T) {
			cluster(t, func(t *testing.T, s *source, nodes []*node) {
				s.set(func() { s.quiet = c.quiet })
				var entries []entry
				for _, n := range nodes {
					entries = append(entries, n.fill("key_1"))
				}
				p := nodes[0].Confirm(t.Context(), s.touch("key_1"))
				for i, n := range nodes {
					n.want(entries[i], false, fmt.Sprint("when confirmed, on node ", i))
				}
				if !p.Confirmed || p.Nodes != 3 || len(p.Silent) != 0 || p.Took > c.within {
					t.Errorf("%+v, want 3 nodes confirmed within %v", p, c.within)
				}
			})
		})
	}
}

func TestConfirmGivesUpOnASilentNode(t *testing.T) {
	cluster(t, func(t *testing.T, s *source, nodes []*node) {
		s.stuck("mute", 0)
		start := time.Now()
		p := nodes[0].Confirm(t.Context(), s.touch("key_1"))
		if took := time.Since(start); p.Confirmed || took != patience || p.Took != took {
			t.Errorf("%+v after %v, want not confirmed after %v", p, took, patience)
		}
	})
}

func TestConfirmNamesASilentNode(t *testing.T) {
	cluster(t, func(t *testing.T, s *source, nodes []*node) {
		s.stuck("mute", 0)
		p := nodes[0].Confirm(t.Context(), s.touch("key_1"))
		if p.Confirmed || p.Nodes != 3 || !slices.Equal(p.Silent, []string{"mute"}) {
			t.Errorf("%+v, want 3 nodes and mute named", p)
		}
	})
}

func TestConfirmDoesNotWaitForADeadNode(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ silentFor, wait time.Duration }{
		"dead before":        {dead, 0},
		"long dead":          {time.Hour, 0},
		"dies meanwhile":     {dead - 500*time.Millisecond, 500 * time.Millisecond},
		"has just been seen": {0, dead},
	} {
		t.Run(name, func(t *testing.T) {
			cluster(t, func(t *testing.T, s *source, nodes []*node) {
				s.set(func() { s.nodes["frozen"] = row{seen: time.Now().Add(-c.silentFor)} })
				p := nodes[0].Confirm(t.Context(), s.touch("key_1"))
				if !p.Confirmed || p.Nodes != 3 || len(p.Silent) != 0 {
					t.Errorf("%+v, want 3 nodes confirmed", p)
				}
				if p.Took < c.wait || p.Took > c.wait+confirmed {
					t.Errorf("it took %v, want %v until the node was dead", p.Took, c.wait)
				}
			})
		})
	}
}

// A frozen process still has its cache when it wakes; that it may not use it is what lets the others go on.
func TestAFrozenNodeIsWithoutLeaseWhenTheOthersConfirm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		a, frozen := newNode(t, s, "a", false), newNode(t, s, "frozen", false)
		s.slow = 500 * time.Millisecond
		frozen.start()
		s.slow = 0
		a.run()
		e := frozen.fill("key_1")
		if p := a.Confirm(t.Context(), s.touch("key_1")); !p.Confirmed {
			t.Fatalf("%+v, want confirmed when the frozen node is dead", p)
		}
		frozen.want(e, true, "it applied nothing") // so the lease is all that keeps it from a stale answer
		frozen.wantHolds(false, "when the change is confirmed")
		if err := frozen.Ensure(t.Context()); err != nil {
			t.Error(err)
		}
		frozen.want(e, false, "with its new lease")
	})
}

func TestConfirmOutlivesItsCaller(t *testing.T) {
	cluster(t, func(t *testing.T, s *source, nodes []*node) {
		s.set(func() { s.quiet = true })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if p := nodes[0].Confirm(ctx, s.touch("key_1")); !p.Confirmed || p.Nodes != 3 {
			t.Errorf("%+v, want 3 nodes confirmed for a caller who left", p)
		}
	})
}

func TestConfirmNeverFailsWithTheStore(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"Head", "ChangesAfter", "Nodes"} {
		t.Run(method, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *source, n *node) {
				number := s.touch("key_1")
				s.down[method] = true
				p := n.Confirm(t.Context(), number)
				if p.Confirmed || p.Took != patience {
					t.Errorf("%+v, want not confirmed after %v", p, patience)
				}
				if self := []string{"a"}; method != "Nodes" && !slices.Equal(p.Silent, self) {
					t.Errorf("%v are silent, want %v, which has not applied it", p.Silent, self)
				}
				time.AfterFunc(time.Second, func() { s.set(func() { s.down[method] = false }) })
				if p = n.Confirm(t.Context(), number); !p.Confirmed || p.Took > time.Second+confirmed {
					t.Errorf("%+v, want confirmed when the store is back after 1 s", p)
				}
			})
		})
	}
}

func TestASoloNodeWaitsForNobodyAndAcknowledgesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		n := newNode(t, s, "a", true)
		n.run()
		s.stuck("an earlier boot", 0)
		e := n.fill("key_1")
		p := n.Confirm(t.Context(), s.touch("key_1"))
		if !p.Confirmed || p.Nodes != 1 || p.Took != 0 {
			t.Errorf("%+v, want 1 node confirmed at once", p)
		}
		n.want(e, false, "when confirmed")
		if acks, lists := s.count("Acknowledge"), s.count("Nodes"); acks+lists != 0 {
			t.Errorf("%d acknowledgements and %d lists of nodes, want none", acks, lists)
		}
	})
}

func TestAWakeUpBringsAChangeAtOnce(t *testing.T) {
	cluster(t, func(t *testing.T, s *source, nodes []*node) {
		e := nodes[1].fill("key_1")
		start := time.Now()
		number := s.touch("key_1")
		synctest.Wait() // runs what can run, without time
		nodes[1].want(e, false, "after the wake-up")
		if r, _ := s.row("b"); r.applied != number {
			t.Errorf("change %d is acknowledged after the wake-up, want %d", r.applied, number)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %v, want no time", took)
		}
	})
}

func TestThePollBringsAChangeWithoutAWakeUp(t *testing.T) {
	cluster(t, func(t *testing.T, s *source, nodes []*node) {
		s.set(func() { s.quiet = true })
		e := nodes[1].fill("key_1")
		number := s.touch("key_1")
		synctest.Wait()
		nodes[1].want(e, true, "nothing told the node yet")
		beats := s.count("Heartbeat")
		time.Sleep(pollEvery)
		synctest.Wait()
		nodes[1].want(e, false, "after one poll's time")
		if r, _ := s.row("b"); r.applied != number {
			t.Errorf("change %d is acknowledged after the poll, want %d", r.applied, number)
		}
		if got := s.count("Heartbeat"); got != beats {
			t.Errorf("%d heartbeats brought it, want the poll to", got-beats)
		}
	})
}

func TestTheNodeFollowsOnAfterItsStoreWasDown(t *testing.T) {
	cluster(t, func(_ *testing.T, s *source, nodes []*node) {
		e := nodes[1].fill("key_1")
		s.set(func() { s.down["Head"], s.down["Heartbeat"] = true, true })
		number := s.touch("key_1")
		time.Sleep(10 * time.Second)
		nodes[1].wantHolds(false, "without a store")
		s.set(func() { s.down["Head"], s.down["Heartbeat"] = false, false })
		time.Sleep(time.Second)
		nodes[1].wantHolds(true, "a second after the store is back")
		nodes[1].wantApplied(number, "a second after the store is back")
		nodes[1].want(e, false, "changed meanwhile")
	})
}

// TestARestoreIsNotTakenForProgress: a node that has applied more of the history before a restore than there is now has applied nothing of the new one.
func TestARestoreIsNotTakenForProgress(t *testing.T) {
	cluster(t, func(t *testing.T, s *source, nodes []*node) {
		s.stuck("behind", 100)
		s.set(func() {
			r := s.nodes["behind"]
			r.epoch = "an earlier one"
			s.nodes["behind"] = r
		})
		if p := nodes[0].Confirm(t.Context(), s.touch("key_1")); p.Confirmed || !slices.Equal(p.Silent, []string{"behind"}) {
			t.Errorf("%+v, want behind named", p)
		}
	})
}
