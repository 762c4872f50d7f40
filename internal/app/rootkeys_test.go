package app

import (
	"fmt"
	"testing"
	"time"
)

// TestRootKeysAndUsage delegates to a weaker root key, takes it back, and counts what was verified meanwhile.
func TestRootKeysAndUsage(t *testing.T) {
	for name, config := range engines {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			c.Listen, c.RootKey = "127.0.0.1:0", rootKey
			s, stop := start(t, c)
			defer stop()
			rootKeys(t, s)
			usage(t, s)
		})
	}
}

func rootKeys(t *testing.T, s server) {
	_, made := s.call(t, "rootKeys.createRootKey", `{"name":"weak","permissions":["root_key.*.create_root_key","root_key.*.update_root_key","api.*.create_api"]}`)
	weak := "Bearer " + made["key"].(string)
	id := made["keyId"].(string)
	for _, c := range []struct {
		name, credential, procedure, body string
		status                            int
	}{
		{"it does what it may", weak, "apis.createApi", `{"name":"abc"}`, 200},
		{"and nothing else", weak, "rootKeys.listRootKeys", `{}`, 403},
		{"it hands on what it holds", weak, "rootKeys.createRootKey", `{"permissions":["api.api_12345678.create_api"]}`, 200},
		{"and nothing else", weak, "rootKeys.createRootKey", `{"permissions":["api.*.create_api","api.*.delete_api"]}`, 403},
		{"there is no such permission", "Bearer " + rootKey, "rootKeys.createRootKey", `{"permissions":["*"]}`, 400},
		{"it cannot touch a stronger one", weak, "rootKeys.updateRootKey", `{"keyId":"` + firstRootKey(t, s) + `","enabled":false}`, 403},
		{"keys.* does not see it", "Bearer " + rootKey, "keys.getKey", `{"keyId":"` + id + `"}`, 404},
		{"nor deletes it", "Bearer " + rootKey, "keys.deleteKey", `{"keyId":"` + id + `"}`, 404},
		{"it is switched off", "Bearer " + rootKey, "rootKeys.updateRootKey", `{"keyId":"` + id + `","enabled":false,"name":null}`, 200},
		{"at once", weak, "apis.createApi", `{"name":"abc"}`, 403},
		{"the last manager stays on", "Bearer " + rootKey, "rootKeys.updateRootKey", `{"keyId":"` + firstRootKey(t, s) + `","enabled":false}`, 412},
		{"and stays", "Bearer " + rootKey, "rootKeys.deleteRootKey", `{"keyId":"` + firstRootKey(t, s) + `"}`, 412},
		{"the weak one goes", "Bearer " + rootKey, "rootKeys.deleteRootKey", `{"keyId":"` + id + `"}`, 200},
		{"for good", weak, "apis.createApi", `{"name":"abc"}`, 401},
		{"and is missing", "Bearer " + rootKey, "rootKeys.getRootKey", `{"keyId":"` + id + `"}`, 404},
	} {
		if status, answer := s.callAs(t, c.credential, c.procedure, c.body); status != c.status {
			t.Errorf("%s: %d %v, want %d", c.name, status, answer, c.status)
		}
	}
}

func firstRootKey(t *testing.T, s server) string {
	t.Helper()
	_, list := s.callList(t, "rootKeys.listRootKeys", `{"limit":1}`)
	return list[0]["keyId"].(string)
}

// usage polls until the roller has passed, which it does each second.
func usage(t *testing.T, s server) {
	_, data := s.call(t, "apis.createApi", `{"name":"counted"}`)
	api := data["apiId"].(string)
	_, made := s.call(t, "keys.createKey", `{"apiId":"`+api+`","credits":{"remaining":5}}`)
	for range 3 {
		s.call(t, "keys.verifyKey", `{"key":"`+made["key"].(string)+`","credits":{"cost":2}}`)
	}
	now := time.Now().UnixMilli()
	ask := func(more string) []map[string]any {
		t.Helper()
		_, rows := s.callList(t, "usage.query", fmt.Sprintf(`{"from":%d,"to":%d%s}`, now-3_600_000, now+3_600_000, more))
		return rows
	}
	filter := `,"filter":{"apiId":"` + api + `"}`
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if rows := ask(filter); len(rows) == 1 && rows[0]["count"] == 3.0 && rows[0]["valid"] == 2.0 && rows[0]["credits"] == 4.0 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("%v", rows)
		}
	}
	if rows := ask(filter + `,"groupBy":["outcome","key"]`); len(rows) != 2 || rows[0]["key"] != made["keyId"] || rows[0]["outcome"] != "USAGE_EXCEEDED" && rows[1]["outcome"] != "USAGE_EXCEEDED" {
		t.Errorf("by outcome and key: %v", rows)
	}
	if rows := ask(filter + `,"interval":"hour"`); len(rows) < 2 || len(rows) > 3 {
		t.Errorf("hours, empty ones too: %v", rows)
	}
	if status, e := s.call(t, "usage.query", fmt.Sprintf(`{"from":%d,"to":%d}`, now, now)); status != 400 {
		t.Errorf("an empty range: %d %v", status, e)
	}
}
