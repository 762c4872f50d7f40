package conformance

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// putNamespaces makes namespaces and returns their ids by name.
func putNamespaces(t *testing.T, s store.Store, w tollkey.WorkspaceID, names ...string) map[string]tollkey.NamespaceID {
	t.Helper()
	ids := map[string]tollkey.NamespaceID{}
	update(t, s, func(tx store.Tx) error {
		created, err := tx.PutNamespaces(t.Context(), w, names)
		for _, n := range created {
			ids[n.Name] = n.ID
		}
		return err
	})
	return ids
}

func namespaces(t *testing.T, s store.Store) {
	seed(t, s)
	ctx := t.Context()
	ids := putNamespaces(t, s, ws, "b", "a", "b")
	if len(ids) != 2 {
		t.Fatal(ids)
	}
	again := putNamespaces(t, s, ws, "a", string(ids["a"]), "gone") // one is named as another's id is
	if len(again) != 2 {
		t.Fatal(again)
	}
	update(t, s, func(tx store.Tx) error { return tx.DeleteNamespace(ctx, ws, again["gone"]) })
	if made := putNamespaces(t, s, ws, "gone"); len(made) != 0 {
		t.Errorf("the name of a deleted namespace was given again: %v", made)
	}
	for _, c := range []struct {
		ws       tollkey.WorkspaceID
		nameOrID string
		want     tollkey.NamespaceID
		deleted  bool
	}{
		{ws, "a", ids["a"], false},
		{ws, string(ids["a"]), ids["a"], false},
		{ws, string(ids["b"]), ids["b"], false},
		{ws, "gone", again["gone"], true},
		{ws, "nothing", "", false},
		{ws, "A", "", false},
		{foreign, "a", "", false},
		{foreign, string(ids["a"]), "", false},
	} {
		record, err := s.Namespace(ctx, c.ws, c.nameOrID)
		if err != nil || (record == nil) != (c.want == "") || record != nil && (record.ID != c.want || record.Deleted != c.deleted || record.Workspace != ws) {
			t.Errorf("%+v: %+v %v", c, record, err)
		}
		err = s.View(ctx, func(r store.Reader) error {
			n, err := r.Namespace(ctx, c.ws, c.nameOrID)
			if err == nil && (n.ID != c.want || n.Deleted != c.deleted || !n.CreatedAt.Equal(now)) {
				t.Errorf("%+v: %+v", c, n)
			}
			return err
		})
		if c.want == "" {
			wantError(t, c.nameOrID, err, tollkey.CodeNotFound, tollkey.ReasonNamespaceNotFound)
		} else if err != nil {
			t.Error(err)
		}
	}
	for what, at := range map[string]struct {
		ws tollkey.WorkspaceID
		id tollkey.NamespaceID
	}{"again": {ws, again["gone"]}, "from another workspace": {foreign, ids["a"]}, "of nothing": {ws, "rlns_0"}} {
		_, err := s.Update(ctx, now, func(tx store.Tx) error { return tx.DeleteNamespace(ctx, at.ws, at.id) })
		wantError(t, "DeleteNamespace "+what, err, tollkey.CodeNotFound, tollkey.ReasonNamespaceNotFound)
	}
	view(t, s, func(r store.Reader) error {
		all, err := r.ListNamespaces(ctx, ws, store.Page{Limit: 9})
		if err != nil || len(all) != 3 || all[0].ID >= all[1].ID || all[1].ID >= all[2].ID {
			return fmt.Errorf("%+v: %w", all, err)
		}
		second, err := r.ListNamespaces(ctx, ws, store.Page{From: string(all[1].ID), Limit: 1})
		none, err2 := r.ListNamespaces(ctx, foreign, store.Page{Limit: 9})
		if len(second) != 1 || second[0] != all[1] || len(none) != 0 {
			t.Errorf("%+v %+v", second, none)
		}
		return errors.Join(err, err2)
	})
}

func overrides(t *testing.T, s store.Store) {
	seed(t, s)
	ctx := t.Context()
	ids := putNamespaces(t, s, ws, "a", "b")
	put := func(name string, o tollkey.Override) (id tollkey.OverrideID) {
		t.Helper()
		update(t, s, func(tx store.Tx) (err error) { id, err = tx.PutOverride(ctx, ids[name], o); return err })
		return id
	}
	first := put("a", tollkey.Override{Identifier: "user_1", Limit: 5, Duration: time.Second})
	second := put("a", tollkey.Override{Identifier: "user_*", Limit: 6, Duration: time.Minute})
	other := put("b", tollkey.Override{Identifier: "user_1", Limit: 7, Duration: time.Second})
	if id := put("a", tollkey.Override{Identifier: "user_1", Limit: 0, Duration: time.Hour}); id != first || first == second || first == other {
		t.Errorf("replaced as %s: %s %s %s", id, first, second, other)
	}
	record, err := s.Namespace(ctx, ws, "a")
	if err != nil || len(record.Overrides) != 2 || record.Overrides[0] != (tollkey.Override{ID: first, Identifier: "user_1", Duration: time.Hour}) || record.Overrides[1].ID != second {
		t.Errorf("%+v %v", record, err)
	}
	view(t, s, func(r store.Reader) error {
		page, err := r.ListOverrides(ctx, ids["a"], store.Page{From: string(second), Limit: 9})
		one, err2 := r.ListOverrides(ctx, ids["a"], store.Page{Limit: 1})
		if len(page) != 1 || page[0].ID != second || len(one) != 1 || one[0].ID != first {
			t.Errorf("%+v %+v", page, one)
		}
		return errors.Join(err, err2)
	})
	update(t, s, func(tx store.Tx) error {
		id, err := tx.DeleteOverride(ctx, ids["a"], "user_*") // exactly that one, not what it matches
		if id != second {
			t.Errorf("%s was deleted", id)
		}
		return err
	})
	_, err = s.Update(ctx, now, func(tx store.Tx) error { _, err := tx.DeleteOverride(ctx, ids["a"], "user_*"); return err })
	wantError(t, "DeleteOverride again", err, tollkey.CodeNotFound, tollkey.ReasonOverrideNotFound)
	for name, want := range map[string]tollkey.OverrideID{"a": first, "b": other} {
		if r, err := s.Namespace(ctx, ws, name); err != nil || len(r.Overrides) != 1 || r.Overrides[0].ID != want {
			t.Errorf("%s: %+v %v", name, r, err)
		}
	}
}

// namespacesMeet: of those who make the same namespaces at once, in any order, one makes each.
func namespacesMeet(t *testing.T, s store.Store) {
	seed(t, s)
	var mu sync.Mutex
	made := map[string]int{}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			names := []string{"a", "b", "c"}
			if i%2 == 0 {
				names = []string{"c", "b", "a"}
			}
			var created []tollkey.Namespace
			_, err := s.Update(t.Context(), now, func(tx store.Tx) (err error) { created, err = tx.PutNamespaces(t.Context(), ws, names); return err })
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, n := range created {
				made[n.Name]++
			}
		})
	}
	wg.Wait()
	if len(made) != 3 || made["a"] != 1 || made["b"] != 1 || made["c"] != 1 {
		t.Errorf("%v", made)
	}
}
