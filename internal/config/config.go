// Package config reads the settings of the server from flags, the environment and a file, and knows where each value is from.
//
// It promises that a flag wins over the environment, the environment over the file, and the file over the default; that every value
// given is valid, even one that another source overrides; that a name it does not know is an error; and that neither an error nor
// Settings shows a secret. It does not look whether an address is free or a database answers: that is app's.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/tollkey/tollkey/internal/vault"
)

// Config is what all sources together say.
type Config struct {
	Listen         string            // host:port
	Data           string            // the data directory
	DatabaseURL    string            // postgres://…; "" = the data directory
	RootKey        string            // presets the first root key; "" = generated
	Buffered       bool              // usage.ack is buffered: what spends no credits is answered before it is committed
	DiskSync       bool              // ledger.sync is disk: acknowledged verifications survive power loss
	LiveCounters   int               // how many counters of limits are kept in memory
	ErrorBase      string            // begins the type URL of errors, without a slash at its end; "" = the server's own /docs
	PortalURL      string            // the page that customers are sent to; "" = the server's own /portal
	TrustedProxies []netip.Prefix    // whose X-Forwarded-For is believed
	LogJSON        bool              // log.format is json
	MasterKeys     []vault.MasterKey // of recoverable keys; the first wraps
	LogSample      int               // one in so many successful verifications gets a log line; 0 = none

	masterKeyFile string
	settings      []Setting
}

// Setting is one value as it may be shown to anybody. Source is "default", "FILE:LINE", the environment variable, or the flag.
type Setting struct{ Name, Value, Source string }

// Settings lists all settings, in a fixed order.
func (c *Config) Settings() []Setting { return slices.Clone(c.settings) }

// Input is where Load reads from.
type Input struct {
	Flags    map[string]string            // the flags that were given, by their names without dashes
	Environ  []string                     // NAME=value, as in os.Environ
	File     string                       // what --config says; "" = what TOLLKEY_CONFIG says
	ReadFile func(string) ([]byte, error) // nil = os.ReadFile
}

// setting is one row of the table. Secrets have no flag, since any list of processes shows flags.
type setting struct {
	name, env, flag, fallback string
	parse                     func(*Config, string) error // must not quote a secret in its error
	show                      func(string) string         // nil = as it is
}

var table = []setting{
	{name: "listen", env: "TOLLKEY_LISTEN", flag: "listen", fallback: "127.0.0.1:8080", parse: parseListen},
	{name: "data", env: "TOLLKEY_DATA", flag: "data", fallback: "tollkey-data", parse: parseData},
	{name: "databaseUrl", env: "TOLLKEY_DATABASE_URL", parse: parseDatabaseURL, show: withoutPasswords},
	{name: "rootKey", env: "TOLLKEY_ROOT_KEY", parse: parseRootKey, show: onlySet},
	{name: "vault.keys", env: "TOLLKEY_VAULT_KEYS", parse: parseMasterKeys, show: onlySet},
	{name: "vault.keyFile", env: "TOLLKEY_VAULT_KEY_FILE", parse: func(c *Config, v string) error { c.masterKeyFile = v; return nil }},
	{name: "usage.ack", env: "TOLLKEY_USAGE_ACK", fallback: "commit", parse: choice("commit", "buffered", func(c *Config) *bool { return &c.Buffered })},
	{name: "ledger.sync", env: "TOLLKEY_LEDGER_SYNC", fallback: "process", parse: choice("process", "disk", func(c *Config) *bool { return &c.DiskSync })},
	{name: "limits.memory", env: "TOLLKEY_LIMITS_MEMORY", fallback: "1000000", parse: number(1, func(c *Config) *int { return &c.LiveCounters })},
	{name: "errorBase", env: "TOLLKEY_ERROR_BASE", parse: webAddress(func(c *Config) *string { return &c.ErrorBase })},
	{name: "portalUrl", env: "TOLLKEY_PORTAL_URL", parse: webAddress(func(c *Config) *string { return &c.PortalURL })},
	{name: "trustedProxies", env: "TOLLKEY_TRUSTED_PROXIES", parse: parseTrustedProxies},
	{name: "log.format", env: "TOLLKEY_LOG_FORMAT", fallback: "text", parse: choice("text", "json", func(c *Config) *bool { return &c.LogJSON })},
	{name: "log.sample", env: "TOLLKEY_LOG_SAMPLE", fallback: "100", parse: number(0, func(c *Config) *int { return &c.LogSample })},
}

// lists are the settings that the file may give as a list; parse gets it with commas.
var lists = []string{"trustedProxies", "vault.keys"}

// foreign begins variables that are no settings: those of tests, and those that Kubernetes makes for a service named tollkey.
var foreign = []string{"TOLLKEY_TEST_", "TOLLKEY_BENCH_", "TOLLKEY_SERVICE_", "TOLLKEY_PORT"}

// given is a value before it is parsed.
type given struct{ value, source string }

// Load reads all sources. Its error holds everything that is wrong with any of them.
func Load(in Input) (*Config, error) {
	env, errs := fromEnvironment(in.Environ)
	var file map[string]given
	path, source := in.File, "--config"
	if path == "" {
		path, source = env["TOLLKEY_CONFIG"], "TOLLKEY_CONFIG"
	}
	if path != "" {
		read := in.ReadFile
		if read == nil {
			read = os.ReadFile
		}
		content, err := read(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("config (%s): %w", source, err))
		}
		var wrong []error
		file, wrong = fromFile(path, content)
		errs = append(errs, wrong...)
	}
	c := &Config{}
	for _, s := range table {
		values := []given{{s.fallback, "default"}}
		if g, ok := file[s.name]; ok {
			values = append(values, g)
		}
		if v := env[s.env]; v != "" {
			values = append(values, given{v, s.env})
		}
		if v, ok := in.Flags[s.flag]; ok && s.flag != "" {
			values = append(values, given{v, "--" + s.flag})
		}
		for _, g := range values {
			if err := s.parse(c, g.value); err != nil {
				errs = append(errs, fmt.Errorf("%s (%s): %w", s.name, g.source, err))
			}
		}
		last := values[len(values)-1]
		if s.show != nil {
			last.value = s.show(last.value)
		}
		c.settings = append(c.settings, Setting{s.name, last.value, last.source})
	}
	if err := c.readMasterKeys(); err != nil {
		errs = append(errs, fmt.Errorf("vault.keyFile: %w", err))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return c, nil
}

// fromEnvironment returns our variables. An empty one counts as not set: compose files make that of a missing value.
func fromEnvironment(environ []string) (found map[string]string, errs []error) {
	known := []string{"TOLLKEY_CONFIG"}
	for _, s := range table {
		known = append(known, s.env)
	}
	found = map[string]string{}
	for _, line := range environ {
		name, value, _ := strings.Cut(line, "=")
		if slices.Contains(known, name) {
			found[name] = value
		} else if strings.HasPrefix(name, "TOLLKEY_") && !slices.ContainsFunc(foreign, func(p string) bool { return strings.HasPrefix(name, p) }) {
			errs = append(errs, fmt.Errorf("%s: there is no such setting; the nearest is %s", name, nearest(name, known)))
		}
	}
	return found, errs
}

// fromFile walks the tree instead of decoding it into a struct, because so a value keeps its line and the text that was written.
func fromFile(path string, content []byte) (found map[string]given, errs []error) {
	fail := func(line int, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s:%d: %s", path, line, fmt.Sprintf(format, args...)))
	}
	tree, err := parser.ParseBytes(content, 0)
	if err != nil {
		line, message := 1, "this is not YAML"
		// The error's own text quotes the lines around it, which may hold a secret.
		if syntax, ok := errors.AsType[yaml.Error](err); ok && syntax.GetToken() != nil {
			line, message = syntax.GetToken().Position.Line, syntax.GetMessage()
		}
		fail(line, "%s", message)
		return nil, errs
	}
	var names []string
	for _, s := range table {
		names = append(names, s.name)
	}
	found = map[string]given{}
	var walk func(name string, line int, n ast.Node)
	walk = func(name string, line int, n ast.Node) {
		text, ok := scalar(n, slices.Contains(lists, name))
		switch n := n.(type) {
		case nil, *ast.NullNode: // as if it were commented out
		case *ast.MappingNode:
			for _, entry := range n.Values {
				key := entry.Key.GetToken()
				inner := strings.TrimPrefix(name+"."+key.Value, ".")
				if slices.ContainsFunc(names, func(s string) bool { return strings.HasPrefix(s+".", inner+".") }) {
					walk(inner, key.Position.Line, entry.Value)
				} else {
					fail(key.Position.Line, "%s: there is no such setting; the nearest is %s", inner, nearest(inner, names))
				}
			}
		default:
			switch _, twice := found[name]; {
			case twice:
				fail(line, "%s is set twice", name)
			case !slices.Contains(names, name):
				fail(line, "%s holds names with values", cmp.Or(name, "a configuration file"))
			case !ok:
				fail(line, "%s must be a plain value", name)
			default:
				found[name] = given{text, fmt.Sprintf("%s:%d", path, line)}
			}
		}
	}
	for _, document := range tree.Docs {
		walk("", 1, document.Body)
	}
	return found, errs
}

// scalar is the text of a plain value without its quotes: no anchors, tags and blocks.
func scalar(n ast.Node, orList bool) (text string, ok bool) {
	switch n := n.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	case *ast.SequenceNode:
		parts := make([]string, len(n.Values))
		for i, item := range n.Values {
			if parts[i], ok = scalar(item, false); !ok {
				return "", false
			}
		}
		return strings.Join(parts, ","), orList
	}
	return "", false
}
