package conformance

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

func dataKey(workspace tollkey.WorkspaceID, id tollkey.DataKeyID) *tollkey.DataKey {
	return &tollkey.DataKey{ID: id, Workspace: workspace, Master: "m1", Wrapped: []byte("wrapped " + id), CreatedAt: now}
}

func sealedSecret(id string) *tollkey.SealedSecret {
	return &tollkey.SealedSecret{Key: tollkey.KeyID(id), DataKey: "dk_1", Ciphertext: []byte("sealed " + id)}
}

// wantSealed wants the secrets of exactly these keys, whichever are asked for.
func wantSealed(t *testing.T, s store.Store, workspace tollkey.WorkspaceID, want ...string) {
	t.Helper()
	view(t, s, func(r store.Reader) error {
		secrets, err := r.SealedSecrets(t.Context(), workspace, []tollkey.KeyID{"key_1", "key_2", "key_3", "key_4", "key_5"})
		found := map[tollkey.KeyID]bool{}
		for _, secret := range secrets {
			if found[secret.Key] || secret.DataKey != "dk_1" || string(secret.Ciphertext) != "sealed "+string(secret.Key) {
				t.Errorf("%+v", secret)
			}
			found[secret.Key] = true
		}
		for _, id := range want {
			if !found[tollkey.KeyID(id)] {
				t.Errorf("%s has no secret", id)
			}
		}
		if len(secrets) != len(want) {
			t.Errorf("%d secrets, want those of %v", len(secrets), want)
		}
		return err
	})
}

// sealedSecrets are seen in their workspace, and go with their key, however it is deleted, or with their data key.
func sealedSecrets(t *testing.T, s store.Store) {
	seed(t, s)
	ctx := t.Context()
	update(t, s, func(tx store.Tx) error {
		_, err := tx.PutDataKey(ctx, dataKey(ws, "dk_1"))
		return errors.Join(err, tx.CreateKeys(ctx, []*tollkey.Key{key("key_1"), key("key_2"), key("key_3"), key("key_4")}),
			tx.CreateSealedSecret(ctx, sealedSecret("key_1")), tx.CreateSealedSecret(ctx, sealedSecret("key_2")), tx.CreateSealedSecret(ctx, sealedSecret("key_3")))
	})
	wantSealed(t, s, ws, "key_1", "key_2", "key_3")
	wantSealed(t, s, foreign)
	view(t, s, func(r store.Reader) error {
		secrets, err := r.SealedSecrets(ctx, ws, nil)
		if len(secrets) != 0 {
			t.Errorf("nobody asked for %v", secrets)
		}
		return err
	})
	_, err := s.Update(ctx, now, func(tx store.Tx) error { return tx.CreateSealedSecret(ctx, sealedSecret("key_1")) })
	wantError(t, "a second secret of one key", err, tollkey.CodeConflict, "")
	update(t, s, func(tx store.Tx) error {
		return errors.Join(tx.DeleteKey(ctx, ws, "key_1", false), tx.DeleteKey(ctx, ws, "key_2", true))
	})
	wantSealed(t, s, ws, "key_3")
	update(t, s, func(tx store.Tx) error {
		if n, err := tx.DeleteDataKey(ctx, "dk_1"); n != 1 || err != nil { // the deleted keys have none left
			return fmt.Errorf("%d secrets went with their data key: %w", n, err)
		}
		return nil
	})
	wantSealed(t, s, ws)
}

// dataKeys: a workspace gets one, however many make it at once; all of them can be listed, and wrapped anew unless somebody else was faster.
func dataKeys(t *testing.T, s store.Store) {
	ctx := t.Context()
	var mu sync.Mutex
	made := 0
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			var created bool
			_, err := s.Update(ctx, now, func(tx store.Tx) (err error) {
				created, err = tx.PutDataKey(ctx, dataKey(ws, tollkey.DataKeyID(fmt.Sprintf("dk_%02d", i))))
				return err
			})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if created {
				made++
			}
		})
	}
	wg.Wait()
	if made != 1 {
		t.Errorf("a workspace got %d data keys", made)
	}
	update(t, s, func(tx store.Tx) error {
		_, err := tx.PutDataKey(ctx, dataKey(foreign, "dk_98"))
		_, err2 := tx.PutDataKey(ctx, dataKey("ws_3", "dk_99"))
		return errors.Join(err, err2)
	})
	if page, err := s.DataKeys(ctx, "", 2); err != nil || len(page) != 2 || page[1].ID != "dk_98" || page[1].Workspace != foreign {
		t.Errorf("%v %v", page, err)
	}
	if page, err := s.DataKeys(ctx, "dk_98", 2); err != nil || len(page) != 1 || page[0].ID != "dk_99" || !page[0].CreatedAt.Equal(now) {
		t.Errorf("%v %v", page, err)
	}
	fresh := dataKey("ws_3", "dk_99")
	fresh.Master, fresh.Wrapped = "m2", []byte("again")
	for i, want := range []bool{true, false} {
		update(t, s, func(tx store.Tx) error {
			if done, err := tx.RewrapDataKey(ctx, "m1", fresh); done != want || err != nil {
				return fmt.Errorf("rewrapping, turn %d: %v %w", i, done, err)
			}
			return nil
		})
	}
	view(t, s, func(r store.Reader) error {
		k, err := r.DataKey(ctx, "ws_3")
		if err != nil || k.Master != "m2" || string(k.Wrapped) != "again" {
			t.Error(k, err)
		}
		if k, err = r.DataKey(ctx, "ws_4"); k != nil {
			t.Error("of a workspace without one:", k)
		}
		return err
	})
}
