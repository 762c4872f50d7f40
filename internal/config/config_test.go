package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const path = "tollkey.yaml"

// Two master keys.
const (
	masterKey  = "m1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	masterKey2 = "m2:HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
)

// load runs Load with content as the file, which is none where content is "".
func load(content string, environ []string, flags map[string]string) (*Config, error) {
	in := Input{Flags: flags, Environ: environ, ReadFile: func(name string) ([]byte, error) {
		if name != path {
			return nil, fmt.Errorf("%s: %w", name, os.ErrNotExist)
		}
		return []byte(content), nil
	}}
	if content != "" {
		in.File = path
	}
	return Load(in)
}

func find(t *testing.T, c *Config, name string) Setting {
	t.Helper()
	for _, s := range c.Settings() {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no setting %s", name)
	return Setting{}
}

func TestDefaults(t *testing.T) {
	c, err := load("", []string{"PATH=/bin", "TOLLKEYS=1", "TOLLKEY_TEST_POSTGRES_URL=x", "TOLLKEY_BENCH_N=1", "TOLLKEY_LISTEN=", "TOLLKEY_SERVICE_HOST=10.0.0.1", "TOLLKEY_PORT_8080_TCP=x"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []Setting{
		{"listen", "127.0.0.1:8080", "default"},
		{"data", "tollkey-data", "default"},
		{"databaseUrl", "", "default"},
		{"rootKey", "", "default"},
		{"vault.keys", "", "default"},
		{"vault.keyFile", "", "default"},
		{"usage.ack", "commit", "default"},
		{"ledger.sync", "process", "default"},
		{"limits.memory", "1000000", "default"},
		{"errorBase", "", "default"},
		{"portalUrl", "", "default"},
		{"trustedProxies", "", "default"},
		{"log.format", "text", "default"},
		{"log.sample", "100", "default"},
	}
	if got := c.Settings(); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if c.Listen != "127.0.0.1:8080" || c.Data != "tollkey-data" || c.Buffered || c.DiskSync || c.LiveCounters != 1_000_000 || c.TrustedProxies != nil || c.LogJSON || c.LogSample != 100 {
		t.Errorf("%+v", c)
	}
}

func TestPrecedence(t *testing.T) {
	const file, env = "# one\nlisten: file:1\ndata: in-file\n", "TOLLKEY_LISTEN=env:2"
	flags := map[string]string{"listen": "flag:3"}
	for _, test := range []struct {
		name, file    string
		environ       []string
		flags         map[string]string
		value, source string
	}{
		{"default", "", nil, nil, "127.0.0.1:8080", "default"},
		{"file", file, nil, nil, "file:1", path + ":2"},
		{"environment", "", []string{env}, nil, "env:2", "TOLLKEY_LISTEN"},
		{"environment over file", file, []string{env}, nil, "env:2", "TOLLKEY_LISTEN"},
		{"flag", "", nil, flags, "flag:3", "--listen"},
		{"flag over file", file, nil, flags, "flag:3", "--listen"},
		{"flag over environment", "", []string{env}, flags, "flag:3", "--listen"},
		{"flag over all", file, []string{env}, flags, "flag:3", "--listen"},
		{"empty variable", file, []string{"TOLLKEY_LISTEN="}, nil, "file:1", path + ":2"},
		{"null", "listen:\n", nil, nil, "127.0.0.1:8080", "default"},
		{"file of the environment", "", []string{"TOLLKEY_CONFIG=other"}, nil, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := load(test.file, test.environ, test.flags)
			if test.source == "" {
				if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "config (TOLLKEY_CONFIG): ") {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := find(t, c, "listen"); got.Value != test.value || got.Source != test.source || c.Listen != test.value {
				t.Errorf("got %v and %q", got, c.Listen)
			}
		})
	}
}

func TestFileOfFlagWins(t *testing.T) {
	_, err := Load(Input{File: "a", Environ: []string{"TOLLKEY_CONFIG=b"}, ReadFile: func(name string) ([]byte, error) {
		return nil, errors.New("read " + name)
	}})
	if err == nil || err.Error() != "config (--config): read a" {
		t.Errorf("got %v", err)
	}
}

// Every setting can be given in the file and in the environment, and comes out the same.
func TestEverySetting(t *testing.T) {
	const file = `listen: ":9000"
data: /var/lib/tollkey
databaseUrl: postgres://u:p@db/t
rootKey: 01234567890123456789
vault:
  keys: [` + masterKey + `, ` + masterKey2 + `]
usage: {ack: buffered}
ledger:
  sync: disk
limits.memory: 5
errorBase: https://errors.example/base/
portalUrl: https://portal.example/
trustedProxies:
  - 10.1.2.3/8
  - "::1"
  - ::ffff:192.0.2.1
log:
  # nothing
  format: json
  sample: 0
`
	environ := []string{
		"TOLLKEY_LISTEN=:9000", "TOLLKEY_DATA=/var/lib/tollkey", "TOLLKEY_DATABASE_URL=postgres://u:p@db/t",
		"TOLLKEY_ROOT_KEY=01234567890123456789", "TOLLKEY_VAULT_KEYS=" + masterKey + "," + masterKey2, "TOLLKEY_USAGE_ACK=buffered", "TOLLKEY_LEDGER_SYNC=disk", "TOLLKEY_LIMITS_MEMORY=5",
		"TOLLKEY_ERROR_BASE=https://errors.example/base/", "TOLLKEY_PORTAL_URL=https://portal.example/", "TOLLKEY_TRUSTED_PROXIES=10.1.2.3/8, ::1,::ffff:192.0.2.1",
		"TOLLKEY_LOG_FORMAT=json", "TOLLKEY_LOG_SAMPLE=0",
	}
	if len(environ) != len(table)-1 { // vault.keyFile excludes vault.keys and has a test of its own
		t.Fatal("a setting is missing in this test")
	}
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("192.0.2.1/32")}
	for name, read := range map[string]func() (*Config, error){
		"file":        func() (*Config, error) { return load(file, nil, nil) },
		"environment": func() (*Config, error) { return load("", environ, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			c, err := read()
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range c.Settings() {
				if s.Source == "default" && s.Name != "vault.keyFile" {
					t.Errorf("%s is the default", s.Name)
				}
			}
			if c.Listen != ":9000" || c.Data != "/var/lib/tollkey" || c.DatabaseURL != "postgres://u:p@db/t" || c.RootKey != "01234567890123456789" ||
				len(c.MasterKeys) != 2 || c.MasterKeys[0].Entry() != masterKey || c.MasterKeys[1].Entry() != masterKey2 || !c.Buffered || !c.DiskSync || c.LiveCounters != 5 || c.ErrorBase != "https://errors.example/base" || c.PortalURL != "https://portal.example" ||
				!slices.Equal(c.TrustedProxies, proxies) || !c.LogJSON || c.LogSample != 0 {
				t.Errorf("%+v", c)
			}
		})
	}
}

func TestFiles(t *testing.T) {
	for _, test := range []struct{ file, want string }{
		{"# nothing\n", ""},
		{"---\n", ""},
		{"usage:\nlog: {}\ntrustedProxies: []\n", ""},
		{"listen: :1\n\nlistn: :2\n", "tollkey.yaml:3: listn: there is no such setting; the nearest is listen"},
		{"foo: {bar: 1}\n", "tollkey.yaml:1: foo: there is no such setting; the nearest is "},
		{"foo:\n", "tollkey.yaml:1: foo: there is no such setting; the nearest is "},
		{"log:\n  format: text\n  sampel: 1\n", "tollkey.yaml:3: log.sampel: there is no such setting; the nearest is log.sample"},
		{"listen: {host: a}\n", "tollkey.yaml:1: listen.host: there is no such setting; the nearest is listen"},
		{"<<: {data: a}\n", "tollkey.yaml:1: <<: there is no such setting"},
		{"data: a\ndata: b\n", `tollkey.yaml:2: mapping key "data" already defined`},
		{"usage: {ack: commit}\nusage.ack: commit\n", "tollkey.yaml:2: usage.ack is set twice"},
		{"data: a\n---\ndata: b\n", "tollkey.yaml:3: data is set twice"},
		{"usage: buffered\n", "tollkey.yaml:1: usage holds names with values"},
		{"hello\n", "tollkey.yaml:1: a configuration file holds names with values"},
		{"- listen\n", "tollkey.yaml:1: a configuration file holds names with values"},
		{"data: [a, b]\n", "tollkey.yaml:1: data must be a plain value"},
		{"data: &a b\n", "tollkey.yaml:1: data must be a plain value"},
		{"data: !!str b\n", "tollkey.yaml:1: data must be a plain value"},
		{"data: |\n  b\n", "tollkey.yaml:1: data must be a plain value"},
		{"trustedProxies: [[::1]]\n", "tollkey.yaml:1: trustedProxies must be a plain value"},
		{"trustedProxies:\n- 10.0.0.1\n- nowhere\n", `trustedProxies (tollkey.yaml:1): "nowhere" is neither`},
		{"data: a\nlisten: [\n", "tollkey.yaml:2: sequence end token ']' not found"},
	} {
		t.Run(test.file, func(t *testing.T) {
			_, err := load(test.file, nil, nil)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestUnknownVariables(t *testing.T) {
	for name, near := range map[string]string{
		"TOLLKEY_LISTN":         "TOLLKEY_LISTEN",
		"TOLLKEY_DATABASEURL":   "TOLLKEY_DATABASE_URL",
		"TOLLKEY_TRUSTED_PROXY": "TOLLKEY_TRUSTED_PROXIES",
		"TOLLKEY_CONFIG_FILE":   "TOLLKEY_CONFIG",
		"TOLLKEY_TESTS":         "TOLLKEY_",
	} {
		_, err := load("", []string{name + "=hidden"}, nil)
		if err == nil || !strings.Contains(err.Error(), name+": there is no such setting; the nearest is "+near) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestBadValues(t *testing.T) {
	for name, values := range map[string][]string{
		"listen":        {"8080", "localhost", "localhost:http", "localhost:65536", ":", "::1:80"},
		"databaseUrl":   {"mysql://db", "postgres:db", "host=db", "postgres://u:1/2@db", "postgres://u:1?2@db", "postgres://u:1#2@db", "postgres://u:a@1/2@db", "postgres://h:port"},
		"rootKey":       {"0123456789012345678", strings.Repeat("k", 201)},
		"vault.keys":    {"x", masterKey + "," + masterKey, strings.TrimSuffix(masterKey, "=")},
		"usage.ack":     {"Buffered", "true"},
		"ledger.sync":   {"full"},
		"limits.memory": {"0", "-1", "1e6", "many", "1000000001", "99999999999999999999"},
		"errorBase":     {"errors.example", "/docs", "ftp://errors.example", "https://", "https://u:p@errors.example", "https://errors.example?a", "https://errors.example#a"},
		"trustedProxies": {
			"proxy.example", "10.0.0.0/33", "10.0.0.1,,10.0.0.2", "fe80::1%eth0", "::ffff:10.0.0.0/104", "10.0.0.1 10.0.0.2",
		},
		"log.format": {"JSON", "xml"},
		"log.sample": {"-1", "0.5"},
	} {
		i := slices.IndexFunc(table, func(s setting) bool { return s.name == name })
		s := table[i]
		for _, v := range values {
			t.Run(name+"="+v, func(t *testing.T) {
				_, err := load("", []string{s.env + "=" + v}, nil)
				if err == nil || !strings.HasPrefix(err.Error(), name+" ("+s.env+"): ") {
					t.Errorf("got %v", err)
				}
			})
		}
	}
	for _, name := range []string{"listen", "data"} {
		_, err := load("", nil, map[string]string{name: ""})
		if err == nil || !strings.HasPrefix(err.Error(), name+" (--"+name+"): ") {
			t.Errorf("empty %s: got %v", name, err)
		}
	}
}

// All that is wrong is told at once, also what another source overrides.
func TestAllErrorsAtOnce(t *testing.T) {
	c, err := load("listen: x\nfoo: 1\nlog: {format: xml}\n", []string{"TOLLKEY_LISTEN=y", "TOLLKEY_BAR=1"}, map[string]string{"listen": "ok:1"})
	if c != nil || err == nil {
		t.Fatalf("got %v and %v", c, err)
	}
	want := []string{"TOLLKEY_BAR: ", "tollkey.yaml:2: foo: ", "listen (tollkey.yaml:1): ", "listen (TOLLKEY_LISTEN): ", "log.format (tollkey.yaml:3): "}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(want) {
		t.Fatalf("got %v", err)
	}
	for i, line := range lines {
		if !strings.HasPrefix(line, want[i]) {
			t.Errorf("got %q, want %q", line, want[i])
		}
	}
}

func TestShownURLs(t *testing.T) {
	for in, want := range map[string]string{
		"postgres://db/t":                                "postgres://db/t",
		"postgres://db:5432/t":                           "postgres://db:5432/t",
		"postgres://user@db:5432/t":                      "postgres://user@db:5432/t",
		"postgres://user:hidden@db:5432/t?sslmode=x":     "postgres://user:***@db:5432/t?sslmode=x",
		"postgresql://user:hid:den@db":                   "postgresql://user:***@db",
		"postgres://user:hid@hidden@db/t":                "postgres://user:***@db/t",
		"postgres://:hidden@db/t":                        "postgres://:***@db/t",
		"postgres:///t?host=/run&password=hidden&user=u": "postgres:///t?host=/run&password=***&user=u",
		"postgres://db/t?sslpassword=hidden":             "postgres://db/t?sslpassword=***",
		"postgres://db/t?Pass%77ord=hidden;hidden&a=b":   "postgres://db/t?Pass%77ord=***&a=b",
	} {
		c, err := load("", []string{"TOLLKEY_DATABASE_URL=" + in}, nil)
		if err != nil {
			t.Errorf("%s: %v", in, err)
		} else if got := find(t, c, "databaseUrl").Value; got != want || c.DatabaseURL != in {
			t.Errorf("%s: got %s and %s", in, got, c.DatabaseURL)
		}
	}
}

// Whatever is wrong with a value or the file around it, no part of a secret is in the error or among the settings.
func TestSecretsAreNotShown(t *testing.T) {
	const secret = "hiddenhiddenhidden0123456789"
	files := []string{
		"rootKey: " + secret + "\n",
		"rootKey: " + secret + strings.Repeat("x", 200) + "\n",
		"rootKey: [" + secret + "]\n",
		"rootKey: &a " + secret + "\n",
		"rootKey: \"" + secret + "\n",
		"rootKey:\n\t" + secret + "\n",
		"rootKey: @" + secret + "\n",
		"rootKey: " + secret + ": x\n",
		"rootKey:" + secret + "\n",
		"rootKey: " + secret + "\nlisten: [\n",
		"rootKey: " + secret + "\nrootKey: " + secret + "\n",
		"vault: {keys: " + secret + "}\n",
		"vault: {keys: \"a:" + secret + "\"}\n",
		"vault: {keys: [\"a:" + secret + "\", 1]}\n",
		"vault: {keys: {a: " + secret + "}}\n",
		"vault.keys: a:" + secret + ": x\n",
		"vault: {keyFile: [" + secret + "]}\n",
		"databaseUrl: postgres://u:" + secret + "@db/t\n",
		"databaseUrl: postgres://u:1/" + secret + "@db/t\n",
		"databaseUrl: postgres://u:%" + secret + "@db/t\n",
		"databaseUrl: mysql://u:" + secret + "@db/t\n",
		"databaseUrl: host=db password=" + secret + "\n",
	}
	for _, file := range files {
		c, err := load(file, nil, nil)
		if err != nil {
			if strings.Contains(err.Error(), "hidden") {
				t.Errorf("%q: %v", file, err)
			}
			continue
		}
		if shown := fmt.Sprint(c.Settings()); strings.Contains(shown, "hidden") {
			t.Errorf("%q: %s", file, shown)
		}
	}
	c, err := load(files[0], nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := find(t, c, "rootKey"); c.RootKey != secret || got.Value != "(set)" {
		t.Errorf("got %v and %q", got, c.RootKey)
	}
}

// TestMasterKeys reads them from the environment and from a file that few may read, and shows none.
func TestMasterKeys(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(name, []byte(text), mode), os.Chmod(name, mode)); err != nil { // whatever the umask is
			t.Fatal(err)
		}
		return "TOLLKEY_VAULT_KEY_FILE=" + name
	}
	for name, test := range map[string]struct {
		environ []string
		want    string // part of the error; "" = both keys
	}{
		"environment":     {[]string{"TOLLKEY_VAULT_KEYS=" + masterKey + " " + masterKey2}, ""},
		"file":            {[]string{write("good", masterKey+"\n"+masterKey2+"\n", 0o600)}, ""},
		"group reads":     {[]string{write("group", masterKey+"\n"+masterKey2+"\n", 0o640)}, ""},
		"others read":     {[]string{write("others", masterKey, 0o644)}, "others has mode 0644"},
		"group writes":    {[]string{write("writes", masterKey, 0o660)}, "writes has mode 0660"},
		"both":            {[]string{write("both", masterKey, 0o600), "TOLLKEY_VAULT_KEYS=" + masterKey2}, "vault.keyFile: vault.keys is set too"},
		"empty":           {[]string{write("empty", "\n", 0o600)}, "empty: it holds no key"},
		"something else":  {[]string{write("else", "x:"+masterKey, 0o600)}, "else: entry 1 must be"},
		"a directory":     {[]string{"TOLLKEY_VAULT_KEY_FILE=" + dir}, "must be a file"},
		"no such file":    {[]string{"TOLLKEY_VAULT_KEY_FILE=" + dir + "/none"}, "vault.keyFile: open "},
		"twice the same":  {[]string{write("twice", masterKey+"\n"+masterKey, 0o600)}, "the same id"},
		"set and invalid": {[]string{"TOLLKEY_VAULT_KEYS=m1"}, "vault.keys (TOLLKEY_VAULT_KEYS): entry 1"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := load("", test.environ, nil)
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "AAECAwQF") {
					t.Errorf("got %v, want %q", err, test.want)
				}
				return
			}
			if err != nil || len(c.MasterKeys) != 2 || c.MasterKeys[1].Entry() != masterKey2 {
				t.Fatal(c, err)
			}
			if shown := fmt.Sprintf("%v %+v", c.Settings(), c); strings.Contains(shown, "ECAwQFBgcI") {
				t.Error(shown)
			}
			if got := find(t, c, "vault.keys"); got.Source != "default" && got.Value != "(set)" {
				t.Errorf("%v", got)
			}
		})
	}
}
