package access

import (
	"slices"
	"strings"
)

// Grants is what a key effectively holds: an immutable set of permission slugs.
type Grants struct{ set map[string]struct{} }

// NewGrants returns the set of slugs.
func NewGrants(slugs []string) Grants {
	set := make(map[string]struct{}, len(slugs))
	for _, s := range slugs {
		set[s] = struct{}{}
	}
	return Grants{set}
}

// Has reports whether slug is in the set, byte for byte.
func (g Grants) Has(slug string) bool {
	_, ok := g.set[slug]
	return ok
}

// Slugs returns the set, ordered.
func (g Grants) Slugs() []string {
	out := make([]string, 0, len(g.set))
	for s := range g.set {
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

// actions is every action that a root key can be granted, by resource.
var actions = map[string][]string{
	"api": {
		"read_api", "create_api", "delete_api", "update_api", "create_key", "update_key", "delete_key", "encrypt_key",
		"decrypt_key", "read_key", "verify_key", "read_analytics",
	},
	"ratelimit": {
		"limit", "create_namespace", "read_namespace", "update_namespace", "delete_namespace", "set_override",
		"read_override", "delete_override", "list_overrides", "read_analytics",
	},
	"rbac": {
		"create_permission", "update_permission", "delete_permission", "read_permission", "create_role", "update_role",
		"delete_role", "read_role", "add_permission_to_key", "remove_permission_from_key", "add_role_to_key",
		"remove_role_from_key", "add_permission_to_role", "remove_permission_from_role",
	},
	"identity":  {"create_identity", "read_identity", "update_identity", "delete_identity"},
	"portal":    {"create_portal", "read_portal", "update_portal", "delete_portal", "create_portal_session"},
	"root_key":  {"create_root_key", "read_root_key", "update_root_key", "delete_root_key"},
	"migration": {"create_migration", "read_migration", "delete_migration"},
	"audit":     {"read_audit"},
	"usage":     {"read_usage", "record_usage"},
	"meter":     {"create_meter", "read_meter", "update_meter", "delete_meter"},
	"plan":      {"create_plan", "read_plan", "update_plan", "delete_plan"},
	"credits":   {"grant_credits", "refund_credits", "read_credits"},
	"billing":   {"create_connection", "read_connection", "update_connection", "delete_connection", "read_pushes", "retry_push"},
	"webhook":   {"create_endpoint", "read_endpoint", "update_endpoint", "delete_endpoint", "read_deliveries", "redeliver"},
	"workspace": {"read_workspace", "update_workspace"},
	"member":    {"invite_member", "read_member", "update_member", "remove_member"},
	"session":   {"read_session", "revoke_session"},
	"server":    {"manage_workspaces"},
}

// All returns `<resource>.*.<action>` for every resource and action, ordered: what the first root key holds.
func All() []string {
	var out []string
	for resource, names := range actions {
		for _, action := range names {
			out = append(out, resource+".*."+action)
		}
	}
	slices.Sort(out)
	return out
}

// Known reports whether a root key can be granted permission: `<resource>.<id or *>.<action>` of a resource and an action
// that exist.
func Known(permission string) bool {
	resource, id, action, ok := split(permission)
	return ok && id != "" && slices.Contains(actions[resource], action)
}

// Covers reports whether holding held lets one grant permission: held as it is, or with `*` as its id.
func Covers(held Grants, permission string) bool {
	if held.Has(permission) {
		return true
	}
	resource, _, action, ok := split(permission)
	return ok && held.Has(resource+".*."+action)
}

func split(permission string) (resource, id, action string, ok bool) {
	parts := strings.Split(permission, ".")
	if len(parts) != 3 {
		return "", "", "", false
	}
	return parts[0], parts[1], parts[2], true
}
