package tollkey

import (
	"errors"
	"time"
)

// Code is the closed list of what can go wrong; the HTTP status follows from it alone.
type Code int

// The codes and their HTTP status.
const (
	CodeInternal        Code = iota // 500: we could not decide
	CodeInvalid                     // 400
	CodeUnauthorized                // 401
	CodeForbidden                   // 403
	CodeNotFound                    // 404
	CodeTimeout                     // 408
	CodeConflict                    // 409
	CodeGone                        // 410
	CodePrecondition                // 412
	CodeTooLarge                    // 413
	CodeUnprocessable               // 422
	CodeTooManyRequests             // 429
	CodeCanceled                    // 499: the client went away
)

// Reason is a stable, documented name of one way to fail; it is the last part of the wire's error `type`.
// api/errors.yaml lists every one, and a test holds that list and this one together.
type Reason string

// The reasons.
const (
	ReasonInvalidInput            Reason = "invalid_input"
	ReasonMalformedAuth           Reason = "malformed"
	ReasonPermissionQuerySyntax   Reason = "permissions_query_syntax_error"
	ReasonCredentialNotFound      Reason = "key_not_found"
	ReasonInsufficientPermissions Reason = "insufficient_permissions"
	ReasonForbidden               Reason = "forbidden"
	ReasonKeyDisabled             Reason = "key_disabled"
	ReasonWorkspaceDisabled       Reason = "workspace_disabled"
	ReasonWorkspaceNotFound       Reason = "workspace_not_found"
	ReasonWorkspaceExists         Reason = "workspace_already_exists"
	ReasonAPINotFound             Reason = "api_not_found"
	ReasonKeyNotFound             Reason = "key_not_found"
	ReasonRoleNotFound            Reason = "role_not_found"
	ReasonPermissionNotFound      Reason = "permission_not_found"
	ReasonRoleExists              Reason = "role_already_exists"
	ReasonPermissionExists        Reason = "permission_already_exists"
	ReasonIdentityNotFound        Reason = "identity_not_found"
	ReasonIdentityExists          Reason = "identity_already_exists"
	ReasonNamespaceNotFound       Reason = "ratelimit_namespace_not_found"
	ReasonNamespaceGone           Reason = "ratelimit_namespace_gone"
	ReasonOverrideNotFound        Reason = "ratelimit_override_not_found"
	ReasonPortalNotFound          Reason = "portal_not_found"
	ReasonPortalExists            Reason = "portal_already_exists"
	ReasonSessionNotFound         Reason = "portal_session_not_found"
	ReasonPortalTokenMissing      Reason = "portal_token_missing"
	ReasonMissingAuth             Reason = "missing"
	ReasonMigrationNotFound       Reason = "migration_not_found"
	ReasonTooManyGuesses          Reason = "too_many_guesses"
	ReasonConflict                Reason = "conflict"
	ReasonProtected               Reason = "protected_resource"
	ReasonPrecondition            Reason = "precondition_failed"
	ReasonTimeout                 Reason = "request_timeout"
	ReasonClientClosed            Reason = "client_closed_request"
	ReasonTooLarge                Reason = "request_body_too_large"
	ReasonUnreadableBody          Reason = "request_body_unreadable"
	ReasonWorkspaceRateLimited    Reason = "workspace_rate_limited"
	ReasonUnexpected              Reason = "unexpected_error"
	ReasonUnavailable             Reason = "service_unavailable"
)

// Error is the one error type of Tollkey. It means that the question could not be answered as asked; a refusal
// ("this key may not") is a Verification, never an Error.
type Error struct {
	Code    Code
	Reason  Reason
	Message string // for the caller; never holds a secret or a driver's text
	// Field names the offending input as a JSON pointer ("/credits/refill/refillDay"), or is "".
	Field string
	// RetryAfter, when positive, tells how long to wait before trying again.
	RetryAfter time.Duration
	cause      error
}

// NewError returns an Error without a cause.
func NewError(code Code, reason Reason, message string) *Error {
	return &Error{Code: code, Reason: reason, Message: message}
}

// Invalid returns the 400 for a field whose value is well-formed but cannot be accepted.
func Invalid(field, message string) *Error {
	return &Error{Code: CodeInvalid, Reason: ReasonInvalidInput, Field: field, Message: message}
}

// NotFound returns the 404 for reason. A thing of another workspace gets exactly the same.
func NotFound(reason Reason, message string) *Error {
	return &Error{Code: CodeNotFound, Reason: reason, Message: message}
}

// Unavailable wraps what the store answered when it could not be asked.
func Unavailable(cause error) *Error {
	return &Error{Code: CodeInternal, Reason: ReasonUnavailable, Message: "The store did not answer.", cause: cause}
}

// Because returns a copy of e that wraps cause.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

// Error returns the reason, the message and the cause: a text for operators, not for callers.
func (e *Error) Error() string {
	s := string(e.Reason)
	if e.Message != "" {
		s += ": " + e.Message
	}
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// IsReason reports whether err is, or wraps, an Error with that reason.
func IsReason(err error, reason Reason) bool {
	var e *Error
	return errors.As(err, &e) && e.Reason == reason
}
