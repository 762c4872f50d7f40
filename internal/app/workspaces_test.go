package app

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestWorkspaceCap holds a workspace to its requests per minute, with the headers that tell of it, from the change of the cap on.
func TestWorkspaceCap(t *testing.T) {
	for name, config := range engines {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			c.Listen, c.RootKey = "127.0.0.1:0", rootKey
			s, stop := start(t, c)
			defer stop()
			for range 3 { // a minute may end in between
				minute := time.Now().Truncate(time.Minute)
				fault := capped(t, s)
				if fault == "" {
					return
				}
				if time.Now().Truncate(time.Minute).Equal(minute) {
					t.Error(fault)
					return
				}
			}
			t.Error("a minute ended in each of three tries")
		})
	}
}

// capped tells what is wrong with the cap of a new workspace.
func capped(t *testing.T, s server) string {
	_, made := s.call(t, "workspaces.createWorkspace", `{"name":"capped"}`)
	credential := "Bearer " + made["rootKey"].(map[string]any)["key"].(string)
	if status, e := s.callAs(t, credential, "workspaces.updateWorkspace", `{"requestsPerMinute":3}`); status != 200 {
		t.Fatalf("%d %v", status, e)
	}
	for i, body := range []string{`{}`, `{"other":1}`, `{}`, `{}`, `{}`, `{}`} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+string(s)+"/v2/workspaces.getWorkspace", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", credential)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		got := strings.Join([]string{strconv.Itoa(resp.StatusCode), resp.Header.Get("RateLimit-Limit"), resp.Header.Get("RateLimit-Remaining")}, " ")
		if want := []string{"200 3 2", "400  ", "200 3 1", "200 3 0", "429 3 0", "429 3 0"}[i]; got != want {
			return "call " + strconv.Itoa(i+1) + ": " + got + ", want " + want
		}
		reset, wait := resp.Header.Get("RateLimit-Reset"), resp.Header.Get("Retry-After")
		if seconds, _ := strconv.Atoi(reset); resp.StatusCode != 400 && (seconds < 1 || seconds > 60) || (wait != "") != (resp.StatusCode == 429) || wait != "" && wait != reset {
			return "call " + strconv.Itoa(i+1) + ": RateLimit-Reset " + reset + ", Retry-After " + wait
		}
	}
	return ""
}

// TestUsageIsShownAsLongAsItIsKept asks for more than the workspace keeps.
func TestUsageIsShownAsLongAsItIsKept(t *testing.T) {
	c := engines["sqlite"](t)
	c.Listen, c.RootKey = "127.0.0.1:0", rootKey
	s, stop := start(t, c)
	defer stop()
	if status, e := s.call(t, "workspaces.updateWorkspace", `{"analyticsRetentionDays":2}`); status != 200 {
		t.Fatalf("%d %v", status, e)
	}
	now := time.Now()
	days := func(from, to int) int {
		span := `{"from":` + strconv.FormatInt(now.AddDate(0, 0, -from).UnixMilli(), 10) + `,"to":` + strconv.FormatInt(now.AddDate(0, 0, -to).UnixMilli(), 10) + `,"interval":"hour"}`
		status, rows := s.callList(t, "usage.query", span)
		if status != 200 {
			t.Errorf("%s: %d", span, status)
		}
		return len(rows)
	}
	if n := days(4, 0); n < 48 || n > 50 {
		t.Errorf("%d hours of four days", n)
	}
	if n := days(4, 3); n != 0 {
		t.Errorf("%d hours of a day that is over", n)
	}
}
