package tollkey

import (
	"slices"
	"strings"
)

// Principal is an authenticated caller of the API: a root key that is enabled, not expired, and whose workspace may be used.
// It is immutable and shared by all requests of that root key.
type Principal struct {
	RootKey     KeyID
	Name        string
	Workspace   WorkspaceID
	Permissions map[string]struct{}
	// RequestsPerMinute caps the workspace's requests; negative means no cap.
	RequestsPerMinute int64
}

// Can reports whether the caller holds `<resource>.*.<action>` or `<resource>.<id>.<action>`. Permissions match literally:
// nothing else expands. With id "" or "*" only the first form counts.
func (p *Principal) Can(resource, id, action string) bool {
	var buf [96]byte
	if p.holds(buf[:0], resource, "*", action) {
		return true
	}
	return id != "" && id != "*" && p.holds(buf[:0], resource, id, action)
}

func (p *Principal) holds(buf []byte, resource, id, action string) bool {
	buf = append(buf, resource...)
	buf = append(buf, '.')
	buf = append(buf, id...)
	buf = append(buf, '.')
	buf = append(buf, action...)
	_, ok := p.Permissions[string(buf)]
	return ok
}

// Reach returns the ids for which the caller holds `<resource>.<id>.<action>`, ordered; all reports that it holds that for every id.
func (p *Principal) Reach(resource, action string) (ids []string, all bool) {
	if p.Can(resource, "*", action) {
		return nil, true
	}
	for permission := range p.Permissions {
		if rest, ok := strings.CutPrefix(permission, resource+"."); ok {
			if id, ok := strings.CutSuffix(rest, "."+action); ok {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return ids, false
}
