package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/control"
)

// event is what is known of one request: it becomes one wide log line and the metrics.
type event struct {
	id         string
	start      time.Time
	operation  string // "" until a route was found
	token      string // the secret of the root key; "" = the header is malformed
	caller     control.Caller
	header     http.Header // of the answer
	status     int         // 0 = 200
	kind       string      // the error's type
	verified   bool        // a verification was answered
	outcome    tollkey.Outcome
	key        tollkey.KeyID
	customer   *control.Customer // who is in a portal
	authorized bool              // there is a header Authorization, of whatever form
	frequent   bool              // of many that are alike: only a sample is logged
}

type eventKey struct{}

// eventOf returns the request's event. Without a guard before (in no real server) it is an empty one, whose caller may do nothing.
func eventOf(ctx context.Context) *event {
	if ev, ok := ctx.Value(eventKey{}).(*event); ok {
		return ev
	}
	return &event{caller: control.Caller{Principal: &tollkey.Principal{}}, header: http.Header{}}
}

func callerOf(ctx context.Context) control.Caller { return eventOf(ctx).caller }

// finish counts and logs an answered request.
func (s *server) finish(ev *event) {
	if ev.operation == "" && ev.status == 0 {
		return // no such path or method
	}
	operation, status := ev.operation, ev.status
	if operation == "" {
		operation = "none" // refused before its body was read
	}
	if status == 0 {
		status = http.StatusOK
	}
	took := s.Now().Sub(ev.start)
	s.Metrics.Request(operation, status, took)
	if ev.verified {
		s.Metrics.Verification(ev.outcome)
	}
	if ev.frequent && status == http.StatusOK && !s.lines.sampled(s.LogSample) {
		return
	}
	dropped, ok := s.lines.admit(ev.start)
	if !ok {
		return
	}
	s.log(ev, operation, status, took, dropped)
}

func (s *server) log(ev *event, operation string, status int, took time.Duration, dropped int64) {
	fields := make([]slog.Attr, 0, 12)
	fields = append(fields, slog.String("request", ev.id), slog.String("operation", operation), slog.Int("status", status),
		slog.Float64("ms", float64(took.Microseconds())/1000), slog.String("ip", ev.caller.RemoteIP))
	if ev.caller.Principal != nil && ev.caller.Workspace != "" {
		fields = append(fields, slog.String("workspace", string(ev.caller.Workspace)), slog.String("rootKey", string(ev.caller.RootKey)))
	}
	if ev.kind != "" {
		fields = append(fields, slog.String("error", ev.kind))
	}
	if ev.verified {
		fields = append(fields, slog.String("outcome", ev.outcome.String()), slog.String("key", string(ev.key)))
	}
	if dropped > 0 {
		fields = append(fields, slog.Int64("linesDropped", dropped))
	}
	level := slog.LevelInfo
	if status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	s.Log.LogAttrs(context.Background(), level, "request", fields...)
}

// maxLines bounds the log lines of a second: a line costs a sixth of a request.
const maxLines = 100

// lines decides which requests are logged.
type lines struct {
	valid   atomic.Int64
	mu      sync.Mutex
	second  int64
	count   int64
	dropped int64
}

// sampled reports whether this successful verification is the one in n that is logged; 0 logs none.
func (l *lines) sampled(n int64) bool { return n > 0 && l.valid.Add(1)%n == 0 }

// admit counts a line and reports whether it may be written, and how many were dropped since the last one that was.
func (l *lines) admit(now time.Time) (dropped int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if second := now.Unix(); second != l.second {
		l.second, l.count = second, 0
	}
	if l.count++; l.count > maxLines {
		l.dropped++
		return 0, false
	}
	dropped, l.dropped = l.dropped, 0
	return dropped, true
}
