package httpapi

import (
	"context"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
	"github.com/tollkey/tollkey/internal/wire"
)

// ListAuditEvents implements wire.Handler.
func (s *server) ListAuditEvents(ctx context.Context, in *wire.ListAuditEventsRequest) (*wire.ListAuditEventsResponse, error) {
	f := store.AuditFilter{Actor: in.Actor.Or(""), Event: in.Event.Or(""), Target: in.Target.Or(""), From: time.UnixMilli(in.From.Or(0))}
	if to, ok := in.To.Get(); ok {
		if f.Before = time.UnixMilli(to); !f.Before.After(f.From) {
			return nil, tollkey.Invalid("/to", "This must be after from.")
		}
	}
	found, next, err := s.Control.ListAudit(ctx, callerOf(ctx), f, store.Page{From: in.Cursor.Or(""), Limit: in.Limit.Or(100)})
	if err != nil {
		return nil, err
	}
	out := &wire.ListAuditEventsResponse{Meta: s.meta(ctx), Data: make([]wire.AuditEvent, len(found)), Pagination: pagination(next)}
	for i := range found {
		out.Data[i] = auditEventOf(&found[i])
	}
	return out, nil
}

func auditEventOf(e *tollkey.AuditEntry) wire.AuditEvent {
	out := wire.AuditEvent{
		ID: e.ID, Time: e.Time.UnixMilli(), Event: e.Event, Description: e.Description,
		Actor:   wire.AuditActor{Type: e.Actor.Type, ID: e.Actor.ID, Name: optText(e.Actor.Name)},
		Targets: make([]wire.AuditTarget, len(e.Targets)), RemoteIp: optText(e.Actor.RemoteIP), UserAgent: optText(e.Actor.UserAgent),
		CorrelationId: optText(e.Correlation),
	}
	for i, t := range e.Targets {
		out.Targets[i] = wire.AuditTarget{Type: t.Type, ID: t.ID, Name: optText(t.Name)}
	}
	return out
}
