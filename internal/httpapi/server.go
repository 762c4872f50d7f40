// Package httpapi is the HTTP edge: it translates between internal/wire, which is generated from api/openapi.yaml, and the
// engine and management operations, and turns every error into JSON in one place. A handler makes one call.
//
// It promises that secrets are neither logged nor echoed, that what was committed is never answered with a 5xx, and that a caller
// is authenticated before anything is done for it, after its request was found well-formed.
package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/ogen-go/ogen/middleware"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/api"
	"github.com/tollkey/tollkey/internal/control"
	"github.com/tollkey/tollkey/internal/obs"
	"github.com/tollkey/tollkey/internal/verify"
	"github.com/tollkey/tollkey/internal/wire"
)

const (
	maxBody        = 10 << 20
	requestTimeout = 60 * time.Second
)

// Options of New.
type Options struct {
	Control *control.Service
	Verify  *verify.Engine
	// Ready tells whether the store answers.
	Ready func(context.Context) error
	Log   *slog.Logger
	// Remote says that the store is another process.
	Remote bool
	// ErrorBase begins every error's `type`.
	ErrorBase string
	// PortalBase is the address of the page that customers are sent to, with the code of their session.
	PortalBase string
	// TrustedProxies are the addresses whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	// LogSample has one in so many successful verifications logged; 0 = none.
	LogSample int64
	Metrics   *obs.Metrics
	Now       func() time.Time
}

type server struct {
	Options
	lines lines
}

// New returns the handler of the whole API.
func New(o Options) (http.Handler, error) {
	s := &server{Options: o}
	routes, err := wire.NewServer(s, s, wire.WithErrorHandler(s.fail), wire.WithMiddleware(s.authenticate),
		wire.WithNotFound(http.NotFound), wire.WithMethodNotAllowed(methodNotAllowed))
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/v2/", s.guard(routes))
	mux.HandleFunc("HEAD /v2/liveness", func(w http.ResponseWriter, r *http.Request) {
		get := r.Clone(r.Context())
		get.Method = http.MethodGet // what is written as a body, net/http drops
		s.guard(routes).ServeHTTP(w, get)
	})
	mux.HandleFunc("GET /openapi.yaml", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(api.OpenAPI)
	})
	mux.Handle("GET /metrics", o.Metrics.Handler())
	mux.HandleFunc("GET /reference", s.reference)
	mux.HandleFunc("GET /docs/errors/", s.errorPage)
	mux.HandleFunc("GET /health/live", s.live)
	mux.HandleFunc("GET /health/startup", s.live)
	mux.HandleFunc("GET /health/ready", s.ready)
	return mux, nil
}

func (s *server) live(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }

func (s *server) ready(w http.ResponseWriter, r *http.Request) {
	if err := s.Ready(r.Context()); err != nil {
		http.Error(w, "the store does not answer", http.StatusServiceUnavailable)
		return
	}
	s.live(w, r)
}

func methodNotAllowed(w http.ResponseWriter, _ *http.Request, allowed string) {
	clear(w.Header()) // the router has answered a preflight; there is no CORS
	w.Header().Set("Allow", allowed)
	http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
}

// guard bounds the body, keeps a panic from ending the process, and refuses what has a route and no credential before its body is read.
func (s *server) guard(routes *wire.Server) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ev := &event{start: s.Now(), header: w.Header()}
		ev.id = tollkey.NewID("req", ev.start)
		ev.caller = control.Caller{Principal: &tollkey.Principal{}, RemoteIP: s.clientIP(r).String(), UserAgent: strings.ToValidUTF8(r.UserAgent(), "\uFFFD")}
		ctx := context.WithValue(r.Context(), eventKey{}, ev)
		r = r.WithContext(ctx)
		defer s.finish(ev)
		defer func() {
			if p := recover(); p != nil {
				s.Log.Error("a handler panicked", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
				s.write(w, r, tollkey.NewError(tollkey.CodeInternal, tollkey.ReasonUnexpected, ""), nil, plain)
			}
		}()
		credential := strings.TrimSpace(r.Header.Get("Authorization"))
		if ev.authorized = credential != ""; !ev.authorized || strings.HasPrefix(r.URL.Path, portalPath) {
			if route, ok := routes.FindPath(r.Method, r.URL); ok {
				if missing, fix := lacks(r, route.Name()); missing != "" {
					s.invalid(w, r, "The request failed to validate schema: it carries no credential.", fault{Location: "security", Message: missing, Fix: fix})
					return
				}
			}
		}
		if token, ok := strings.CutPrefix(credential, "Bearer "); ok {
			ev.token = strings.TrimSpace(token)
		} else {
			r.Header.Set("Authorization", "Bearer malformed") // the router would refuse it before it looks at the body; authenticate does after
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		routes.ServeHTTP(w, r)
	})
}

// HandleRootKey implements wire.SecurityHandler. The credential is checked by authenticate, after the body.
func (s *server) HandleRootKey(ctx context.Context, _ wire.OperationName, _ wire.RootKey) (context.Context, error) {
	return ctx, nil
}

// authenticate runs when the request is known to fit its schema.
func (s *server) authenticate(r middleware.Request, next middleware.Next) (middleware.Response, error) {
	ev := eventOf(r.Context)
	ev.operation = r.OperationID
	if r.OperationID == "liveness" {
		return next(r)
	}
	if fault := textFault(r.RawBody); fault != nil {
		return middleware.Response{}, fault
	}
	if s.Remote || r.OperationID != "verifyKey" && r.OperationID != "limit" { // a verification on a store in this process waits for nothing that may hang, and a timer costs it a tenth
		ctx, cancel := context.WithTimeout(r.Context, requestTimeout)
		defer cancel()
		r.SetContext(ctx)
	}
	var err error
	switch {
	case portalOperations[r.OperationName]:
		err = s.admitCustomer(r.Context, ev, r.Raw)
	case r.OperationName != wire.ExchangePortalCodeOperation:
		err = s.admit(r.Context, ev)
	}
	if err != nil {
		return middleware.Response{}, err
	}
	return next(r)
}

var errMalformed = tollkey.NewError(tollkey.CodeInvalid, tollkey.ReasonMalformedAuth, "The header Authorization must be `Bearer <root key>`.")

// admit finds out who asks, and holds the workspace to its cap.
func (s *server) admit(ctx context.Context, ev *event) error {
	if ev.token == "" {
		return errMalformed
	}
	p, err := s.Verify.Authenticate(ctx, ev.token)
	if err != nil {
		return err
	}
	return s.admitted(ev, p)
}

func (s *server) admitted(ev *event, p *tollkey.Principal) error {
	ev.caller.Principal = p
	if p.RequestsPerMinute >= 0 {
		return s.capRequests(ev)
	}
	return nil
}

// capRequests holds the workspace to its requests per minute. A cap of 0 blocks, and says nothing about when it ends.
func (s *server) capRequests(ev *event) error {
	d, ok := s.Verify.AdmitRequest(ev.caller.Principal, ev.start)
	if limit := ev.caller.RequestsPerMinute; limit > 0 {
		seconds := strconv.FormatInt(int64(max(d.Reset.Sub(ev.start)+time.Second-1, 0)/time.Second), 10)
		ev.header.Set("RateLimit-Limit", strconv.FormatInt(limit, 10))
		ev.header.Set("RateLimit-Remaining", strconv.FormatInt(d.Remaining, 10))
		ev.header.Set("RateLimit-Reset", seconds)
		if !ok {
			ev.header.Set("Retry-After", seconds)
		}
	}
	if !ok {
		return tollkey.NewError(tollkey.CodeTooManyRequests, tollkey.ReasonWorkspaceRateLimited, "The workspace has used up its requests of this minute.")
	}
	return nil
}

// Liveness implements wire.Handler.
func (s *server) Liveness(ctx context.Context) (*wire.LivenessResponse, error) {
	return &wire.LivenessResponse{Meta: s.meta(ctx), Data: wire.LivenessResponseData{Message: "OK"}}, nil
}

func (s *server) meta(ctx context.Context) wire.Meta { return wire.Meta{RequestId: eventOf(ctx).id} }

func (s *server) changed(ctx context.Context, p tollkey.Propagation) wire.Meta {
	m := s.meta(ctx)
	m.Propagation = wire.NewOptPropagation(wire.Propagation{
		Confirmed: p.Confirmed, Nodes: p.Nodes, Silent: p.Silent, Milliseconds: p.Took.Milliseconds(),
	})
	return m
}
