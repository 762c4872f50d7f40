package app

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"
)

const schemathesis = "../../tools/schemathesis/.venv/installed"

// TestGenerated holds the server to api/openapi.yaml with requests that are made from it, good and bad, single and in sequences that use what was made
// before: no 5xx, no status, media type, header or body that is not described. TestLongGenerated makes more of them.
func TestGenerated(t *testing.T) {
	need(t, schemathesis)
	for name, config := range engines {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			c.Listen, c.RootKey, c.MasterKeys = "127.0.0.1:0", rootKey, masterKeys(1)
			s, stop := start(t, c)
			defer stop()
			t.Logf("%d requests", s.generated(t, "--seed", "1", "--max-examples", "10"))
		})
	}
}

var generated = regexp.MustCompile(`(?m)^\s+(\d+) generated, (\d+) passed$`)

// generated runs schemathesis against a server and returns how many requests it made. The root key must work afterwards, as else all that followed its
// loss would be one and the same answer.
func (s server) generated(t *testing.T, arguments ...string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "../../scripts/schemathesis", arguments...)
	c.Env = append(os.Environ(), "TOLLKEY_URL=http://"+string(s), "TOLLKEY_ROOT_KEY="+rootKey)
	c.WaitDelay = time.Second
	out, err := c.CombinedOutput()
	found := generated.FindSubmatch(out)
	if err != nil || found == nil || string(found[1]) != string(found[2]) {
		t.Fatalf("schemathesis: %v\n%s", err, out)
	}
	if status, answer := s.call(t, "apis.createApi", `{"name":"payments"}`); status != 200 {
		t.Fatalf("the root key has stopped working: %d %v", status, answer)
	}
	n, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
