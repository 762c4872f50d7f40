package control

import (
	"context"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// ListAudit returns one page of the workspace's audit log, newest first, and the cursor of the next, "" on the last.
func (s *Service) ListAudit(ctx context.Context, caller Caller, filter store.AuditFilter, page store.Page) (list []tollkey.AuditEntry, next string, err error) {
	if !caller.Can("audit", "*", "read_audit") {
		return nil, "", denied("audit.*.read_audit")
	}
	err = s.store.View(ctx, func(r store.Reader) error {
		list, err = r.ListAudit(ctx, caller.Workspace, filter, store.Page{From: page.From, Limit: page.Limit + 1})
		return err
	})
	if err == nil && len(list) > page.Limit {
		next = list[page.Limit].ID
		list = list[:page.Limit]
	}
	return list, next, err
}
