package control

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/meter"
	"github.com/tollkey/tollkey/internal/secret"
	"github.com/tollkey/tollkey/internal/store"
)

const (
	codeFor    = 15 * time.Minute // a code opens a session once within
	sessionFor = 24 * time.Hour
)

// The scopes of portal sessions, with what a root key needs on every API of the portal to give them, and what the session may then do there.
var scopes = map[string][]string{
	"keys:read":      {"read_key", "read_api"},
	"keys:create":    {"create_key"},
	"keys:reroll":    {"create_key"},
	"analytics:read": {"read_analytics"},
}

// NewSession is what a caller asks of a portal session.
type NewSession struct {
	Portal     string // id or slug
	ExternalID string
	Scopes     []string
	Preview    bool
	ReturnURL  string // "" = the portal's
}

// CreatePortalSession lets a customer into a portal: whoever has the code opens the session. What the session may do is fixed here.
func (s *Service) CreatePortalSession(ctx context.Context, caller Caller, in NewSession) (id tollkey.SessionID, code string, done tollkey.Propagation, err error) {
	code = secret.Token("pst")
	done, err = s.mutate(ctx, caller, func(c *change) error {
		p, err := c.portal(ctx, in.Portal, "create_portal_session")
		if err != nil {
			return err
		}
		if !p.Enabled {
			return tollkey.NewError(tollkey.CodeForbidden, tollkey.ReasonForbidden, "This portal is disabled.")
		}
		if err := c.checkScopes(ctx, p, in.Scopes); err != nil {
			return err
		}
		session := &tollkey.PortalSession{
			ID: tollkey.SessionID(tollkey.NewID("ps", c.Now())), Workspace: caller.Workspace, Portal: p.ID, ExternalID: in.ExternalID, APIs: p.APIs,
			Scopes: slices.Compact(slices.Sorted(slices.Values(in.Scopes))), Preview: in.Preview, ReturnURL: firstOf(in.ReturnURL, p.ReturnURL),
			CreatedAt: c.Now(), Expires: c.Now().Add(codeFor),
		}
		id = session.ID
		c.record("portal.session.create", "Created a portal session", sessionTarget(session), store.Announcement{Cells: []string{string(id)}}, portalTarget(p))
		return c.Tx.CreatePortalSession(ctx, session, secret.Hash(code))
	})
	return id, code, done, err
}

func (c *change) checkScopes(ctx context.Context, p *tollkey.Portal, wanted []string) error {
	for _, id := range p.APIs {
		a, err := c.API(ctx, p.Workspace, id)
		if tollkey.IsReason(err, tollkey.ReasonAPINotFound) {
			return tollkey.NewError(tollkey.CodeForbidden, tollkey.ReasonForbidden, "An API of this portal was deleted.")
		}
		if err != nil {
			return err
		}
		for _, scope := range wanted {
			actions := scopes[scope]
			if a.RecoverableKeys && strings.HasPrefix(scope, "keys:") && scope != "keys:read" {
				actions = append(slices.Clone(actions), "encrypt_key")
			}
			for _, action := range actions {
				if !c.caller.Can("api", string(id), action) {
					return denied("api.*." + action + ", which the scope " + scope + " takes")
				}
			}
		}
	}
	return nil
}

// OpenPortalSession exchanges a code for the token of the session, once.
func (s *Service) OpenPortalSession(ctx context.Context, caller Caller, code string) (token string, expires time.Time, err error) {
	token = secret.Token("pat")
	_, err = s.mutate(ctx, caller, func(c *change) error {
		expires = c.Now().Add(sessionFor)
		session, err := c.Tx.OpenPortalSession(ctx, secret.Hash(code), secret.Hash(token), expires)
		if err != nil {
			return err
		}
		c.caller.Principal = &tollkey.Principal{Workspace: session.Workspace}
		c.caller.actor = &tollkey.Actor{Type: "system", ID: string(session.ID)}
		c.record("portal.session.exchange", "Opened a portal session", sessionTarget(session), store.Announcement{Cells: []string{string(session.ID)}})
		return nil
	})
	if tollkey.IsReason(err, tollkey.ReasonSessionNotFound) {
		err = errNoSession
	}
	return token, expires, err
}

var errNoSession = tollkey.NewError(tollkey.CodeUnauthorized, tollkey.ReasonSessionNotFound, "There is no such portal session, or it has ended.")

// RevokePortalSession ends a session, or a code that was not used yet, at once.
func (s *Service) RevokePortalSession(ctx context.Context, caller Caller, id tollkey.SessionID) (tollkey.Propagation, error) {
	if !caller.Can("portal", "*", "create_portal_session") {
		return tollkey.Propagation{}, denied("portal.*.create_portal_session")
	}
	return s.mutate(ctx, caller, func(c *change) error {
		c.record("portal.session.revoke", "Revoked a portal session", tollkey.AuditTarget{Type: "portalSession", ID: string(id)}, store.Announcement{Cells: []string{string(id)}})
		return c.Tx.RevokePortalSession(ctx, caller.Workspace, id)
	})
}

// ListPortalSessions returns one page of the sessions and unused codes that are live, and the cursor of the next, "" on the last.
func (s *Service) ListPortalSessions(ctx context.Context, caller Caller, externalID string, page store.Page) (found []tollkey.PortalSession, next string, err error) {
	if !caller.Can("portal", "*", "read_portal") {
		return nil, "", denied("portal.*.read_portal")
	}
	err = s.store.View(ctx, func(r store.Reader) error {
		found, err = r.ListPortalSessions(ctx, caller.Workspace, externalID, s.now(), store.Page{From: page.From, Limit: page.Limit + 1})
		return err
	})
	found, next = cut(found, page.Limit, func(p tollkey.PortalSession) string { return string(p.ID) })
	return found, next, err
}

// Customer is a customer who is in a portal. Its Principal may do on the session's APIs what the scopes say.
type Customer struct {
	Caller
	Session tollkey.PortalSession
}

// PortalCustomer returns who holds the token of a session. That is asked of the store each time, so that an ended session ends at once on every node.
func (s *Service) PortalCustomer(ctx context.Context, caller Caller, token string) (*Customer, error) {
	session, err := s.store.PortalSession(ctx, secret.Hash(token), s.now())
	if err != nil {
		return nil, err
	}
	if session == nil {
		return nil, errNoSession
	}
	var w *tollkey.Workspace
	if err := s.store.View(ctx, func(r store.Reader) error {
		w, err = r.Workspace(ctx, session.Workspace)
		return err
	}); err != nil {
		return nil, err
	}
	caller.Principal = &tollkey.Principal{Workspace: session.Workspace, RequestsPerMinute: w.RequestsPerMinute, Permissions: map[string]struct{}{}}
	for _, id := range session.APIs {
		for _, scope := range session.Scopes {
			for _, action := range append([]string{"encrypt_key"}, scopes[scope]...) {
				caller.Permissions["api."+string(id)+"."+action] = struct{}{}
			}
		}
	}
	caller.actor = &tollkey.Actor{Type: "portalEndUser", ID: session.ExternalID}
	return &Customer{caller, *session}, nil
}

func (c *Customer) may(scope string) error {
	if slices.Contains(c.Session.Scopes, scope) {
		return nil
	}
	return tollkey.NewError(tollkey.CodeForbidden, tollkey.ReasonInsufficientPermissions, "The portal session lacks the scope "+scope+".")
}

// ListOwnKeys returns one page of the customer's own keys, and the cursor of the next, "" on the last.
func (s *Service) ListOwnKeys(ctx context.Context, c *Customer, page store.Page) (keys []tollkey.Key, next string, err error) {
	if err := c.may("keys:read"); err != nil {
		return nil, "", err
	}
	err = s.store.View(ctx, func(r store.Reader) error {
		f := store.KeyFilter{APIs: c.Session.APIs, ExternalID: c.Session.ExternalID}
		keys, err = r.ListKeys(ctx, c.Workspace, f, store.Page{From: page.From, Limit: page.Limit + 1})
		return err
	})
	keys, next = cut(keys, page.Limit, func(k tollkey.Key) string { return string(k.ID) })
	return keys, next, err
}

// CreateOwnKey makes a key of the customer. The API may be left out where the portal has one only.
func (s *Service) CreateOwnKey(ctx context.Context, c *Customer, api tollkey.APIID, name string, expires time.Time) (tollkey.KeyID, string, tollkey.Propagation, error) {
	if err := c.may("keys:create"); err != nil {
		return "", "", tollkey.Propagation{}, err
	}
	if api == "" {
		if len(c.Session.APIs) > 1 {
			return "", "", tollkey.Propagation{}, tollkey.Invalid("/apiId", "This portal has several APIs; say which.")
		}
		api = c.Session.APIs[0]
	}
	if !slices.Contains(c.Session.APIs, api) {
		return "", "", tollkey.Propagation{}, apiNotFound()
	}
	return s.CreateKey(ctx, c.Caller, NewKey{API: api, Name: name, ExternalID: c.Session.ExternalID, Expires: expires, Enabled: true})
}

// RerollOwnKey replaces a key of the customer; see RerollKey.
func (s *Service) RerollOwnKey(ctx context.Context, c *Customer, id tollkey.KeyID, grace time.Duration) (tollkey.KeyID, string, tollkey.Propagation, error) {
	if err := c.may("keys:reroll"); err != nil {
		return "", "", tollkey.Propagation{}, err
	}
	err := s.store.View(ctx, func(r store.Reader) error {
		k, err := r.Key(ctx, c.Workspace, id)
		if err == nil && (k.Identity == nil || k.Identity.ExternalID != c.Session.ExternalID || !slices.Contains(c.Session.APIs, k.API)) {
			return tollkey.NotFound(tollkey.ReasonKeyNotFound, "There is no such key.")
		}
		return err
	})
	if err != nil {
		return "", "", tollkey.Propagation{}, err
	}
	return s.RerollKey(ctx, c.Caller, id, grace)
}

// CheckRange refuses a range of time that ends before it begins, or is longer than the workspace keeps usage.
func (s *Service) CheckRange(ctx context.Context, c *Customer, start, end int64) error {
	if err := c.may("analytics:read"); err != nil {
		return err
	}
	if end <= start {
		return tollkey.Invalid("/endTime", "This must be after startTime.")
	}
	return s.store.View(ctx, func(r store.Reader) error {
		w, err := r.Workspace(ctx, c.Workspace)
		if err == nil && w.RetentionDays > 0 && end-start > int64(w.RetentionDays)*24*meter.HourMillis {
			return tollkey.Invalid("/startTime", "The range is longer than the workspace keeps usage.")
		}
		return err
	})
}

// OwnUsage answers a query about the customer's own keys, deleted ones included, of whatever API.
func (s *Service) OwnUsage(ctx context.Context, c *Customer, q meter.Query) ([]meter.Row, *meter.Row, error) {
	if err := c.may("analytics:read"); err != nil {
		return nil, nil, err
	}
	err := s.store.View(ctx, func(r store.Reader) error {
		owner, err := r.Identity(ctx, c.Workspace, c.Session.ExternalID)
		if err == nil {
			q.Identity = owner.ID
		}
		return err
	})
	if tollkey.IsReason(err, tollkey.ReasonIdentityNotFound) {
		q.Identity = "-" // nobody: intervals without data are answered with zeros all the same
	} else if err != nil {
		return nil, nil, err
	}
	return s.usageOf(ctx, c.Workspace, q)
}

func sessionTarget(s *tollkey.PortalSession) tollkey.AuditTarget {
	return tollkey.AuditTarget{Type: "portalSession", ID: string(s.ID), Name: s.ExternalID}
}
