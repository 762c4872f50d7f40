package control

import (
	"context"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// CreateAPI makes an API with the defaults of a new one. Names need not be unique.
func (s *Service) CreateAPI(ctx context.Context, caller Caller, name string) (tollkey.APIID, tollkey.Propagation, error) {
	if !caller.Can("api", "*", "create_api") {
		return "", tollkey.Propagation{}, denied("api.*.create_api")
	}
	a := &tollkey.API{ID: tollkey.APIID(tollkey.NewID("api", s.now())), Workspace: caller.Workspace, Name: name}
	p, err := s.mutate(ctx, caller, func(c *change) error {
		a.CreatedAt = c.Now()
		c.record("api.create", "Created an API", apiTarget(a), store.Announcement{Cells: []string{string(a.ID)}})
		return c.CreateAPI(ctx, a)
	})
	return a.ID, p, err
}

// GetAPI reads an API. The permission is checked before it is looked for.
func (s *Service) GetAPI(ctx context.Context, caller Caller, id tollkey.APIID) (a *tollkey.API, err error) {
	if !caller.Can("api", string(id), "read_api") {
		return nil, denied("api.*.read_api")
	}
	err = s.store.View(ctx, func(r store.Reader) error {
		a, err = r.API(ctx, caller.Workspace, id)
		return err
	})
	return a, err
}

// DeleteAPI makes an API and its keys unreachable.
func (s *Service) DeleteAPI(ctx context.Context, caller Caller, id tollkey.APIID) (tollkey.Propagation, error) {
	if !caller.Can("api", string(id), "delete_api") {
		return tollkey.Propagation{}, denied("api.*.delete_api")
	}
	return s.mutate(ctx, caller, func(c *change) error {
		a, err := c.API(ctx, caller.Workspace, id)
		if err != nil {
			return err
		}
		if a.DeleteProtection {
			return tollkey.NewError(tollkey.CodePrecondition, tollkey.ReasonProtected, "This API is protected from deletion.")
		}
		c.record("api.delete", "Deleted an API", apiTarget(a), store.Announcement{Cells: []string{string(id)}})
		return c.DeleteAPI(ctx, caller.Workspace, id)
	})
}

func apiTarget(a *tollkey.API) tollkey.AuditTarget {
	return tollkey.AuditTarget{Type: "api", ID: string(a.ID), Name: a.Name}
}
