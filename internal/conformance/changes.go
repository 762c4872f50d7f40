package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

func digests(t *testing.T, s store.Store) {
	seed(t, s)
	ctx := t.Context()
	update(t, s, func(tx store.Tx) error {
		return errors.Join(tx.CreateKeys(ctx, []*tollkey.Key{key("key_1"), key("key_2"), key("key_3"), key("key_4")}), tx.CreateRootKey(ctx, rootKey("key_2r", foreign)))
	})
	for _, c := range []struct {
		first, last tollkey.KeyID
		want        []string
	}{
		{"", "", []string{"key_1", "key_2", "key_3", "key_4", "key_2r"}},
		{"key_2", "key_3", []string{"key_2", "key_3"}},
		{"key_4", "key_4", []string{"key_4"}},
		{"key_5", "key_9", nil},
	} {
		got := map[tollkey.Digest]bool{}
		err := s.Digests(ctx, c.first, c.last, func(list []tollkey.Digest) error {
			for _, d := range list {
				got[d] = true
			}
			return nil
		})
		for _, id := range c.want {
			if !got[digest(id)] {
				t.Errorf("%+v: %s is missing", c, id)
			}
		}
		if err != nil || len(got) != len(c.want) {
			t.Errorf("%+v: %d in all: %v", c, len(got), err)
		}
	}
	refused := errors.New("refused")
	if err := s.Digests(ctx, "", "", func([]tollkey.Digest) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("a refused slice: %v", err)
	}
}

// changes: the parts of a transaction are one change, read back as they were announced, in pages.
func changes(t *testing.T, s store.Store) {
	ctx := t.Context()
	first := update(t, s, func(tx store.Tx) error {
		tx.Announce(store.Announcement{Cells: []string{"key_2", "key_1"}})
		tx.Announce(store.Announcement{Cells: []string{"key_1"}, Digests: []tollkey.Digest{digest("key_3")}, Keys: []tollkey.KeyID{"key_3"}})
		return nil
	})
	second := update(t, s, func(tx store.Tx) error {
		tx.Announce(store.Announcement{Flush: true})
		tx.Announce(store.Announcement{Cells: []string{"key_1"}})
		return nil
	})
	third := update(t, s, func(tx store.Tx) error {
		tx.Announce(store.Announcement{})
		return nil
	})
	if first != 1 || second != 2 || third != 3 {
		t.Fatal(first, second, third)
	}
	all, err := s.ChangesAfter(ctx, 0, 100)
	if err != nil || len(all) != 3 {
		t.Fatal(all, err)
	}
	c := all[0]
	if !slices.Equal(c.Cells, []string{"key_1", "key_2"}) || len(c.Digests) != 1 || c.Digests[0] != digest("key_3") || c.FirstKey != "" ||
		c.Kind != tollkey.ChangeCells || !c.Time.Equal(now) {
		t.Errorf("%+v", c)
	}
	if all[1].Kind != tollkey.ChangeFlush {
		t.Errorf("%+v", all[1])
	}
	for _, c := range []struct {
		after int64
		limit int
		want  string
	}{{0, 2, "[1 2]"}, {1, 1, "[2]"}, {2, 9, "[3]"}, {3, 9, "[]"}} {
		page, err := s.ChangesAfter(ctx, c.after, c.limit)
		numbers := []int64{}
		for i := range page {
			numbers = append(numbers, page[i].Number)
		}
		if err != nil || fmt.Sprint(numbers) != c.want {
			t.Errorf("%+v: %v %v", c, numbers, err)
		}
	}
	one, err := s.Head(ctx)
	two, err2 := s.Head(ctx)
	if one.Number != 3 || one.Epoch == "" || one != two {
		t.Errorf("%+v %+v %v", one, two, errors.Join(err, err2))
	}
}

// concurrentChanges: numbers have no gaps, and a refused transaction takes none.
func concurrentChanges(t *testing.T, s store.Store) {
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			fail := errors.New("no")
			_, err := s.Update(context.Background(), now, func(tx store.Tx) error {
				tx.Announce(store.Announcement{Cells: []string{fmt.Sprint("key_", i)}})
				if i%4 == 0 {
					return fail
				}
				return nil
			})
			if i%4 == 0 && !errors.Is(err, fail) || i%4 != 0 && err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	list, err := s.ChangesAfter(t.Context(), 0, 100)
	if err != nil || len(list) != 24 {
		t.Fatal(len(list), err)
	}
	for i, c := range list {
		if c.Number != int64(i+1) || c.Kind != tollkey.ChangeCells || len(c.Cells) != 1 {
			t.Errorf("%+v", c)
		}
	}
	head, err := s.Head(t.Context())
	if err != nil || head.Number != 24 {
		t.Error(head, err)
	}
}

// rangeOfKeys: more created keys than a change may list are announced by their range, within which all can be learned.
func rangeOfKeys(t *testing.T, s store.Store) {
	seed(t, s)
	var keys []*tollkey.Key
	var a store.Announcement
	for i := range 101 {
		k := key(fmt.Sprintf("key_%03d", (i+50)%101))
		keys = append(keys, k)
		a.Keys, a.Digests = append(a.Keys, k.ID), append(a.Digests, k.Digest)
	}
	announce := func(n int) tollkey.Change {
		number := update(t, s, func(tx store.Tx) error {
			tx.Announce(store.Announcement{Keys: a.Keys[:n/2], Digests: a.Digests[:n/2]})
			tx.Announce(store.Announcement{Keys: a.Keys[n/2 : n], Digests: a.Digests[n/2 : n]})
			return nil
		})
		list, err := s.ChangesAfter(t.Context(), number-1, 1)
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		return list[0]
	}
	if c := announce(100); len(c.Digests) != 100 || c.FirstKey != "" {
		t.Errorf("of 100: %+v", c)
	}
	c := announce(101)
	if c.FirstKey != "key_000" || c.LastKey != "key_100" {
		t.Errorf("of 101: %+v", c)
	}
	update(t, s, func(tx store.Tx) error { return tx.CreateKeys(t.Context(), keys) })
	learned := 0
	err := s.Digests(t.Context(), c.FirstKey, c.LastKey, func(d []tollkey.Digest) error { learned += len(d); return nil })
	if err != nil || learned != 101 {
		t.Errorf("%d learned of a range of 101: %v", learned, err)
	}
}

func pruneChanges(t *testing.T, s store.Store) {
	ctx := t.Context()
	for _, age := range []time.Duration{3 * time.Hour, 2 * time.Hour, 2 * time.Hour, 0} {
		_, err := s.Update(ctx, time.Now().Add(-age), func(tx store.Tx) error { tx.Announce(store.Announcement{Cells: []string{"x"}}); return nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Heartbeat(ctx, store.Node{ID: "n"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		age                time.Duration
		limit              int
		pruned, left, live int
	}{
		{4 * time.Hour, 9, 0, 4, 1}, {time.Hour, 1, 1, 3, 1}, {time.Hour, 9, 2, 1, 1}, {time.Hour, 9, 0, 1, 1}, {-time.Hour, 9, 1, 0, 0},
	} {
		n, err := s.PruneChanges(ctx, c.age, c.limit)
		left, err2 := s.ChangesAfter(ctx, 0, 9)
		live, err3 := s.Nodes(ctx)
		if err := errors.Join(err, err2, err3); err != nil || n != c.pruned || len(left) != c.left || len(live) != c.live {
			t.Errorf("%+v: %d pruned, %d left, %d nodes: %v", c, n, len(left), len(live), err)
		}
		for i := range left { // a hole in the feed would never be filled
			if left[i].Number != int64(4-len(left)+i+1) {
				t.Errorf("not the oldest were pruned: %+v", left)
			}
		}
	}
	if head, err := s.Head(ctx); err != nil || head.Number != 4 {
		t.Errorf("the head moved: %+v %v", head, err)
	}
}

func nodes(t *testing.T, s store.Store) {
	ctx := t.Context()
	update(t, s, func(tx store.Tx) error { tx.Announce(store.Announcement{}); return nil })
	for _, id := range []string{"b", "a", "b"} {
		if head, err := s.Heartbeat(ctx, store.Node{ID: id, Applied: 3, Epoch: "e"}); err != nil || head.Number != 1 || head.Epoch == "" {
			t.Fatal(head, err)
		}
	}
	for _, id := range []string{"a", "unknown"} {
		if err := s.Acknowledge(ctx, store.Node{ID: id, Applied: 7, Epoch: "f"}); err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.Nodes(ctx)
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v %v", list, err)
	}
	slices.SortFunc(list, func(a, b store.NodeStatus) int { return int(b.Applied - a.Applied) })
	if list[0].Node != (store.Node{ID: "a", Applied: 7, Epoch: "f"}) || list[1].Node != (store.Node{ID: "b", Applied: 3, Epoch: "e"}) ||
		list[0].Age < 0 || list[0].Age > time.Minute {
		t.Errorf("%+v", list)
	}
	if err := errors.Join(s.RemoveNode(ctx, "a"), s.RemoveNode(ctx, "unknown")); err != nil {
		t.Error(err)
	}
	if list, err = s.Nodes(ctx); err != nil || len(list) != 1 || list[0].ID != "b" {
		t.Errorf("%+v %v", list, err)
	}
}

func watch(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	heard := s.Watch(ctx)
	for range 3 { // never blocks, heard or not
		update(t, s, func(tx store.Tx) error { tx.Announce(store.Announcement{}); return nil })
	}
	deadline := time.After(10 * time.Second)
	select {
	case <-heard:
	case <-deadline:
		t.Fatal("nothing was heard")
	}
	cancel()
	for open := true; open; {
		select {
		case _, open = <-heard:
		case <-deadline:
			t.Fatal("the channel was not closed")
		}
	}
}

func lease(t *testing.T, s store.Store) {
	ctx := t.Context()
	take := func(name, holder string, ttl time.Duration, want bool) {
		t.Helper()
		if held, err := s.Lease(ctx, name, holder, ttl); err != nil || held != want {
			t.Errorf("%s for %s: %v %v", name, holder, held, err)
		}
	}
	take("roller", "a", time.Hour, true)
	take("roller", "b", time.Hour, false)
	take("other", "b", time.Hour, true)
	take("roller", "a", -time.Hour, true) // renewed, and over already
	take("roller", "b", time.Hour, true)
	take("roller", "a", time.Hour, false)
	if err := s.Release(ctx, "roller", "a"); err != nil { // it is not a's
		t.Error(err)
	}
	take("roller", "a", time.Hour, false)
	if err := s.Release(ctx, "roller", "b"); err != nil {
		t.Error(err)
	}
	take("roller", "a", time.Hour, true)

	held := make(chan bool, 16)
	var wg sync.WaitGroup
	for i := range cap(held) {
		wg.Go(func() {
			ok, err := s.Lease(ctx, "contended", fmt.Sprint(i), time.Hour)
			if err != nil {
				t.Error(err)
			}
			held <- ok
		})
	}
	wg.Wait()
	close(held)
	winners := 0
	for ok := range held {
		if ok {
			winners++
		}
	}
	if winners != 1 {
		t.Errorf("%d hold one lease", winners)
	}
}
