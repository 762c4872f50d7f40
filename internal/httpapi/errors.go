package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ogen-go/ogen/ogenerrors"

	"github.com/tollkey/tollkey"
)

// fault is one thing that is wrong with a request.
type fault struct {
	Location string `json:"location"`
	Message  string `json:"message"`
	Fix      string `json:"fix,omitempty"`
}

// status holds the HTTP status and title of each code.
var status = map[tollkey.Code]struct {
	status int
	title  string
}{
	tollkey.CodeInternal:        {500, "Internal Server Error"},
	tollkey.CodeInvalid:         {400, "Bad Request"},
	tollkey.CodeUnauthorized:    {401, "Unauthorized"},
	tollkey.CodeForbidden:       {403, "Forbidden"},
	tollkey.CodeNotFound:        {404, "Not Found"},
	tollkey.CodeTimeout:         {408, "Request Timeout"},
	tollkey.CodeConflict:        {409, "Conflicting Resource"},
	tollkey.CodeGone:            {410, "Resource Gone"},
	tollkey.CodePrecondition:    {412, "Precondition Failed"},
	tollkey.CodeTooLarge:        {413, "Request Entity Too Large"},
	tollkey.CodeUnprocessable:   {422, "Unprocessable Entity"},
	tollkey.CodeTooManyRequests: {429, "Too Many Requests"},
	tollkey.CodeCanceled:        {499, "Client Closed Request"},
}

// titles holds the reasons whose title is not that of their code.
var titles = map[tollkey.Reason]string{
	tollkey.ReasonInsufficientPermissions: "Insufficient Permissions",
	tollkey.ReasonKeyDisabled:             "Key is disabled",
	tollkey.ReasonWorkspaceDisabled:       "Workspace is disabled",
	tollkey.ReasonProtected:               "Resource is protected",
}

// families holds the part of `type` before the reason. A key that is not found is a credential with 401, and data otherwise.
func family(e *tollkey.Error) string {
	switch e.Reason {
	case tollkey.ReasonPermissionQuerySyntax, tollkey.ReasonTooLarge, tollkey.ReasonTimeout, tollkey.ReasonClientClosed, tollkey.ReasonUnreadableBody:
		return "user/bad_request"
	case tollkey.ReasonWorkspaceRateLimited, tollkey.ReasonTooManyGuesses:
		return "user/too_many_requests"
	case tollkey.ReasonMalformedAuth, tollkey.ReasonMissingAuth, tollkey.ReasonPortalTokenMissing:
		return "unkey/authentication"
	}
	switch e.Code {
	case tollkey.CodeUnauthorized:
		return "unkey/authentication"
	case tollkey.CodeForbidden:
		return "unkey/authorization"
	case tollkey.CodeNotFound, tollkey.CodeConflict, tollkey.CodeGone:
		return "unkey/data"
	}
	return "unkey/application"
}

// fail answers a request that could not be served. It is the only place where an error becomes HTTP.
func (s *server) fail(ctx context.Context, w http.ResponseWriter, r *http.Request, err error) {
	var (
		known    *tollkey.Error
		tooLarge *http.MaxBytesError
		garbled  *noText
		body     *ogenerrors.DecodeBodyError
		request  *ogenerrors.DecodeRequestError
	)
	switch {
	case errors.As(err, &known):
	case errors.As(err, &garbled):
		s.invalid(w, r, r.Method+" "+r.URL.Path+" failed to validate schema.", fault{
			Location: "requestBody", Message: garbled.Error() + ".", Fix: "Send UTF-8 without NUL; what is not text can be sent as base64.",
		})
		return
	case errors.As(err, &tooLarge):
		known = tollkey.NewError(tollkey.CodeTooLarge, tollkey.ReasonTooLarge, "The body is larger than 10 MiB.")
	case errors.As(err, &request), errors.As(err, &body):
		cause := err
		if request != nil {
			cause = request.Err
			eventOf(r.Context()).operation = request.OperationID()
		}
		if known = unreadable(err); known == nil {
			s.undecodable(ctx, w, r, cause)
			return
		}
	case errors.Is(err, context.DeadlineExceeded):
		known = tollkey.NewError(tollkey.CodeTimeout, tollkey.ReasonTimeout, "The request took too long.")
	case errors.Is(err, context.Canceled):
		known = tollkey.NewError(tollkey.CodeCanceled, tollkey.ReasonClientClosed, "The caller went away.")
	default:
		known = tollkey.NewError(tollkey.CodeInternal, tollkey.ReasonUnexpected, "")
	}
	if known.Code == tollkey.CodeInternal {
		s.Log.Error("a request failed", "request", eventOf(r.Context()).id, "path", r.URL.Path, "error", err)
	}
	s.write(w, r, known, []fault{}, errorType(r, known)) // what the schema cannot say is told in the detail
}

// unreadable returns the error for a body that did not arrive, and nil when the body itself is at fault.
func unreadable(err error) *tollkey.Error {
	var body *ogenerrors.DecodeBodyError
	var network net.Error
	switch {
	case errors.As(err, &body):
		return nil
	case errors.As(err, &network) && network.Timeout():
		return tollkey.NewError(tollkey.CodeTimeout, tollkey.ReasonTimeout, "The body did not arrive in time.")
	case errors.As(err, &network), errors.Is(err, io.ErrUnexpectedEOF):
		return tollkey.NewError(tollkey.CodeInvalid, tollkey.ReasonUnreadableBody, "The body could not be read.")
	}
	return nil
}

func (s *server) write(w http.ResponseWriter, r *http.Request, e *tollkey.Error, faults []fault, contentType string) {
	st := status[e.Code]
	title := st.title
	if t, ok := titles[e.Reason]; ok {
		title = t
	}
	detail := e.Message
	if e.Field != "" {
		detail = strings.ReplaceAll(strings.TrimPrefix(e.Field, "/"), "/", ".") + ": " + detail
	}
	content := map[string]any{
		"title": title, "detail": detail, "status": st.status, "type": s.ErrorBase + "/errors/" + family(e) + "/" + string(e.Reason),
	}
	switch e.Code {
	case tollkey.CodeInvalid, tollkey.CodeTimeout, tollkey.CodeTooLarge, tollkey.CodeCanceled:
		content["errors"] = faults
	}
	w.Header().Set("Content-Type", contentType)
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
	}
	w.WriteHeader(st.status)
	ev := eventOf(r.Context())
	ev.status, ev.kind = st.status, family(e)+"/"+string(e.Reason)
	meta := map[string]string{"requestId": ev.id}
	if err := json.NewEncoder(w).Encode(map[string]any{"meta": meta, "error": content}); err != nil && r.Context().Err() == nil {
		s.Log.Warn("an error could not be sent", "path", r.URL.Path, "error", err)
	}
}

// knownType is the media type by which alone the official clients recognize an error: problem+json for a 429 and for whatever is wrong with
// identities.deleteIdentity, and json for the others.
func knownType(r *http.Request, e *tollkey.Error) string {
	if e.Code == tollkey.CodeTooManyRequests || r.URL.Path == "/v2/identities.deleteIdentity" {
		return problem
	}
	return plain
}

// errorType chooses the media type: problem+json for who takes it. The official clients ask for json alone.
func errorType(r *http.Request, e *tollkey.Error) string {
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		media, _, _ := strings.Cut(part, ";")
		switch strings.TrimSpace(media) {
		case problem, "application/*", "*/*":
			return problem
		}
	}
	return knownType(r, e)
}

const (
	plain   = "application/json"
	problem = "application/problem+json"
)
