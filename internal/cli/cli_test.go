package cli

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tollkey/tollkey/internal/conformance"
)

func execute(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, environ, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func TestConfigCommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "t.yaml")
	if err := os.WriteFile(file, []byte("usage: {ack: buffered}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	environ := []string{"TOLLKEY_DATA=/d", "TOLLKEY_ROOT_KEY=hidden-hidden-hidden-hidden", "TOLLKEY_DATABASE_URL=postgres://u:hidden@db/t"}
	code, stdout, stderr := execute(t, environ, "config", "--listen", ":1", "--config", file)
	const want = `SETTING         VALUE                  SOURCE
listen          :1                     --listen
data            /d                     TOLLKEY_DATA
databaseUrl     postgres://u:***@db/t  TOLLKEY_DATABASE_URL
`
	if code != 0 || stderr != "" || !strings.HasPrefix(stdout, want) {
		t.Errorf("exit code %d, %s\ngot:\n%s\nwant:\n%s", code, stderr, stdout, want)
	}
	for _, line := range []string{"rootKey (set) TOLLKEY_ROOT_KEY", "usage.ack buffered " + file + ":1", "errorBase (not set) default", "log.sample 100 default"} {
		if !strings.Contains(strings.Join(strings.Fields(stdout), " "), line) {
			t.Errorf("%q is not in\n%s", line, stdout)
		}
	}
	if strings.Contains(stdout, "hidden") {
		t.Errorf("a secret is shown:\n%s", stdout)
	}
}

func TestWrongSettingsEndEveryCommand(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	for _, command := range []string{"serve", "config", "migrate", "vault rotate", "vault discard"} {
		args := append(strings.Fields(command), "--data", data)
		code, stdout, stderr := execute(t, []string{"TOLLKEY_LISTEN=nowhere", "TOLLKEY_ROOT_KEY=hidden"}, args...)
		if code != 1 || stdout != "" || !strings.Contains(stderr, "listen (TOLLKEY_LISTEN): ") ||
			!strings.Contains(stderr, "rootKey (TOLLKEY_ROOT_KEY): must have 20 to 200 characters") || strings.Contains(stderr, "hidden") {
			t.Errorf("%s: exit code %d\n%s%s", command, code, stdout, stderr)
		}
	}
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Error("the data directory was made")
	}
}

func TestSecretsHaveNoFlags(t *testing.T) {
	for _, flag := range []string{"--root-key", "--rootKey", "--database-url", "--databaseUrl", "--vault-keys", "--vault.keys"} {
		if code, _, _ := execute(t, nil, "config", flag, "x"); code != 1 {
			t.Errorf("%s is accepted", flag)
		}
	}
}

func TestVersion(t *testing.T) {
	if code, stdout, _ := execute(t, []string{"TOLLKEY_LISTEN=nowhere"}, "version"); code != 0 || stdout != Version+"\n" {
		t.Errorf("exit code %d, %q", code, stdout)
	}
}

func TestAuditVerify(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	if code, _, stderr := execute(t, nil, "audit", "verify", "--data", data); code != 1 || !strings.Contains(stderr, "there is no store") {
		t.Errorf("without a store: exit code %d, %s", code, stderr)
	}
	if code, _, stderr := execute(t, nil, "migrate", "--data", data); code != 0 {
		t.Fatal(stderr)
	}
	if code, stdout, stderr := execute(t, nil, "audit", "verify", "--data", data); code != 0 || !strings.HasPrefix(stdout, "The audit log is whole: 0 entries, the last is 0:00") {
		t.Errorf("of an empty store: exit code %d, %s%s", code, stdout, stderr)
	}
	for _, known := range []string{"1", "x:" + strings.Repeat("0", 64), "1:" + strings.Repeat("0", 65), "1:" + strings.Repeat("g", 64), "1:00"} {
		if code, _, stderr := execute(t, nil, "audit", "verify", "--data", data, "--known", known); code != 1 || !strings.Contains(stderr, "--known") {
			t.Errorf("--known %s: exit code %d, %s", known, code, stderr)
		}
	}
	code, stdout, stderr := execute(t, nil, "audit", "verify", "--data", data, "--known", "7:"+strings.Repeat("0", 64))
	if code != 1 || stdout != "" || !strings.Contains(stderr, "entry 1 of the audit log is missing, and all up to entry 7") {
		t.Errorf("an entry that was: exit code %d, %s%s", code, stdout, stderr)
	}
}

func TestMigrate(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	for range 2 {
		if code, _, stderr := execute(t, nil, "migrate", "--data", data); code != 0 {
			t.Fatal(stderr)
		}
	}
	if _, err := os.Stat(filepath.Join(data, "tollkey.db")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(data, "root-key")); !os.IsNotExist(err) {
		t.Error("migrate made a root key")
	}
}

// serveOnce runs a server until it is ready, and returns what it printed to something that is no terminal.
func serveOnce(t *testing.T, environ []string, lastLine string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reader, writer := io.Pipe()
	var stderr bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...), environ, nil, writer, &stderr)
		_ = writer.Close()
	}()
	var printed strings.Builder
	for lines := bufio.NewScanner(reader); lines.Scan(); {
		printed.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), lastLine) {
			cancel()
		}
	}
	if c := <-code; c != 0 {
		t.Fatalf("exit code %d\n%s", c, stderr.String())
	}
	return printed.String()
}

func TestFirstKey(t *testing.T) {
	for name, environ := range map[string]func(*testing.T) []string{
		"SQLite":     func(*testing.T) []string { return nil },
		"PostgreSQL": func(t *testing.T) []string { return []string{"TOLLKEY_DATABASE_URL=" + conformance.Postgres(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			environ := environ(t)
			data := filepath.Join(t.TempDir(), "some", "data")
			printed := serveOnce(t, environ, "The API reference", "--data", data)
			checkKey(t, data, printed)
			if again := serveOnce(t, environ, "Tollkey listens", "--data", data); strings.Contains(again, "root key") {
				t.Errorf("the second start prints\n%s", again)
			}
		})
	}
}

func checkKey(t *testing.T, data, printed string) {
	t.Helper()
	path := filepath.Join(data, "root-key")
	for name, mode := range map[string]os.FileMode{data: 0o700 | os.ModeDir, path: 0o600} {
		if info, err := os.Stat(name); err != nil {
			t.Fatal(err)
		} else if info.Mode() != mode {
			t.Errorf("%s has mode %v, not %v", name, info.Mode(), mode)
		}
	}
	key, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.TrimSpace(string(key))
	if len(plain) < 20 || strings.Contains(printed, plain) || !strings.Contains(printed, "The first root key is in "+path) {
		t.Errorf("%q is in the file; printed:\n%s", plain, printed)
	}
}

func TestPresetKeyIsNotWritten(t *testing.T) {
	data := t.TempDir()
	printed := serveOnce(t, []string{"TOLLKEY_ROOT_KEY=hidden-hidden-hidden-hidden", "TOLLKEY_LOG_FORMAT=json"}, "Tollkey listens", "--data", data)
	if _, err := os.Stat(filepath.Join(data, "root-key")); !os.IsNotExist(err) || strings.Contains(printed, "hidden") {
		t.Errorf("%v; printed:\n%s", err, printed)
	}
}
