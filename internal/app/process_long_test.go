//go:build long

package app

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tollkey/tollkey/internal/conformance"
)

// build compiles the server and returns the binary's path.
func build(t *testing.T) string {
	t.Helper()
	binary := t.TempDir() + "/tollkey"
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/tollkey").CombinedOutput(); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	return binary
}

// process is a server in a process of its own.
type process struct {
	*exec.Cmd
	address string
}

// launch starts a server with the settings NAME=value. It is killed at the end of the test, if it has not stopped before.
func launch(t *testing.T, binary string, settings ...string) *process {
	t.Helper()
	p, err := spawn(t, binary, settings...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// spawn is launch for any goroutine.
func spawn(t *testing.T, binary string, settings ...string) (*process, error) {
	c := exec.Command(binary, "serve", "--listen", "127.0.0.1:0")
	c.Env = append(append(os.Environ(), "TOLLKEY_ROOT_KEY="+rootKey), settings...)
	logged, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		return nil, err
	}
	c.Stderr = logged
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait() // fails where it has been waited for
		_ = logged.Close()
		if text, err := os.ReadFile(logged.Name()); err == nil && t.Failed() {
			t.Logf("the last that the server at process %d logged:\n%s", c.Process.Pid, text[max(0, len(text)-2000):])
		}
	})
	late := time.AfterFunc(time.Minute, func() { _ = c.Process.Kill() })
	defer late.Stop()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if _, at, ok := strings.Cut(lines.Text(), "listens on http://"); ok {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return &process{c, strings.TrimSpace(at)}, nil
		}
	}
	return nil, fmt.Errorf("the server at process %d did not start", c.Process.Pid)
}

// launchAll starts n servers on one PostgreSQL database, all at the same time.
func launchAll(t *testing.T, n int, url string) []*process {
	t.Helper()
	binary := build(t)
	all, errs := make([]*process, n), make([]error, n)
	var starting sync.WaitGroup
	for i := range n {
		starting.Go(func() { all[i], errs[i] = spawn(t, binary, "TOLLKEY_DATABASE_URL="+url) })
	}
	starting.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// deployments starts the servers of each stage: one process on SQLite, three on one PostgreSQL.
var deployments = map[string]func(t *testing.T) []*process{
	"sqlite":   func(t *testing.T) []*process { return []*process{launch(t, build(t), "TOLLKEY_DATA="+t.TempDir())} },
	"postgres": func(t *testing.T) []*process { return launchAll(t, 3, conformance.Postgres(t)) },
}

// stop ends servers as an operator does; all must do so cleanly and in time.
func stop(t *testing.T, all ...*process) {
	t.Helper()
	for _, p := range all {
		_ = p.Process.Signal(os.Interrupt)
	}
	for _, p := range all {
		late := time.AfterFunc(time.Minute, func() { _ = p.Process.Kill() })
		if err := p.Wait(); err != nil {
			t.Errorf("the stop of the server at process %d: %v", p.Process.Pid, err)
		}
		late.Stop()
	}
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// newClient returns a client with connections of its own, as many as are wanted at a time.
func newClient(t *testing.T) *http.Client {
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1000}, Timeout: time.Minute}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// answer is what a server said with status 200.
type answer struct {
	Meta struct {
		Propagation struct {
			Confirmed    bool
			Nodes        int
			Silent       []string
			Milliseconds int64
		}
	}
	Data json.RawMessage
}

// verdict is the answer of a verification.
type verdict struct {
	Code        string
	Name        string
	Credits     int64
	Permissions []string
	Roles       []string
	Ratelimits  []struct{ Remaining, Reset int64 }
}

// post calls a procedure. Any status but 200 is an error.
func (p *process) post(c *http.Client, procedure, body string) (a answer, err error) {
	r, err := http.NewRequest(http.MethodPost, "http://"+p.address+"/v2/"+procedure, strings.NewReader(body))
	if err != nil {
		return a, err
	}
	return a, send(c, r, &a)
}

func send(c *http.Client, r *http.Request, into *answer) error {
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+rootKey)
	resp, err := c.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %d %s", r.URL.Path, resp.StatusCode, bytes.TrimSpace(raw))
	}
	return json.Unmarshal(raw, into)
}

// verify asks for a key; rest is more of the question, beginning with a comma, or "".
func (p *process) verify(c *http.Client, secret, rest string) (v verdict, err error) {
	a, err := p.post(c, "keys.verifyKey", `{"key":"`+secret+`"`+rest+`}`)
	if err == nil {
		err = json.Unmarshal(a.Data, &v)
	}
	return v, err
}

// must is post for what cannot fail; it returns the answer's data.
func (p *process) must(t *testing.T, procedure, body string) map[string]any {
	t.Helper()
	a, err := p.post(http.DefaultClient, procedure, body)
	if err != nil {
		t.Fatal(err)
	}
	var data map[string]any
	if len(a.Data) > 0 {
		if err := json.Unmarshal(a.Data, &data); err != nil {
			t.Fatal(err)
		}
	}
	return data
}

func (p *process) newAPI(t *testing.T) string {
	t.Helper()
	return p.must(t, "apis.createApi", `{"name":"payments"}`)["apiId"].(string)
}

// newKey makes a key; rest is more of the request, beginning with a comma, or "".
func (p *process) newKey(t *testing.T, api, rest string) (id, secret string) {
	t.Helper()
	made := p.must(t, "keys.createKey", `{"apiId":"`+api+`"`+rest+`}`)
	return made["keyId"].(string), made["key"].(string)
}

func (p *process) remaining(t *testing.T, id string) int64 {
	t.Helper()
	k := p.must(t, "keys.getKey", `{"keyId":"`+id+`"}`)
	return int64(k["credits"].(map[string]any)["remaining"].(float64))
}

// used is what usage tells of a key.
type used struct{ Valid, Credits int64 }

// expectUsage waits until usage says what is wanted per key, and then for two rolls more, as it must not go beyond.
func (p *process) expectUsage(t *testing.T, began time.Time, want map[string]used) {
	t.Helper()
	read := func() map[string]used {
		a, err := p.post(http.DefaultClient, "usage.query",
			fmt.Sprintf(`{"from":%d,"to":%d,"groupBy":["key"],"filter":{"outcome":"VALID"}}`, began.UnixMilli(), time.Now().UnixMilli()+1))
		if err != nil {
			t.Fatal(err)
		}
		var rows []struct {
			Key string
			used
		}
		if err := json.Unmarshal(a.Data, &rows); err != nil {
			t.Fatal(err)
		}
		got := map[string]used{}
		for _, r := range rows {
			got[r.Key] = r.used
		}
		return got
	}
	start := time.Now()
	got := read()
	for !maps.Equal(got, want) && time.Since(start) < time.Minute {
		time.Sleep(100 * time.Millisecond)
		got = read()
	}
	settled := time.Since(start)
	if maps.Equal(got, want) {
		time.Sleep(2 * rollEvery)
		got = read()
	}
	if !maps.Equal(got, want) {
		t.Errorf("usage says %v, want %v", got, want)
	}
	t.Logf("usage settled in %v: %v", settled.Round(time.Millisecond), slices.Collect(maps.Values(got)))
}
