package app

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// paused stops the next read of a key, or of a root key, after the store has answered and before anybody knows.
type paused struct {
	store.Lookups
	key, rootKey chan pause // of capacity one; empty = nothing is stopped
}

type pause struct{ reached, goOn chan struct{} }

func newPause() pause { return pause{make(chan struct{}), make(chan struct{})} }

func stopAt(pauses chan pause) {
	select {
	case p := <-pauses:
		close(p.reached)
		<-p.goOn
	default:
	}
}

func (p *paused) KeyByDigest(ctx context.Context, d tollkey.Digest) (*store.KeyRecord, error) {
	k, err := p.Lookups.KeyByDigest(ctx, d)
	stopAt(p.key)
	return k, err
}

func (p *paused) RootKeyByDigest(ctx context.Context, d tollkey.Digest) (*store.RootKeyRecord, error) {
	k, err := p.Lookups.RootKeyByDigest(ctx, d)
	stopAt(p.rootKey)
	return k, err
}

// stale is a change that is made while a fill of the cache has read the store, and has not published.
type stale struct {
	name              string
	create            string // of the key, beyond its API
	procedure, change string // KEY, API and CALLER stand for ids
	ask               string // of the verification after the change, beyond the key
	want              string // in its answer
}

var ofKeys = []stale{
	{"disabled", ``, "keys.updateKey", `{"keyId":"KEY","enabled":false}`, ``, `"code":"DISABLED"`},
	{"enabled", `,"enabled":false`, "keys.updateKey", `{"keyId":"KEY","enabled":true}`, ``, `"code":"VALID"`},
	{"expired", ``, "keys.updateKey", `{"keyId":"KEY","expires":1}`, ``, `"code":"EXPIRED"`},
	{"permissions", ``, "keys.updateKey", `{"keyId":"KEY","permissions":["docs.write"]}`, `,"permissions":"docs.write"`, `"code":"VALID"`},
	{"no permissions", `,"permissions":["docs.write"]`, "keys.updateKey", `{"keyId":"KEY","permissions":[]}`, `,"permissions":"docs.write"`, `"code":"INSUFFICIENT_PERMISSIONS"`},
	{"roles", ``, "keys.updateKey", `{"keyId":"KEY","roles":["Reader"]}`, `,"permissions":"docs.read"`, `"code":"VALID"`},
	{"no roles", `,"roles":["Reader"]`, "keys.updateKey", `{"keyId":"KEY","roles":[]}`, `,"permissions":"docs.read"`, `"code":"INSUFFICIENT_PERMISSIONS"`},
	{"limits", ``, "keys.updateKey", `{"keyId":"KEY","ratelimits":[{"name":"requests","limit":77,"duration":3600000,"autoApply":true}]}`, ``, `"limit":77`},
	{"no credits", ``, "keys.updateKey", `{"keyId":"KEY","credits":{"remaining":0}}`, ``, `"code":"USAGE_EXCEEDED"`},
	{"credits", `,"credits":{"remaining":0}`, "keys.updateKey", `{"keyId":"KEY","credits":{"remaining":5}}`, ``, `"code":"VALID"`},
	{"unlimited", `,"credits":{"remaining":0}`, "keys.updateKey", `{"keyId":"KEY","credits":null}`, ``, `"code":"VALID"`},
	{"name", ``, "keys.updateKey", `{"keyId":"KEY","name":"another"}`, ``, `"name":"another"`},
	{"meta", ``, "keys.updateKey", `{"keyId":"KEY","meta":{"plan":"pro"}}`, ``, `"plan":"pro"`},
	{"customer", `,"externalId":"user_1"`, "keys.updateKey", `{"keyId":"KEY","externalId":"user_2"}`, ``, `"externalId":"user_2"`},
	{"deleted", ``, "keys.deleteKey", `{"keyId":"KEY"}`, ``, `"code":"NOT_FOUND"`},
	{"deleted for good", ``, "keys.deleteKey", `{"keyId":"KEY","permanent":true}`, ``, `"code":"NOT_FOUND"`},
	{"API deleted", ``, "apis.deleteApi", `{"apiId":"API"}`, ``, `"code":"NOT_FOUND"`},
}

var ofCallers = []stale{
	{"caller disabled", ``, "rootKeys.updateRootKey", `{"keyId":"CALLER","enabled":false}`, ``, `"status":403`},
	{"caller without permission", ``, "rootKeys.updateRootKey", `{"keyId":"CALLER","permissions":["api.*.read_api"]}`, ``, `"code":"NOT_FOUND"`},
	{"caller expired", ``, "rootKeys.updateRootKey", `{"keyId":"CALLER","expires":1}`, ``, `"status":403`},
	{"caller deleted", ``, "rootKeys.deleteRootKey", `{"keyId":"CALLER"}`, ``, `"status":401`},
}

// TestFillIsNeverStale makes each kind of change by its own procedure while a fill has read and not published: what is asked after the change's reply
// must show it.
func TestFillIsNeverStale(t *testing.T) {
	for name, config := range engines {
		t.Run(name, func(t *testing.T) {
			reads := &paused{key: make(chan pause, 1), rootKey: make(chan pause, 1)}
			c := config(t)
			c.Listen, c.RootKey = "127.0.0.1:0", rootKey
			c.lookups = func(l store.Lookups) store.Lookups { reads.Lookups = l; return reads }
			at, stop := start(t, c)
			defer stop()
			if status, e := at.call(t, "permissions.createRole", `{"name":"Reader","permissions":["docs.read"]}`); status != 200 {
				t.Fatal(e)
			}
			for _, s := range ofKeys {
				t.Run(s.name, func(t *testing.T) { s.check(t, at, reads.key) })
			}
			for _, s := range ofCallers {
				t.Run(s.name, func(t *testing.T) { s.check(t, at, reads.rootKey) })
			}
		})
	}
}

func (s *stale) check(t *testing.T, at server, reads chan pause) {
	made := func(procedure, body string) map[string]any {
		status, data := at.call(t, procedure, body)
		if status != 200 {
			t.Fatalf("%s: %v", procedure, data)
		}
		return data
	}
	api := made("apis.createApi", `{"name":"payments"}`)["apiId"].(string)
	key := made("keys.createKey", `{"apiId":"`+api+`"`+s.create+`}`)
	caller := made("rootKeys.createRootKey", `{"permissions":["api.*.verify_key"]}`)
	credential, question := "Bearer "+caller["key"].(string), `{"key":"`+key["key"].(string)+`"`

	p := newPause()
	reads <- p
	early := make(chan error)
	go func() {
		_, err := at.verification(credential, question+"}")
		early <- err
	}()
	<-p.reached
	made(s.procedure, strings.NewReplacer("KEY", key["keyId"].(string), "API", api, "CALLER", caller["keyId"].(string)).Replace(s.change))
	close(p.goOn)
	if err := <-early; err != nil { // asked before the change: any answer is right
		t.Error(err)
	}
	for range 2 {
		if got, err := at.verification(credential, question+s.ask+"}"); err != nil || !strings.Contains(got, s.want) {
			t.Errorf("after the change: %s %v, want %s", got, err, s.want)
		}
	}
}

// verification is for any goroutine.
func (s server) verification(credential, body string) (string, error) {
	r, err := http.NewRequest(http.MethodPost, "http://"+string(s)+"/v2/keys.verifyKey", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", credential)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}
