package httpapi

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/obs"
)

// TestRegistry holds the reasons in the code and api/errors.yaml together: each has an entry, each entry's type, status and title are those that
// the server sends, and each has a page.
func TestRegistry(t *testing.T) {
	entries, err := errorRegistry()
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, e := range entries {
		parts := strings.Split(e.Type, "/")
		reason := parts[len(parts)-1]
		listed[reason] = true
		known := false
		for code, st := range status {
			if st.status != e.Status {
				continue
			}
			made := tollkey.NewError(code, tollkey.Reason(reason), "")
			title := st.title
			if special, ok := titles[made.Reason]; ok {
				title = special
			}
			known = true
			if got := family(made) + "/" + reason; got != e.Type || title != e.Title {
				t.Errorf("%s is sent as %s with the title %q, registered as %q", e.Type, got, title, e.Title)
			}
		}
		if !known || e.Means == "" || e.Do == "" {
			t.Errorf("%s: the entry has no known status or no text", e.Type)
		}
		w := httptest.NewRecorder()
		(&server{}).errorPage(w, httptest.NewRequest(http.MethodGet, "/docs/errors/"+e.Type, nil))
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), e.Title) {
			t.Errorf("%s has no page: %d", e.Type, w.Code)
		}
	}
	file, err := parser.ParseFile(token.NewFileSet(), "../../errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Reason") {
			return true
		}
		reason, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		if !listed[reason] {
			t.Errorf("%s (%s) is not in api/errors.yaml", spec.Names[0].Name, reason)
		}
		return true
	})
}

// TestReferenceShowsEveryOperation also fails for an operation without an example.
func TestReferenceShowsEveryOperation(t *testing.T) {
	html, err := referenceHTML()
	if err != nil {
		t.Fatal(err)
	}
	sections := strings.Split(string(html), "<section ")[1:]
	all, err := schemas()
	if err != nil {
		t.Fatal(err)
	}
	if len(sections) != len(all)+1 { // liveness takes no body
		t.Errorf("%d operations are shown, %d have a body", len(sections), len(all))
	}
	for _, s := range sections {
		want := 2
		if strings.Contains(s, "GET /v2/liveness") {
			want = 1
		}
		if n := strings.Count(s, "<pre>"); n != want {
			t.Errorf("%d examples, want %d: %s", n, want, s[:80])
		}
	}
	if strings.Contains(string(html), "<script") || strings.Contains(string(html), "src=") {
		t.Error("the reference loads something")
	}
}

func TestClientIP(t *testing.T) {
	s := &server{Options: Options{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}}
	for _, c := range []struct{ peer, header, want string }{
		{"203.0.113.9:1", "", "203.0.113.9"},
		{"203.0.113.9:1", "198.51.100.1", "203.0.113.9"}, // a stranger's header is not believed
		{"10.0.0.1:1", "198.51.100.1", "198.51.100.1"},
		{"10.0.0.1:1", "6.6.6.6, 198.51.100.1, 10.2.3.4", "198.51.100.1"},
		{"[::ffff:10.0.0.1]:1", "2001:db8::1", "2001:db8::1"},
		{"[fd00::1]:1", "nonsense", "fd00::1"},
		{"10.0.0.1:1", "10.0.0.2", "10.0.0.2"},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.RemoteAddr = c.peer
		if c.header != "" {
			r.Header.Set("X-Forwarded-For", c.header)
		}
		if got := s.clientIP(r).String(); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestMetricsAreServed(t *testing.T) {
	m := obs.New()
	m.Verification(tollkey.OutcomeRateLimited)
	m.Gauge("tollkey_test", "x", func() float64 { return 7 })
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{`tollkey_verifications_total{outcome="RATE_LIMITED"} 1`, "tollkey_test 7"} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s is missing", want)
		}
	}
}
