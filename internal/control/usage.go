package control

import (
	"context"

	"github.com/tollkey/tollkey/internal/meter"
)

// Usage returns one page of the caller's workspace, and the last row of it when there are more.
func (s *Service) Usage(ctx context.Context, caller Caller, q meter.Query) ([]meter.Row, *meter.Row, error) {
	if !caller.Can("usage", "*", "read_usage") {
		return nil, nil, denied("usage.*.read_usage")
	}
	limit := q.Limit
	q.Workspace, q.Limit = caller.Workspace, limit+1
	rows, err := s.usage.Usage(ctx, q)
	if err != nil || len(rows) <= limit {
		return rows, nil, err
	}
	return rows[:limit], &rows[limit-1], nil
}
