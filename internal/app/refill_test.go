package app

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/meter"
	"github.com/tollkey/tollkey/internal/refill"
	"github.com/tollkey/tollkey/internal/store"
)

// forgetRefills makes today's refills ones that were missed.
func forgetRefills(t *testing.T, a *App) {
	t.Helper()
	today := int64(refill.DayOf(time.Now()))
	p, err := a.db.RefillProgress(t.Context(), today)
	if err == nil {
		err = a.db.MoveRefill(t.Context(), p, store.RefillProgress{Done: today - 1, Day: today - 1})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// createOld makes keys that are two days old and whose secrets are their ids.
func createOld(t *testing.T, a *App, keys ...*tollkey.Key) {
	t.Helper()
	var announced store.Announcement
	for _, k := range keys {
		k.Digest, k.Enabled, k.CreatedAt = sha256.Sum256([]byte(k.ID)), true, time.Now().Add(-48*time.Hour)
		announced.Digests, announced.Keys = append(announced.Digests, k.Digest), append(announced.Keys, k.ID)
	}
	change, err := a.db.Update(t.Context(), time.Now(), func(tx store.Tx) error {
		tx.Announce(announced)
		return tx.CreateKeys(t.Context(), keys)
	})
	if err != nil {
		t.Fatal(err)
	}
	a.follower.Confirm(t.Context(), change)
}

// TestRefillsMissedWhileDown stops the server over a midnight: the next start refills, and verification sees it.
func TestRefillsMissedWhileDown(t *testing.T) {
	for name, config := range engines {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			c.Listen, c.RootKey = "127.0.0.1:0", rootKey
			a, s, stop := startPrepared(t, c, func(*App) {})
			_, data := s.call(t, "apis.createApi", `{"name":"payments"}`)
			api := tollkey.APIID(data["apiId"].(string))
			p, err := a.engine.Authenticate(t.Context(), rootKey)
			if err != nil {
				t.Fatal(err)
			}
			zero, daily := int64(0), &tollkey.Refill{Interval: tollkey.RefillDaily, Amount: 5}
			createOld(t, a,
				&tollkey.Key{ID: "key_empty", Workspace: p.Workspace, API: api, Credits: tollkey.Credits{Remaining: &zero, Refill: daily}},
				&tollkey.Key{ID: "key_unlimited", Workspace: p.Workspace, API: api, Credits: tollkey.Credits{Refill: daily}})
			verify := func(key, want string, credits any) {
				t.Helper()
				if _, v := s.call(t, "keys.verifyKey", fmt.Sprintf(`{"key":%q}`, key)); v["code"] != want || v["credits"] != credits {
					t.Errorf("%v, want %s with %v", v, want, credits)
				}
			}
			verify("key_empty", "USAGE_EXCEEDED", 0.0)
			verify("key_unlimited", "VALID", nil)
			stop()
			a, s, stop = startPrepared(t, c, func(a *App) { forgetRefills(t, a) })
			defer func() { stop() }()
			if err := a.refillDue(t.Context()); err != nil {
				t.Fatal(err)
			}
			verify("key_empty", "VALID", 4.0)
			verify("key_unlimited", "VALID", 4.0)
			// Again, beside a server that has both in its cache.
			s.call(t, "keys.verifyKey", `{"key":"key_empty","credits":{"cost":4}}`)
			verify("key_empty", "USAGE_EXCEEDED", 0.0)
			for _, credits := range []string{`{"remaining":null}`, `{"refill":{"interval":"daily","amount":7}}`} {
				if status, _ := s.call(t, "keys.updateKey", `{"keyId":"key_unlimited","credits":`+credits+`}`); status != 200 {
					t.Error(status)
				}
			}
			verify("key_unlimited", "VALID", nil)
			forgetRefills(t, a)
			a.refilled.Store(0)
			if err := a.refillDue(t.Context()); err != nil {
				t.Fatal(err)
			}
			head, err := a.db.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			a.follower.Confirm(t.Context(), head.Number)
			verify("key_empty", "VALID", 4.0)
			verify("key_unlimited", "VALID", 6.0)
		})
	}
}

// TestLastUsed shows when a key and a root key were last used, after a restart.
func TestLastUsed(t *testing.T) {
	for name, config := range engines {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			c.Listen, c.RootKey = "127.0.0.1:0", rootKey
			s, stop := start(t, c)
			_, data := s.call(t, "apis.createApi", `{"name":"payments"}`)
			api := data["apiId"].(string)
			_, used := s.call(t, "keys.createKey", fmt.Sprintf(`{"apiId":%q,"enabled":false}`, api))
			_, unused := s.call(t, "keys.createKey", fmt.Sprintf(`{"apiId":%q}`, api))
			began := time.Now().UnixMilli()
			if _, v := s.call(t, "keys.verifyKey", fmt.Sprintf(`{"key":%q}`, used["key"])); v["code"] != "DISABLED" {
				t.Error(v)
			}
			ended := time.Now().UnixMilli()
			stop()
			_, s, stop = startPrepared(t, c, func(a *App) {
				if err := a.rollOnce(t.Context(), &meter.Roller{Ledger: a.db, Usage: a.db, Used: a.uses.key}); err != nil {
					t.Error(err)
				}
				if err := a.uses.flush(t.Context()); err != nil {
					t.Error(err)
				}
			})
			defer func() { stop() }()
			_, k := s.call(t, "keys.getKey", fmt.Sprintf(`{"keyId":%q}`, used["keyId"]))
			if at, _ := k["lastUsedAt"].(float64); int64(at) < began || int64(at) > ended || k["updatedAt"] != nil {
				t.Errorf("%v, used from %d to %d", k, began, ended)
			}
			if _, k := s.call(t, "keys.getKey", fmt.Sprintf(`{"keyId":%q}`, unused["keyId"])); k["lastUsedAt"] != nil {
				t.Errorf("never used: %v", k)
			}
			_, roots := s.callList(t, "rootKeys.listRootKeys", `{}`)
			if at, _ := roots[0]["lastUsedAt"].(float64); int64(at) < began-60_000 || int64(at) > ended {
				t.Errorf("%v", roots)
			}
		})
	}
}
