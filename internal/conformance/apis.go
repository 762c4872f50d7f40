package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// keyCount creates and deletes keys from many sides at once; what fails must not count.
func keyCount(t *testing.T, s store.Store) {
	seed(t, s)
	ctx := context.Background()
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			id := fmt.Sprintf("key_%02d", i)
			no := errors.New("no")
			for _, fn := range []func(store.Tx) error{
				func(tx store.Tx) error {
					return errors.Join(tx.CreateKeys(ctx, []*tollkey.Key{key(id + "x")}), no)
				},
				func(tx store.Tx) error {
					return tx.CreateKeys(ctx, []*tollkey.Key{key(id + "a"), key(id + "b"), key(id + "c")})
				},
				func(tx store.Tx) error { return tx.DeleteKey(ctx, ws, tollkey.KeyID(id+"a"), false) },
				func(tx store.Tx) error { return tx.DeleteKey(ctx, ws, tollkey.KeyID(id+"b"), true) },
			} {
				if _, err := s.Update(ctx, now, fn); err != nil && !errors.Is(err, no) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	view(t, s, func(r store.Reader) error {
		a, err := r.API(ctx, ws, "api_1")
		if err == nil && a.KeyCount != 16 {
			t.Errorf("%d keys counted, 16 exist", a.KeyCount)
		}
		return err
	})
	update(t, s, func(tx store.Tx) error { return tx.DeleteAPI(ctx, ws, "api_1") })
	_, err := s.Update(ctx, now, func(tx store.Tx) error { return tx.CreateKeys(ctx, []*tollkey.Key{key("late")}) })
	wantError(t, "a key for an API that was deleted meanwhile", err, tollkey.CodeNotFound, tollkey.ReasonAPINotFound)
}

// apiSettings writes settings one by one, and looks for APIs.
func apiSettings(t *testing.T, s store.Store) {
	seed(t, s)
	ctx := t.Context()
	update(t, s, func(tx store.Tx) error {
		var errs []error
		for i, name := range []string{"100% ÄPFEL", "a_b", `c\d`, "aXb", "Äpfel"} {
			id := tollkey.APIID(fmt.Sprintf("api_%d", i+2))
			errs = append(errs, tx.CreateAPI(ctx, &tollkey.API{ID: id, Workspace: ws, Name: name, CreatedAt: now}))
		}
		errs = append(errs, tx.CreateAPI(ctx, &tollkey.API{ID: "api_z", Workspace: "ws_2", Name: "foreign", CreatedAt: now}))
		return errors.Join(errs...)
	})
	for _, c := range []struct {
		filter store.APIFilter
		page   store.Page
		want   []tollkey.APIID
	}{
		{store.APIFilter{}, store.Page{Limit: 9}, []tollkey.APIID{"api_1", "api_2", "api_3", "api_4", "api_5", "api_6"}},
		{store.APIFilter{}, store.Page{From: "api_3", Limit: 2}, []tollkey.APIID{"api_3", "api_4"}},
		{store.APIFilter{Search: "äpf"}, store.Page{Limit: 9}, []tollkey.APIID{"api_2", "api_6"}},
		{store.APIFilter{Search: "%"}, store.Page{Limit: 9}, []tollkey.APIID{"api_2"}},
		{store.APIFilter{Search: "_"}, store.Page{Limit: 9}, []tollkey.APIID{"api_1", "api_2", "api_3", "api_4", "api_5", "api_6"}}, // of the ids
		{store.APIFilter{Search: "A_B"}, store.Page{Limit: 9}, []tollkey.APIID{"api_3"}},
		{store.APIFilter{Search: `\`}, store.Page{Limit: 9}, []tollkey.APIID{"api_4"}},
		{store.APIFilter{IDs: []tollkey.APIID{"api_5", "api_z", "api_2", "api_2", "none"}}, store.Page{Limit: 9}, []tollkey.APIID{"api_2", "api_5"}},
		{store.APIFilter{IDs: []tollkey.APIID{"api_5", "api_2", "api_3"}}, store.Page{From: "api_3", Limit: 1}, []tollkey.APIID{"api_3"}},
		{store.APIFilter{IDs: []tollkey.APIID{"api_5", "api_2"}, Search: "ä"}, store.Page{Limit: 9}, []tollkey.APIID{"api_2"}},
		{store.APIFilter{IDs: []tollkey.APIID{}}, store.Page{Limit: 9}, nil},
	} {
		var got []tollkey.APIID
		view(t, s, func(r store.Reader) error {
			found, err := r.ListAPIs(ctx, ws, c.filter, c.page)
			for _, a := range found {
				got = append(got, a.ID)
			}
			return err
		})
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c, got, c.want)
		}
	}
	name, prefix, bytes, on, none, format := "Übung", "sk", 32, true, []string{}, tollkey.KeyFormatChecksummed
	for _, u := range []store.APIUpdate{
		{Name: &name}, {DefaultPrefix: &prefix}, {DefaultByteLength: &bytes}, {DeleteProtection: &on}, {IPAllowList: &none}, {RecoverableKeys: &on}, {KeyFormat: &format}, {},
	} {
		update(t, s, func(tx store.Tx) error { return tx.UpdateAPI(ctx, ws, "api_1", u) })
	}
	view(t, s, func(r store.Reader) error {
		a, err := r.API(ctx, ws, "api_1")
		if err == nil && (a.Name != name || a.DefaultPrefix != prefix || a.DefaultByteLength != bytes || !a.DeleteProtection || len(a.IPAllowList) != 0 ||
			!a.RecoverableKeys || a.KeyFormat != format) {
			t.Errorf("%+v", a)
		}
		return err
	})
	_, err := s.Update(ctx, now, func(tx store.Tx) error { return tx.UpdateAPI(ctx, "ws_2", "api_1", store.APIUpdate{}) })
	wantError(t, "from another workspace", err, tollkey.CodeNotFound, tollkey.ReasonAPINotFound)
}
