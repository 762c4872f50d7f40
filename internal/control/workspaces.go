package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/access"
	"github.com/tollkey/tollkey/internal/secret"
	"github.com/tollkey/tollkey/internal/store"
)

const manageWorkspaces = "server.*.manage_workspaces"

// NewWorkspace is a workspace as it was made. The secret of its root key is not kept.
type NewWorkspace struct {
	tollkey.Workspace
	RootKey tollkey.KeyID
	Secret  string
}

// CreateWorkspace makes a workspace with a root key that may do everything in it, and nothing beside it. The slug is made from the name when
// there is none.
func (s *Service) CreateWorkspace(ctx context.Context, caller Caller, name, slug string) (w NewWorkspace, p tollkey.Propagation, err error) {
	if !caller.Can("server", "*", "manage_workspaces") {
		return w, p, denied(manageWorkspaces)
	}
	plain, start, err := secret.New(rootKeyPrefix, rootKeyBytes)
	if err != nil {
		return w, p, err
	}
	permissions := slices.DeleteFunc(access.All(), func(p string) bool { return p == manageWorkspaces })
	p, err = s.mutate(ctx, caller, func(c *change) error {
		w = NewWorkspace{Secret: plain, Workspace: tollkey.Workspace{
			ID: tollkey.WorkspaceID(tollkey.NewID("ws", c.Now())), Name: name, Enabled: true, RequestsPerMinute: -1, CreatedAt: c.Now(),
		}}
		var taken *tollkey.Error
		for _, w.Slug = range slugsOf(name, slug, string(w.ID)) {
			w.RootKey, err = found(ctx, c.Tx, &w.Workspace, plain, start, permissions)
			if !errors.As(err, &taken) || taken.Reason != tollkey.ReasonWorkspaceExists {
				break
			}
		}
		if err == nil {
			c.record("workspace.create", "Created a workspace", workspaceTarget(&w.Workspace), store.Announcement{})
		}
		return err
	})
	return w, p, err
}

// slugsOf lists what to try as a slug, in order.
func slugsOf(name, slug, id string) []string {
	if slug != "" {
		return []string{slug}
	}
	const longest = 48
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
	base := strings.Join(words, "-")
	base = strings.TrimRight(base[:min(len(base), longest)], "-")
	if base == "" {
		base = "workspace"
	}
	out := []string{base}
	for i := range 8 {
		out = append(out, fmt.Sprintf("%s-%d", base, i+2))
	}
	return append(out, base+"-"+id[len(id)-9:]) // the random digits of the id
}

// ListWorkspaces returns one page of the server's workspaces and the cursor of the next, "" on the last.
func (s *Service) ListWorkspaces(ctx context.Context, caller Caller, page store.Page) (list []tollkey.Workspace, next string, err error) {
	if !caller.Can("server", "*", "manage_workspaces") {
		return nil, "", denied(manageWorkspaces)
	}
	err = s.store.View(ctx, func(r store.Reader) error {
		list, err = r.ListWorkspaces(ctx, store.Page{From: page.From, Limit: page.Limit + 1})
		return err
	})
	list, next = cut(list, page.Limit, func(v tollkey.Workspace) string { return string(v.ID) })
	return list, next, err
}

// GetWorkspace reads the caller's workspace.
func (s *Service) GetWorkspace(ctx context.Context, caller Caller) (w *tollkey.Workspace, err error) {
	if !caller.Can("workspace", string(caller.Workspace), "read_workspace") {
		return nil, denied("workspace.*.read_workspace")
	}
	err = s.store.View(ctx, func(r store.Reader) error {
		w, err = r.Workspace(ctx, caller.Workspace)
		return err
	})
	return w, err
}

// WorkspaceChange is what a caller asks to change of a workspace. Null takes the cap away, and shows all usage.
type WorkspaceChange struct {
	Name              *string
	RequestsPerMinute Field[int64]
	RetentionDays     Field[int]
}

// UpdateWorkspace changes the caller's workspace, or with an id another one, which needs the permission to manage workspaces; without that, other
// workspaces do not exist.
func (s *Service) UpdateWorkspace(ctx context.Context, caller Caller, id tollkey.WorkspaceID, in WorkspaceChange) (w *tollkey.Workspace, p tollkey.Propagation, err error) {
	own := id == "" || id == caller.Workspace
	switch {
	case own && !caller.Can("workspace", string(caller.Workspace), "update_workspace"):
		return nil, p, denied("workspace.*.update_workspace")
	case !own && !caller.Can("server", "*", "manage_workspaces"):
		return nil, p, tollkey.NotFound(tollkey.ReasonWorkspaceNotFound, "There is no such workspace.")
	case own:
		id = caller.Workspace
	}
	u := store.WorkspaceUpdate{Name: in.Name}
	if in.RequestsPerMinute.Set {
		if in.RequestsPerMinute.Null {
			in.RequestsPerMinute.Value = -1
		}
		u.RequestsPerMinute = &in.RequestsPerMinute.Value
	}
	if in.RetentionDays.Set {
		u.RetentionDays = &in.RetentionDays.Value // null comes with 0
	}
	p, err = s.mutate(ctx, caller, func(c *change) error {
		if err := c.Tx.UpdateWorkspace(ctx, id, u); err != nil {
			return err
		}
		if w, err = c.Workspace(ctx, id); err != nil {
			return err
		}
		if !own {
			bySystem(c.Tx, id, "workspace.update", "Changed the workspace", workspaceTarget(w))
		}
		c.record("workspace.update", "Changed a workspace", workspaceTarget(w), store.Announcement{Cells: []string{string(id)}})
		return nil
	})
	return w, p, err
}

func workspaceTarget(w *tollkey.Workspace) tollkey.AuditTarget {
	return tollkey.AuditTarget{Type: "workspace", ID: string(w.ID), Name: w.Name}
}
