package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tollkey/tollkey/internal/conformance"
)

// served runs a server until the test ends, and returns its URL. Without environment it is a first start, which is over when the key is in its file.
func served(t *testing.T, environ []string, args ...string) (server string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	reader, writer := io.Pipe()
	done := make(chan int, 1)
	var log bytes.Buffer
	go func() {
		done <- run(ctx, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...), environ, nil, writer, &log)
		_ = writer.Close()
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != 0 {
			t.Errorf("the server ended with code %d\n%s", code, log.String())
		}
	})
	lines := bufio.NewScanner(reader)
	for lines.Scan() {
		if _, at, ok := strings.Cut(lines.Text(), "listens on "); ok {
			server = at
		}
		if server != "" && (environ != nil || strings.HasPrefix(lines.Text(), "The API reference")) {
			go func() { _, _ = io.Copy(io.Discard, reader) }()
			return server
		}
	}
	<-done
	t.Fatalf("the server did not start\n%s", log.String())
	return ""
}

// console calls commands one after another.
type console struct {
	t       *testing.T
	environ []string
	always  []string
}

func (c *console) run(stdin string, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(c.t.Context(), append(args, c.always...), c.environ, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

// must is run for what has to work; it returns the one match of pattern in what was printed.
func (c *console) must(pattern, stdin string, args ...string) string {
	c.t.Helper()
	code, stdout, stderr := c.run(stdin, args...)
	found := regexp.MustCompile(`(?m)` + pattern).FindStringSubmatch(stdout)
	if code != 0 || stderr != "" || found == nil {
		c.t.Fatalf("%v: exit code %d\n%s%s\nwant %s", args, code, stdout, stderr, pattern)
	}
	return found[len(found)-1]
}

func (c *console) refused(want, stdin string, args ...string) {
	c.t.Helper()
	if code, stdout, stderr := c.run(stdin, args...); code != 1 || !strings.Contains(stderr, want) {
		c.t.Errorf("%v: exit code %d\n%s%s\nwant %s", args, code, stdout, stderr, want)
	}
}

func TestCalls(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	c := &console{t: t, always: []string{"--data", data, "--server", served(t, nil, "--data", data)}}
	api := c.must(`^apiId +(api_\w+)$`, "", "apis", "create", "payments")
	c.must(`^name +payments$`, "", "apis", "get", api)
	secret := c.must(`^key +(demo_\w+)$`, "", "keys", "create", "--api", api, "--prefix", "demo", "--name", "a\x1b[31m\tb", "--credits", "5",
		"--refill", "10/monthly/31", "--ratelimit", "requests:100/1m", "--permission", "a.b", "--permission", "c", "--meta", `{"n":[1]}`,
		"--expires-in", "24h", "--external-id", "user_1")
	row := c.must(`^KEYID +START +NAME +ENABLED[^\n]*\n(key_\w+ +demo_\w{4} +"a\\x1b\[31m\\tb" +true +20\d\d-.*)$`, "", "keys", "list", "--api", api)
	id, _, _ := strings.Cut(row, " ")
	for _, want := range []string{
		`credits +{"remaining":5,"refill":{"interval":"monthly","amount":10,"refillDay":31}}`, `permissions +\["a.b","c"\]`, `meta +{"n":\[1\]}`,
		`ratelimits +.*"name":"requests","limit":100,"duration":60000,"autoApply":true`, `identity +.*user_1`, `expires +20\d\d-\d\d-\d\dT.*Z`,
	} {
		c.must("^"+want, "", "keys", "get", id)
	}
	c.must(`^code +VALID$`, secret+"\n", "keys", "verify", "--cost", "2", "--permissions", "a.b AND c")
	c.refused("not valid: INSUFFICIENT_PERMISSIONS", secret, "keys", "verify", "--permissions", "z")
	c.refused("not valid: USAGE_EXCEEDED", secret, "keys", "verify", "--cost", "4")
	c.refused("standard input holds no key", " \n", "keys", "verify")
	c.must(`^Done\.$`, "", "keys", "update", id, "--enabled=false", "--name", "", "--credits", "", "--permission", "", "--expires-in", "")
	var key map[string]any
	if err := json.Unmarshal([]byte(c.must(`^({.*})$`, "", "keys", "get", id, "--json")), &key); err != nil || key["enabled"] != false {
		t.Error(key, err)
	}
	for _, gone := range []string{"name", "credits", "permissions", "expires"} {
		if key[gone] != nil {
			t.Errorf("%s is %v", gone, key[gone])
		}
	}
	c.must(`^key +`, "", "keys", "create", "--api", api)
	code, stdout, stderr := c.run("", "keys", "list", "--api", api, "--limit", "1")
	if code != 0 || strings.Count(stdout, "key_") != 1 || !strings.HasPrefix(stderr, "There are more: --cursor ") {
		t.Error(code, stdout, stderr)
	}
	cursor := strings.TrimSpace(strings.TrimPrefix(stderr, "There are more: --cursor"))
	c.must(`^key_`, "", "keys", "list", "--api", api, "--limit", "1", "--cursor", cursor)
	c.must(`^Done\.$`, "", "keys", "delete", id, "--permanent")
	c.must(`^Done\.$`, "", "apis", "delete", api)

	c.refused("Not Found: ", "", "keys", "get", id)
	c.refused("/properties/apiId/minLength: ", "", "keys", "create", "--api", "x")
	c.refused(`required flag(s) "api" not set`, "", "keys", "create")
	c.refused("--credits must be a whole number", "", "keys", "update", id, "--credits", "many")
	c.refused("--ratelimit must be as in", "", "keys", "update", id, "--ratelimit", "ten")
	c.refused("--refill must be as in", "", "keys", "update", id, "--refill", "1/monthly")
	c.refused("--meta must be a JSON object", "", "keys", "update", id, "--meta", "[]")
	c.refused("--expires-in must be a time", "", "keys", "update", id, "--expires-in", "-1h")
	c.refused("accepts 1 arg(s)", "", "keys", "get")
}

// TestReroll reads the contract's request; another package serves it.
func TestReroll(t *testing.T) {
	var path, body string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, _ := io.ReadAll(r.Body)
		path, body = r.URL.Path, string(content)
		_, _ = io.WriteString(w, `{"meta":{"propagation":{"confirmed":false,"silent":["node_1"]}},"data":{"keyId":"key_2","key":"sk_new"}}`)
	}))
	defer s.Close()
	c := &console{t: t, environ: []string{"TOLLKEY_ROOT_KEY=hidden-hidden-hidden-hidden"}, always: []string{"--server", s.URL}}
	code, stdout, stderr := c.run("", "keys", "reroll", "key_1", "--old-expires-in", "24h")
	if code != 0 || path != "/v2/keys.rerollKey" || body != `{"expiration":86400000,"keyId":"key_1"}` || !strings.Contains(stdout, "sk_new") ||
		stderr != "Done, but not confirmed yet by node_1\n" {
		t.Error(code, path, body, stdout, stderr)
	}
}

func TestServerThatIsNone(t *testing.T) {
	leaked := ""
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { leaked = r.Header.Get("Authorization") }))
	defer other.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	}))
	defer s.Close()
	c := &console{t: t, environ: []string{"TOLLKEY_ROOT_KEY=hidden-hidden-hidden-hidden", "TOLLKEY_DATA=" + t.TempDir()}}
	c.refused("as no Tollkey of this version does", "", "keys", "get", "key_1", "--server", s.URL)
	if leaked != "" {
		t.Error("the root key followed a redirect")
	}
	c.refused("--server must be", "", "keys", "get", "key_1", "--server", "localhost:8080")
	c.environ = c.environ[1:]
	c.refused("no root key: TOLLKEY_ROOT_KEY is not set, and ", "", "keys", "get", "key_1", "--server", s.URL)
}

func TestBackupRestoreDoctor(t *testing.T) {
	dir := t.TempDir()
	data, file, other := filepath.Join(dir, "data"), filepath.Join(dir, "copy"), filepath.Join(dir, "other")
	at := &console{t: t, always: []string{"--data", data}}
	at.refused("there is no store", "", "backup", file)
	if _, err := os.Stat(data); err == nil {
		t.Error("backup made a data directory")
	}
	t.Run("running", func(t *testing.T) {
		c := &console{t: t, always: []string{"--data", data, "--server", served(t, nil, "--data", data)}}
		c.must(`^apiId`, "", "apis", "create", "payments")
		c.always = c.always[:2]
		c.must(`bytes\.$`, "", "backup", file)
		if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
			t.Error(info.Mode(), err)
		}
		c.refused("another server uses", "", "restore", file, "--force")
		c.must(`^ok    nodes: 1 at work`, "", "doctor")
	})
	at.must(`^ok    roller: .* no server is at work$`, "", "doctor")
	at.refused("there is a store already in "+data+"; --force replaces it", "", "restore", file)
	at.refused("FILE is missing", "", "restore")
	at.refused("takes neither", "", "restore", file, "--epoch-only")
	at.must(`is restored into`, "", "restore", file, "--force")
	at.must(`new epoch`, "", "restore", "--epoch-only")
	if left, err := filepath.Glob(filepath.Join(dir, ".copy*")); len(left) > 0 || err != nil {
		t.Error("left behind:", left, err)
	}

	at.always = []string{"--data", other}
	at.must(`is restored into`, "", "restore", file)
	key := filepath.Join(other, "root-key")
	for _, loose := range []error{os.WriteFile(key, []byte("x"), 0o600), os.Chmod(key, 0o644), os.Chmod(other, 0o755)} {
		if loose != nil {
			t.Fatal(loose)
		}
	}
	at.refused("1 checks failed", "", "doctor")
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	at.must(`^warn  mode of .*others can read it`, "", "doctor")
	if err := os.Truncate(filepath.Join(other, "tollkey.db"), 8192); err != nil {
		t.Fatal(err)
	}
	at.refused("failed", "", "doctor")
}

func TestOperatingPostgreSQL(t *testing.T) {
	environ := []string{"TOLLKEY_DATABASE_URL=" + conformance.Postgres(t), "TOLLKEY_ROOT_KEY=hidden-hidden-hidden-hidden"}
	c := &console{t: t, environ: environ}
	c.refused("this is no store of Tollkey's", "", "restore", "--epoch-only")
	c.refused("checks failed", "", "doctor")
	t.Run("running", func(t *testing.T) {
		served(t, environ)
		_, stdout, _ := c.run("", "doctor") // which fails where the tests' server runs without fsync
		for _, want := range []string{"nodes: 1 at work", "clock: differs from the store's by ", "synchronous_commit: is on", "max_connections: is ", "books: "} {
			if !strings.Contains(stdout, "\nok    "+want) {
				t.Errorf("%s is not ok:\n%s", want, stdout)
			}
		}
	})
	c.refused("use pg_dump, which copies the whole database as it is at one moment", "", "backup", "file")
	c.refused("use pg_restore", "", "restore", "file")
	c.must(`new epoch`, "", "restore", "--epoch-only")
}

func TestCompletion(t *testing.T) {
	c := &console{t: t}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		c.must(`tollkey`, "", "completion", shell)
	}
	if _, stdout, _ := c.run("", "__complete", "keys", "re"); !strings.HasPrefix(stdout, "reroll\t") {
		t.Error(stdout)
	}
}
