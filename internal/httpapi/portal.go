package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/control"
	"github.com/tollkey/tollkey/internal/meter"
	"github.com/tollkey/tollkey/internal/store"
	"github.com/tollkey/tollkey/internal/wire"
)

// portalOperations are those of customers in a portal. They take the cookie of a session, and no root key; the others take no cookie.
var portalOperations = map[string]bool{
	wire.ListPortalKeysOperation: true, wire.CreatePortalKeyOperation: true, wire.RerollPortalKeyOperation: true,
	wire.GetPortalVerificationsOperation: true, wire.GetPortalUsageOperation: true,
}

const (
	portalPath   = "/v2/portal." // begins their paths, and those of the operator's calls
	portalCookie = "portal_session"
)

// lacks says what credential a request lacks, and how to mend it.
func lacks(r *http.Request, operation string) (missing, fix string) {
	switch {
	case operation == wire.LivenessOperation, operation == wire.ExchangePortalCodeOperation:
		return "", ""
	case !portalOperations[operation] && eventOf(r.Context()).authorized:
		return "", ""
	case !portalOperations[operation]:
		return "The header Authorization is missing.", "Send `Authorization: Bearer <root key>`."
	}
	if _, err := r.Cookie(portalCookie); err != nil {
		return "The cookie portal_session is missing.", "Send the token of portal.exchangeCode as the cookie portal_session."
	}
	return "", ""
}

var (
	errTwoCredentials = tollkey.NewError(tollkey.CodeInvalid, tollkey.ReasonMissingAuth, "A call of a portal session must not carry a header Authorization.")
	errEmptyCookie    = tollkey.NewError(tollkey.CodeInvalid, tollkey.ReasonPortalTokenMissing, "The cookie portal_session is empty.")
)

// admitCustomer finds out which customer asks.
func (s *server) admitCustomer(ctx context.Context, ev *event, r *http.Request) error {
	switch {
	case ev.authorized && ev.token == "":
		return errMalformed
	case ev.authorized:
		return errTwoCredentials
	}
	cookie, err := r.Cookie(portalCookie)
	if err != nil || cookie.Value == "" {
		return errEmptyCookie
	}
	if ev.customer, err = s.Control.PortalCustomer(ctx, ev.caller, cookie.Value); err != nil {
		return err
	}
	return s.admitted(ev, ev.customer.Principal)
}

// HandlePortalSession implements wire.SecurityHandler. The cookie is checked by authenticate, after the body.
func (s *server) HandlePortalSession(ctx context.Context, _ wire.OperationName, _ wire.PortalSession) (context.Context, error) {
	return ctx, nil
}

func customerOf(ctx context.Context) *control.Customer { return eventOf(ctx).customer }

// noStore keeps an answer that holds a code or token out of caches.
func noStore(ctx context.Context) {
	h := eventOf(ctx).header
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache")
}

// CreatePortalSession implements wire.Handler.
func (s *server) CreatePortalSession(ctx context.Context, in *wire.CreatePortalSessionRequest) (*wire.CreatePortalSessionResponse, error) {
	want := control.NewSession{Portal: in.Portal, ExternalID: in.ExternalId, Preview: in.Preview.Or(false), ReturnURL: in.ReturnUrl.Or("")}
	for _, scope := range in.Scopes {
		want.Scopes = append(want.Scopes, string(scope))
	}
	id, code, p, err := s.Control.CreatePortalSession(ctx, callerOf(ctx), want)
	if err != nil {
		return nil, err
	}
	noStore(ctx)
	return &wire.CreatePortalSessionResponse{Meta: s.changed(ctx, p), Data: wire.CreatePortalSessionResponseData{ID: string(id), URL: s.PortalBase + "/?code=" + code}}, nil
}

// ExchangePortalCode implements wire.Handler.
func (s *server) ExchangePortalCode(ctx context.Context, in *wire.ExchangePortalCodeRequest) (*wire.ExchangePortalCodeResponse, error) {
	token, expires, err := s.Control.OpenPortalSession(ctx, callerOf(ctx), in.Code)
	if err != nil {
		return nil, err
	}
	noStore(ctx)
	return &wire.ExchangePortalCodeResponse{Meta: s.meta(ctx), Data: wire.ExchangePortalCodeResponseData{AccessToken: token, ExpiresAt: expires.UnixMilli()}}, nil
}

// RevokePortalSession implements wire.Handler.
func (s *server) RevokePortalSession(ctx context.Context, in *wire.RevokePortalSessionRequest) (*wire.EmptyResponse, error) {
	p, err := s.Control.RevokePortalSession(ctx, callerOf(ctx), tollkey.SessionID(in.SessionId))
	if err != nil {
		return nil, err
	}
	return &wire.EmptyResponse{Meta: s.changed(ctx, p)}, nil
}

// ListPortalSessions implements wire.Handler.
func (s *server) ListPortalSessions(ctx context.Context, in *wire.ListPortalSessionsRequest) (*wire.ListPortalSessionsResponse, error) {
	found, next, err := s.Control.ListPortalSessions(ctx, callerOf(ctx), in.ExternalId.Or(""), store.Page{From: in.Cursor.Or(""), Limit: in.Limit.Or(100)})
	if err != nil {
		return nil, err
	}
	out := &wire.ListPortalSessionsResponse{Meta: s.meta(ctx), Data: make([]wire.PortalSessionData, len(found)), Pagination: pagination(next)}
	for i := range found {
		v := &found[i]
		out.Data[i] = wire.PortalSessionData{
			ID: string(v.ID), PortalId: string(v.Portal), ExternalId: v.ExternalID, Scopes: v.Scopes, Preview: v.Preview,
			CreatedAt: v.CreatedAt.UnixMilli(), ExpiresAt: v.Expires.UnixMilli(),
		}
	}
	return out, nil
}

// ListPortalKeys implements wire.Handler.
func (s *server) ListPortalKeys(ctx context.Context, in *wire.ListPortalKeysRequest) (*wire.ListKeysResponse, error) {
	keys, next, err := s.Control.ListOwnKeys(ctx, customerOf(ctx), store.Page{From: in.Cursor.Or(""), Limit: in.Limit.Or(100)})
	if err != nil {
		return nil, err
	}
	out := &wire.ListKeysResponse{Meta: s.meta(ctx), Data: make([]wire.Key, len(keys)), Pagination: pagination(next)}
	for i := range keys {
		out.Data[i] = keyOf(&keys[i], "")
	}
	return out, nil
}

// CreatePortalKey implements wire.Handler.
func (s *server) CreatePortalKey(ctx context.Context, in *wire.CreatePortalKeyRequest) (*wire.CreateKeyResponse, error) {
	id, plain, p, err := s.Control.CreateOwnKey(ctx, customerOf(ctx), tollkey.APIID(in.ApiId.Or("")), in.Name.Or(""), timeOf(in.Expires.Or(0)))
	if err != nil {
		return nil, err
	}
	noStore(ctx)
	return &wire.CreateKeyResponse{Meta: s.changed(ctx, p), Data: wire.CreateKeyResponseData{KeyId: string(id), Key: plain}}, nil
}

// RerollPortalKey implements wire.Handler.
func (s *server) RerollPortalKey(ctx context.Context, in *wire.RerollPortalKeyRequest) (*wire.CreateKeyResponse, error) {
	id, plain, p, err := s.Control.RerollOwnKey(ctx, customerOf(ctx), tollkey.KeyID(in.KeyId), time.Duration(in.Expiration)*time.Millisecond)
	if err != nil {
		return nil, err
	}
	noStore(ctx)
	return &wire.CreateKeyResponse{Meta: s.changed(ctx, p), Data: wire.CreateKeyResponseData{KeyId: string(id), Key: plain}}, nil
}

// GetPortalVerifications implements wire.Handler.
func (s *server) GetPortalVerifications(ctx context.Context, in *wire.PortalVerificationsRequest) (*wire.PortalVerificationsResponse, error) {
	if err := s.Control.CheckRange(ctx, customerOf(ctx), in.StartTime, in.EndTime); err != nil {
		return nil, err
	}
	q := meter.Query{Key: tollkey.KeyID(in.KeyId.Or("")), ByOutcome: true, Limit: maxBuckets * len(outcomeFields)}
	q.Interval = bucketsOf(in.EndTime - in.StartTime)
	q.Align(in.StartTime, in.EndTime+1) // the bucket that endTime is in belongs to it
	rows, _, err := s.Control.OwnUsage(ctx, customerOf(ctx), q)
	if err != nil {
		return nil, err
	}
	return &wire.PortalVerificationsResponse{Meta: s.meta(ctx), Data: verificationsByTime(&q, rows)}, nil
}

// maxBuckets is more than there are days between the first and the last time that a request can name.
const maxBuckets = 50_000

// bucketsOf is the width of the rows for a range of so many milliseconds.
func bucketsOf(length int64) meter.Interval {
	switch {
	case length <= 3*meter.HourMillis:
		return meter.IntervalMinute
	case length <= 4*24*meter.HourMillis:
		return meter.IntervalHour
	}
	return meter.IntervalDay
}

// outcomeFields are the counts of a row by outcome.
var outcomeFields = map[string]func(*wire.PortalVerifications) *int64{
	"VALID":                    func(v *wire.PortalVerifications) *int64 { return &v.Valid },
	"RATE_LIMITED":             func(v *wire.PortalVerifications) *int64 { return &v.RateLimited },
	"INSUFFICIENT_PERMISSIONS": func(v *wire.PortalVerifications) *int64 { return &v.InsufficientPermissions },
	"FORBIDDEN":                func(v *wire.PortalVerifications) *int64 { return &v.Forbidden },
	"DISABLED":                 func(v *wire.PortalVerifications) *int64 { return &v.Disabled },
	"EXPIRED":                  func(v *wire.PortalVerifications) *int64 { return &v.Expired },
	"USAGE_EXCEEDED":           func(v *wire.PortalVerifications) *int64 { return &v.UsageExceeded },
}

// verificationsByTime makes one row of each interval of the query, also where nothing happened.
func verificationsByTime(q *meter.Query, rows []meter.Row) []wire.PortalVerifications {
	times := q.Times()
	out := make([]wire.PortalVerifications, len(times))
	at := make(map[int64]*wire.PortalVerifications, len(times))
	for i, t := range times {
		out[i].Time = t
		at[t] = &out[i]
	}
	for i := range rows {
		if v := at[rows[i].Time]; v != nil {
			v.Total += rows[i].Count
			if field := outcomeFields[rows[i].Outcome]; field != nil {
				*field(v) += rows[i].Count
			}
		}
	}
	return out
}

// GetPortalUsage implements wire.Handler.
func (s *server) GetPortalUsage(ctx context.Context, in *wire.PortalUsageRequest) (*wire.UsageResponse, error) {
	request := wire.UsageRequest{From: in.From, To: in.To, Limit: in.Limit, Cursor: in.Cursor}
	if v, ok := in.Interval.Get(); ok {
		request.Interval.SetTo(wire.UsageRequestInterval(v))
	}
	q, err := usageQuery(&request)
	if err != nil {
		return nil, err
	}
	q.Key = tollkey.KeyID(in.KeyId.Or(""))
	rows, next, err := s.Control.OwnUsage(ctx, customerOf(ctx), q)
	if err != nil {
		return nil, err
	}
	return s.usageResponse(ctx, &q, rows, next), nil
}
