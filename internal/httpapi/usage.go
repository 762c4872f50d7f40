package httpapi

import (
	"context"
	"encoding/base64"
	"encoding/json"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/meter"
	"github.com/tollkey/tollkey/internal/wire"
)

// QueryUsage implements wire.Handler.
func (s *server) QueryUsage(ctx context.Context, in *wire.UsageRequest) (*wire.UsageResponse, error) {
	q, err := usageQuery(in)
	if err != nil {
		return nil, err
	}
	rows, next, err := s.Control.Usage(ctx, callerOf(ctx), q)
	if err != nil {
		return nil, err
	}
	return s.usageResponse(ctx, &q, rows, next), nil
}

func (s *server) usageResponse(ctx context.Context, q *meter.Query, rows []meter.Row, next *meter.Row) *wire.UsageResponse {
	out := &wire.UsageResponse{Meta: s.meta(ctx), Data: make([]wire.UsageRow, len(rows)), Pagination: pagination(cursorOf(next))}
	for i := range rows {
		r := &rows[i]
		out.Data[i] = wire.UsageRow{
			API: optText(string(r.API)), Key: optText(string(r.Key)), Outcome: optText(r.Outcome), Count: r.Count, Valid: r.Valid, Credits: r.Credits,
		}
		if q.Interval != meter.IntervalNone {
			out.Data[i].Time = wire.NewOptInt64(r.Time)
		}
	}
	return out
}

func usageQuery(in *wire.UsageRequest) (q meter.Query, err error) {
	q.Interval, q.Limit = meter.Interval(in.Interval.Or("")), in.Limit.Or(100)
	q.Align(in.From, in.To)
	for _, g := range in.GroupBy {
		switch g {
		case wire.UsageRequestGroupByItemKey:
			q.ByKey = true
		case wire.UsageRequestGroupByItemAPI:
			q.ByAPI = true
		case wire.UsageRequestGroupByItemOutcome:
			q.ByOutcome = true
		}
	}
	f := in.Filter.Or(wire.UsageRequestFilter{})
	q.API, q.Key = tollkey.APIID(f.ApiId.Or("")), tollkey.KeyID(f.KeyId.Or(""))
	if o, ok := tollkey.ParseOutcome(string(f.Outcome.Or(""))); ok {
		q.Outcome = &o
	}
	if in.To <= in.From {
		return q, tollkey.Invalid("/to", "This must be after from.")
	}
	if text, ok := in.Cursor.Get(); ok {
		q.After = &meter.Row{}
		raw, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || json.Unmarshal(raw, q.After) != nil {
			return q, tollkey.Invalid("/cursor", "This is no cursor of a page before.")
		}
	}
	return q, nil
}

func cursorOf(r *meter.Row) string {
	if r == nil {
		return ""
	}
	raw, err := json.Marshal(meter.Row{Time: r.Time, API: r.API, Key: r.Key, Outcome: r.Outcome})
	if err != nil {
		return "" // a struct of texts and numbers always marshals
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}
