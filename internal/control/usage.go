package control

import (
	"context"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/meter"
	"github.com/tollkey/tollkey/internal/store"
)

// Usage returns one page of the caller's workspace, as far back as that keeps it, and the last row of the page when there are more.
func (s *Service) Usage(ctx context.Context, caller Caller, q meter.Query) ([]meter.Row, *meter.Row, error) {
	if !caller.Can("usage", "*", "read_usage") {
		return nil, nil, denied("usage.*.read_usage")
	}
	return s.usageOf(ctx, caller.Workspace, q)
}

func (s *Service) usageOf(ctx context.Context, ws tollkey.WorkspaceID, q meter.Query) ([]meter.Row, *meter.Row, error) {
	var w *tollkey.Workspace
	if err := s.store.View(ctx, func(r store.Reader) (err error) {
		w, err = r.Workspace(ctx, ws)
		return err
	}); err != nil {
		return nil, nil, err
	}
	if w.RetentionDays > 0 {
		kept := s.now().AddDate(0, 0, -w.RetentionDays).UnixMilli()
		if q.From = max(q.From, kept-kept%meter.HourMillis); q.From >= q.To {
			return nil, nil, nil
		}
	}
	limit := q.Limit
	q.Workspace, q.Limit = ws, limit+1
	rows, err := s.usage.Usage(ctx, q)
	if err != nil || len(rows) <= limit {
		return rows, nil, err
	}
	return rows[:limit], &rows[limit-1], nil
}
