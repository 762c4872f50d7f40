package tollkey

import (
	"crypto/rand"
	"sync/atomic"
	"time"
)

// The identifiers are distinct types so that a signature cannot be called with the wrong one. On the wire each is a
// prefix, an underscore and 20 lower-case letters and digits; foreign ids of any length are accepted as input.
//
//nolint:revive // one comment for all of them
type (
	WorkspaceID  string // ws_…
	APIID        string // api_…
	KeyID        string // key_…, also of root keys
	IdentityID   string // id_…
	PermissionID string // perm_…
	RoleID       string // role_…
	RateLimitID  string // rl_…
	NamespaceID  string // rlns_…
	OverrideID   string // rlor_…
	DataKeyID    string // dk_…
	PortalID     string // pc_…
	SessionID    string // ps_…
	MigrationID  string // mig_…
)

const (
	idAlphabet   = "0123456789abcdefghijklmnopqrstuvwxyz"
	idTimeDigits = 11 // base 36 of (milliseconds·4096 + sequence): enough until the year 3055
	idRandDigits = 9
)

var lastTick atomic.Int64

// NewID makes an identifier with the given prefix ("key", "api", …). Identifiers made by one process sort in order of
// their creation under every collation; those of several processes, in order of their clocks. They are unique, not secret.
func NewID(prefix string, now time.Time) string {
	tick := nextTick(now.UnixMilli() << 12)
	buf := make([]byte, len(prefix)+1+idTimeDigits+idRandDigits)
	copy(buf, prefix)
	buf[len(prefix)] = '_'
	body := buf[len(prefix)+1:]
	for i := idTimeDigits - 1; i >= 0; i-- {
		body[i] = idAlphabet[tick%36]
		tick /= 36
	}
	fillRandom(body[idTimeDigits:])
	return string(buf)
}

// nextTick returns a number above every earlier one and not below at.
func nextTick(at int64) int64 {
	for {
		last := lastTick.Load()
		next := max(at, last+1)
		// A clock that was far ahead once must not push all later ids ahead with it.
		if last > at+(60_000<<12) {
			next = at
		}
		if lastTick.CompareAndSwap(last, next) {
			return next
		}
	}
}

func fillRandom(dst []byte) {
	var raw [2 * idRandDigits]byte
	for n := 0; n < len(dst); {
		_, _ = rand.Read(raw[:]) // never fails since Go 1.24
		for _, b := range raw {
			if b < 252 && n < len(dst) { // 252 = 7·36: no digit is likelier than another
				dst[n] = idAlphabet[b%36]
				n++
			}
		}
	}
}
