package app

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/tollkey/tollkey/internal/conformance"
)

// engines gives each store that the server runs on, empty.
var engines = map[string]func(t *testing.T) Config{
	"sqlite":   func(t *testing.T) Config { return Config{Data: t.TempDir()} },
	"postgres": func(t *testing.T) Config { return Config{DatabaseURL: conformance.Postgres(t)} },
}

const rootKey = "root_0123456789abcdefghij"

// server is the address of one.
type server string

// start runs a server until stop is called.
func start(t *testing.T, c Config) (s server, stop func()) {
	t.Helper()
	_, s, stop = startPrepared(t, c, func(*App) {})
	return s, stop
}

// startPrepared runs a server, once prepare has seen it, until stop is called.
func startPrepared(t *testing.T, c Config, prepare func(*App)) (a *App, s server, stop func()) {
	t.Helper()
	a, err := New(t.Context(), c, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	prepare(a)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := a.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return a, server(a.Address), sync.OnceFunc(func() { cancel(); running.Wait() })
}

func (s server) call(t *testing.T, procedure, body string) (int, map[string]any) {
	t.Helper()
	return s.callAs(t, "Bearer "+rootKey, procedure, body)
}

func (s server) callAs(t *testing.T, credential, procedure, body string) (int, map[string]any) {
	t.Helper()
	status, out := s.post(t, credential, procedure, body)
	if part, ok := out["error"].(map[string]any); ok {
		return status, part
	}
	data, _ := out["data"].(map[string]any)
	return status, data
}

func (s server) callList(t *testing.T, procedure, body string) (int, []map[string]any) {
	t.Helper()
	status, out := s.post(t, "Bearer "+rootKey, procedure, body)
	list, _ := out["data"].([]any)
	rows := make([]map[string]any, len(list))
	for i := range list {
		rows[i] = list[i].(map[string]any)
	}
	return status, rows
}

func (s server) post(t *testing.T, credential, procedure, body string) (int, map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+string(s)+"/v2/"+procedure, bytes.NewBufferString(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	if cookie, ok := strings.CutPrefix(credential, "Cookie "); ok {
		r.Header.Set("Cookie", cookie)
	} else if credential != "" {
		r.Header.Set("Authorization", credential)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var out map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, out
}

func TestServer(t *testing.T) {
	for name, config := range engines {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			c.Listen, c.RootKey = "127.0.0.1:0", rootKey
			s, stop := start(t, c)
			defer func() { stop() }()
			_, data := s.call(t, "apis.createApi", `{"name":"payments"}`)
			api := data["apiId"].(string)
			_, data = s.call(t, "keys.createKey", `{"apiId":"`+api+`","prefix":"sk","credits":{"remaining":2},"meta":{"plan":"pro"},"externalId":"user_1",
				"ratelimits":[{"name":"requests","limit":3,"duration":3600000,"autoApply":true}]}`)
			key, id := data["key"].(string), data["keyId"].(string)
			expect := func(want string) {
				t.Helper()
				if _, v := s.call(t, "keys.verifyKey", `{"key":"`+key+`"}`); v["code"] != want || v["valid"] != (want == "VALID") {
					t.Errorf("%v, want %s", v, want)
				}
			}
			expect("VALID")
			stop() // what was spent and taken is remembered
			s, stop = start(t, c)
			expect("VALID")
			expect("USAGE_EXCEEDED")
			if _, v := s.call(t, "keys.verifyKey", `{"key":"`+key+`","credits":{"cost":0}}`); v["code"] != "VALID" || v["credits"] != 0.0 {
				t.Errorf("cost 0: %v", v)
			}
			expect("RATE_LIMITED")
			if _, v := s.call(t, "keys.verifyKey", `{"key":"`+rootKey+`"}`); len(v) != 2 || v["code"] != "NOT_FOUND" {
				t.Errorf("a root key is no key: %v", v)
			}
			updates(t, s, api, key, id)
			if status, _ := s.call(t, "keys.deleteKey", `{"keyId":"`+id+`"}`); status != 200 {
				t.Errorf("deleteKey: %d", status)
			}
			expect("NOT_FOUND")
			refusals(t, s, api, key, id)
		})
	}
}

// refusals checks the error that each kind of bad request gets.
func refusals(t *testing.T, s server, api, key, id string) {
	for _, c := range []struct {
		name, credential, procedure, body string
		status                            int
		kind                              string
		faults                            []string
	}{
		{"no credential", "", "apis.createApi", `{`, 400, "unkey/application/invalid_input", []string{"security"}},
		{"not a bearer", "Basic x", "apis.createApi", `{"name":"abc"}`, 400, "unkey/authentication/malformed", nil},
		{"lower-case scheme", "bearer x", "apis.createApi", `{"name":"abc"}`, 400, "unkey/authentication/malformed", nil},
		{"bad body beats bad key", "Bearer nope", "apis.createApi", `{}`, 400, "unkey/application/invalid_input", []string{"/required"}},
		{"unknown root key", "Bearer nope", "apis.createApi", `{"name":"abc"}`, 401, "unkey/authentication/key_not_found", nil},
		{"a key is no root key", "Bearer " + key, "apis.createApi", `{"name":"abc"}`, 401, "unkey/authentication/key_not_found", nil},
		{
			"all faults at once", "Bearer " + rootKey, "keys.createKey", `{"apiId":"a","x":1,"enabled":null,"ratelimits":[{"name":"n"}]}`, 400, "unkey/application/invalid_input",
			[]string{"/additionalProperties", "/properties/apiId/minLength", "/properties/enabled/type", "/properties/ratelimits/items/properties/name/minLength", "/properties/ratelimits/items/required"},
		},
		{"broken JSON", "Bearer " + rootKey, "apis.createApi", `{"name":`, 400, "unkey/application/invalid_input", []string{"requestBody"}},
		{"trailing bytes", "Bearer " + rootKey, "apis.createApi", `{"name":"abc"} x`, 400, "unkey/application/invalid_input", []string{"requestBody"}},
		{"integer as 1.0", "Bearer " + rootKey, "keys.createKey", `{"apiId":"` + api + `","byteLength":16.0}`, 400, "unkey/application/invalid_input", nil},
		{"missing API", "Bearer " + rootKey, "apis.getApi", `{"apiId":"api_12345678"}`, 404, "unkey/data/api_not_found", nil},
		{"deleted key", "Bearer " + rootKey, "keys.getKey", `{"keyId":"` + id + `"}`, 404, "unkey/data/key_not_found", nil},
		{"missing role", "Bearer " + rootKey, "keys.createKey", `{"apiId":"` + api + `","roles":["nope"]}`, 404, "unkey/data/role_not_found", nil},
		{"recoverable", "Bearer " + rootKey, "keys.createKey", `{"apiId":"` + api + `","recoverable":true}`, 412, "unkey/application/precondition_failed", nil},
	} {
		status, e := s.callAs(t, c.credential, c.procedure, c.body)
		kind, _ := e["type"].(string)
		if status != c.status || !strings.HasSuffix(kind, "/errors/"+c.kind) {
			t.Errorf("%s: %d %v", c.name, status, e)
			continue
		}
		list, present := e["errors"].([]any)
		if present != (status == 400) {
			t.Errorf("%s: errors present: %v", c.name, present)
		}
		if c.faults == nil {
			continue
		}
		var got []string
		for _, f := range list {
			got = append(got, f.(map[string]any)["location"].(string))
		}
		if strings.Join(got, " ") != strings.Join(c.faults, " ") {
			t.Errorf("%s: %v, want %v", c.name, got, c.faults)
		}
	}
}

// updates checks that a field is kept, cleared or set as the request says, and that verification knows at once.
func updates(t *testing.T, s server, api, key, id string) {
	update := func(fields string) {
		t.Helper()
		if status, e := s.call(t, "keys.updateKey", `{"keyId":"`+id+`",`+fields+`}`); status != 200 {
			t.Errorf("%s: %d %v", fields, status, e)
		}
	}
	ask := func(rest, want string) {
		t.Helper()
		if _, v := s.call(t, "keys.verifyKey", `{"key":"`+key+`"`+rest+`}`); v["code"] != want {
			t.Errorf("%v, want %s", v, want)
		}
	}
	if status, e := s.call(t, "permissions.createRole", `{"name":"Editor","permissions":["docs.read"]}`); status != 200 {
		t.Fatalf("createRole: %d %v", status, e)
	}
	if status, e := s.call(t, "permissions.createRole", `{"name":"editor"}`); status != 409 {
		t.Errorf("a role's name in another case: %d %v", status, e)
	}
	if status, e := s.call(t, "permissions.createPermission", `{"name":"x","slug":"DOCS.read"}`); status != 409 {
		t.Errorf("a slug in another case: %d %v", status, e)
	}
	update(`"ratelimits":[],"credits":null,"name":"n","roles":["EDITOR"],"permissions":["docs.write"]`)
	ask(`,"permissions":"docs.read AND docs.write"`, "VALID")
	update(`"permissions":[]`)
	ask(`,"permissions":"docs.read"`, "VALID")
	ask(`,"permissions":"docs.write"`, "INSUFFICIENT_PERMISSIONS")
	update(`"enabled":false`)
	ask("", "DISABLED")
	update(`"enabled":true,"expires":1`)
	ask("", "EXPIRED")
	update(`"expires":null,"credits":{"remaining":1}`)
	ask("", "VALID")
	ask("", "USAGE_EXCEEDED")
	update(`"credits":{"refill":{"interval":"monthly","amount":5,"refillDay":31}},"externalId":null,"meta":null,"name":null`)
	if _, k := s.call(t, "keys.getKey", `{"keyId":"`+id+`"}`); k["identity"] != nil || k["meta"] != nil || k["name"] != nil ||
		k["credits"].(map[string]any)["refill"].(map[string]any)["refillDay"] != 31.0 {
		t.Errorf("%v", k)
	}
	if status, e := s.call(t, "keys.updateKey", `{"keyId":"`+id+`","name":"z","credits":{"refill":{"interval":"daily","amount":5,"refillDay":3}}}`); status != 400 {
		t.Errorf("a daily refill with a day: %d %v", status, e)
	}
	if status, e := s.call(t, "keys.updateKey", `{"keyId":"`+id+`","ratelimits":null}`); status != 400 {
		t.Errorf("ratelimits null: %d %v", status, e)
	}
	if status, _ := s.call(t, "apis.listKeys", `{"apiId":"`+api+`","externalId":"nobody"}`); status != 200 {
		t.Errorf("listKeys: %d", status)
	}
}
