package cli

import (
	"strings"
	"testing"
)

func newKey(t *testing.T) string {
	t.Helper()
	code, stdout, stderr := execute(t, nil, "vault", "new-key")
	if code != 0 || stderr != "" || strings.Count(stdout, "\n") != 1 {
		t.Fatal(code, stdout, stderr)
	}
	return strings.TrimSpace(stdout)
}

func TestVaultCommands(t *testing.T) {
	first, second := newKey(t), newKey(t)
	if first == second {
		t.Error("two new keys are the same")
	}
	environ := []string{"TOLLKEY_VAULT_KEYS=" + first + "," + second}
	code, stdout, _ := execute(t, environ, "config")
	if code != 0 || !strings.Contains(strings.Join(strings.Fields(stdout), " "), "vault.keys (set) TOLLKEY_VAULT_KEYS") || strings.Contains(stdout, first) {
		t.Errorf("%d\n%s", code, stdout)
	}
	data := t.TempDir()
	id, _, _ := strings.Cut(first, ":")
	if code, stdout, stderr := execute(t, environ, "vault", "rotate", "--data", data); code != 0 || !strings.Contains(stdout, id) || strings.Contains(stdout, first) {
		t.Errorf("rotate: %d %s%s", code, stdout, stderr)
	}
	for name, c := range map[string]struct {
		environ []string
		args    []string
		want    string
	}{
		"rotate without a key": {nil, []string{"vault", "rotate", "--data", data}, "there is no master key"},
		"discard, not sure":    {environ, []string{"vault", "discard", "--data", data}, "--yes"},
		"keys as arguments":    {nil, []string{"vault", "rotate", first}, "unknown command"},
	} {
		if code, stdout, stderr := execute(t, c.environ, c.args...); code != 1 || stdout != "" || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: %d %s%s", name, code, stdout, stderr)
		}
	}
	if code, stdout, stderr := execute(t, environ, "vault", "discard", "--yes", "--data", data); code != 0 || !strings.Contains(stdout, "Deleted 0 data keys") {
		t.Errorf("discard: %d %s%s", code, stdout, stderr)
	}
}
