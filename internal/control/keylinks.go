package control

import (
	"context"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// links are what a key is, or is to be, linked to.
type links struct {
	permissions []tollkey.Permission
	roles       []tollkey.Role
}

func (l links) ids() (out store.KeyLinks) {
	out.Permissions = permissionIDs(l.permissions)
	for _, r := range l.roles {
		out.Roles = append(out.Roles, r.ID)
	}
	return out
}

func (l links) empty() bool { return len(l.permissions)+len(l.roles) == 0 }

// changeKey does what all changes of a key's links need: they follow one another, so that two at once add up, and the caller must be allowed to
// change the key and to do rbac.*.<action> for each of needs.
func (s *Service) changeKey(ctx context.Context, caller Caller, id tollkey.KeyID, needs []string, fn func(*change, *tollkey.Key) error) (tollkey.Propagation, error) {
	return s.mutate(ctx, caller, func(c *change) error {
		k, err := c.LockKey(ctx, caller.Workspace, id)
		if err != nil {
			return err
		}
		if !caller.Can("api", string(k.API), "update_key") {
			return denied("api.*.update_key")
		}
		for _, action := range needs {
			if !caller.Can("rbac", "*", action) {
				return denied("rbac.*." + action)
			}
		}
		return fn(c, k)
	})
}

// linkKey adds and removes links of a key; without any, nothing is written.
func (c *change) linkKey(ctx context.Context, k *tollkey.Key, add, remove links) error {
	if add.empty() && remove.empty() {
		return nil
	}
	for _, p := range add.permissions {
		c.audit("authorization.connect_permission_and_key", "Added a permission to a key", keyTarget(k), permissionTarget(p))
	}
	for _, r := range add.roles {
		c.audit("authorization.connect_role_and_key", "Added a role to a key", keyTarget(k), roleTarget(r))
	}
	for _, p := range remove.permissions {
		c.audit("authorization.disconnect_permission_and_key", "Took a permission from a key", keyTarget(k), permissionTarget(p))
	}
	for _, r := range remove.roles {
		c.audit("authorization.disconnect_role_and_key", "Took a role from a key", keyTarget(k), roleTarget(r))
	}
	c.Announce(store.Announcement{Cells: []string{string(k.ID)}})
	return c.ChangeKeyLinks(ctx, c.caller.Workspace, k.ID, add.ids(), remove.ids())
}

func permissionIDs(list []tollkey.Permission) []tollkey.PermissionID {
	out := make([]tollkey.PermissionID, len(list))
	for i, p := range list {
		out[i] = p.ID
	}
	return out
}
