package control

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// CreateAPI makes an API with the defaults of a new one. Names need not be unique.
func (s *Service) CreateAPI(ctx context.Context, caller Caller, name string) (tollkey.APIID, tollkey.Propagation, error) {
	if !caller.Can("api", "*", "create_api") {
		return "", tollkey.Propagation{}, denied("api.*.create_api")
	}
	a := &tollkey.API{ID: tollkey.APIID(tollkey.NewID("api", s.now())), Workspace: caller.Workspace, Name: name, KeyFormat: tollkey.KeyFormatBase58}
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

// ListAPIs returns one page of the APIs that the caller may read, and the cursor of the next, "" on the last.
func (s *Service) ListAPIs(ctx context.Context, caller Caller, search string, page store.Page) (apis []tollkey.API, next string, err error) {
	f := store.APIFilter{Search: strings.TrimSpace(search)}
	ids, all := caller.Reach("api", "read_api")
	if !all {
		if len(ids) == 0 {
			return nil, "", denied("api.*.read_api")
		}
		for _, id := range ids {
			f.IDs = append(f.IDs, tollkey.APIID(id))
		}
	}
	err = s.store.View(ctx, func(r store.Reader) error {
		apis, err = r.ListAPIs(ctx, caller.Workspace, f, store.Page{From: page.From, Limit: page.Limit + 1})
		return err
	})
	apis, next = cut(apis, page.Limit, func(v tollkey.API) string { return string(v.ID) })
	return apis, next, err
}

// UpdateAPI changes the settings that u holds. Like a deletion it is refused before the API is looked for.
func (s *Service) UpdateAPI(ctx context.Context, caller Caller, id tollkey.APIID, u store.APIUpdate) (tollkey.Propagation, error) {
	if !caller.Can("api", string(id), "update_api") {
		return tollkey.Propagation{}, denied("api.*.update_api")
	}
	return s.mutate(ctx, caller, func(c *change) error {
		a, err := c.API(ctx, caller.Workspace, id)
		if err != nil {
			return err
		}
		var touched store.Announcement
		if u.IPAllowList != nil {
			list, err := addressRanges(*u.IPAllowList)
			if err != nil {
				return err
			}
			u.IPAllowList = &list
			touched.Cells = []string{string(id)} // the one setting that verification depends on
		}
		c.record("api.update", "Changed an API", apiTarget(a), touched)
		return c.Tx.UpdateAPI(ctx, caller.Workspace, id, u)
	})
}

// addressRanges returns addresses and CIDR ranges in their usual notation, each once. The error names every entry that is neither.
func addressRanges(list []string) ([]string, error) {
	out := make([]string, 0, len(list))
	var faults *tollkey.Error
	for i, text := range list {
		clean, ok := addressRange(strings.TrimSpace(text))
		switch {
		case !ok && faults == nil:
			faults = tollkey.Invalid("/ipAllowList/"+strconv.Itoa(i), strconv.Quote(text)+" is neither an IP address nor a CIDR range.")
		case !ok:
			faults.Message += " ipAllowList." + strconv.Itoa(i) + ": " + strconv.Quote(text) + " is neither."
		case !slices.Contains(out, clean):
			out = append(out, clean)
		}
	}
	if faults != nil {
		return nil, faults
	}
	return out, nil
}

// addressRange takes away what makes no difference: host bits, and the IPv6 form of an IPv4 address.
func addressRange(text string) (string, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Unmap().String(), a.Zone() == ""
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return "", false
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return "", false
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked().String(), true
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
