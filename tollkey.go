// Package tollkey holds the nouns of Tollkey, the self-hosted server for API keys, per-customer limits,
// usage and permissions. Everything else in the module is built from these types; this package depends
// on the standard library only and does no I/O.
//
// The words: a [Workspace] (tenant) owns [API]s (named sets of keys), [Key]s (records; the secret itself is
// shown once and only its [Digest] is kept), [Identity]s (the customers, named by the login provider's
// external id), [Permission]s and [Role]s. A [RootKey] authenticates a caller, who is then a [Principal].
// A verification answers "may this key do this, now?" with an [Outcome]; it leaves one [Event] behind.
// Every management change is announced to all nodes as a [Change].
//
// Times are [time.Time] in Go and Unix milliseconds (UTC) in storage and JSON; the zero Time means "none".
package tollkey

import (
	"strings"
	"time"
)

// Bounds that validation and the database both enforce.
const (
	// MaxAmount bounds every amount (credits, costs, counts): 10^15. Sums of a thousand such stay in an int64,
	// and every one is exact in a JSON number.
	MaxAmount = 1_000_000_000_000_000
	// MaxExpires is the latest expiry, 2100-01-01T00:00:00Z, in Unix milliseconds.
	MaxExpires = 4_102_444_800_000
)

// Workspace is a tenant. Nothing of one workspace is ever visible in another.
type Workspace struct {
	ID      WorkspaceID
	Name    string
	Slug    string // unique on the server, lower case
	Enabled bool
	// RequestsPerMinute caps the API requests of the workspace; negative means no cap.
	RequestsPerMinute int64
	// RetentionDays is for how many days usage is shown; 0 = all of it.
	RetentionDays int
	CreatedAt     time.Time
}

// API is a named set of keys with shared defaults (`apiId` on the wire).
type API struct {
	ID                APIID
	Workspace         WorkspaceID
	Name              string // not unique
	DefaultPrefix     string // "" = none
	DefaultByteLength int    // 0 = 16
	DeleteProtection  bool
	IPAllowList       []string // addresses or CIDR ranges; empty = any address
	RecoverableKeys   bool     // keys may be created recoverable
	KeyFormat         KeyFormat
	KeyCount          int64 // live keys, kept by the store
	CreatedAt         time.Time
}

// KeyFormat says how the secrets of an API's keys are written.
type KeyFormat string

// The formats.
const (
	KeyFormatBase58      KeyFormat = "base58"
	KeyFormatChecksummed KeyFormat = "checksummed" // ends in a checksum: a mistyped or invented secret shows without a look-up
)

// Digest is the SHA-256 of a full secret string: what is stored and looked up instead of the secret.
type Digest [32]byte

// Key is the record of an API key. It never holds the secret.
type Key struct {
	ID        KeyID
	Workspace WorkspaceID
	API       APIID
	Digest    Digest
	Start     string // the first characters of the secret, for people to recognize it
	Name      string // "" = none
	Meta      []byte // a JSON object as it is to be shown; nil = none
	Identity  *Identity
	Enabled   bool
	Expires   time.Time // zero = never; the key is expired when now is strictly after it
	Credits   Credits
	// Permissions are the directly attached ones, ordered by slug; those that come through Roles are not among them.
	Permissions []Permission
	Roles       []Role // ordered by name, each with its permissions
	RateLimits  []RateLimit
	CreatedAt   time.Time
	UpdatedAt   time.Time // zero until the first update
	LastUsedAt  time.Time // zero until used; may lag by a minute
}

// DataKey encrypts the secrets of one workspace's recoverable keys. It is kept wrapped: encrypted with a master key, which only the
// configuration holds.
type DataKey struct {
	ID        DataKeyID
	Workspace WorkspaceID
	Master    string // the id of the master key
	Wrapped   []byte
	CreatedAt time.Time
}

// SealedSecret is the secret of a recoverable key, encrypted with a data key.
type SealedSecret struct {
	Key        KeyID
	DataKey    DataKeyID
	Ciphertext []byte
}

// Credits is what a key may still spend. Remaining nil means unlimited; a Refill may be stored beside that.
type Credits struct {
	Remaining *int64
	Refill    *Refill
}

// RefillInterval says when a refill is due.
type RefillInterval string

// The intervals.
const (
	RefillDaily   RefillInterval = "daily"
	RefillMonthly RefillInterval = "monthly"
)

// Refill sets a balance that is below Amount back to Amount at 00:00 UTC, daily or on Day of each month
// (or on its last day when the month is shorter).
type Refill struct {
	Interval RefillInterval
	Amount   int64
	Day      int // 1–31 with RefillMonthly, otherwise 0
}

// Identity is a customer, known to the login provider by ExternalID, unique among the live ones of a workspace.
type Identity struct {
	ID         IdentityID
	Workspace  WorkspaceID
	ExternalID string
	Meta       []byte // a JSON object; nil = none
	RateLimits []RateLimit
	CreatedAt  time.Time
}

// RateLimit is a named rule: at most Limit per Duration, stored on a key or an identity.
type RateLimit struct {
	ID       RateLimitID
	Name     string // unique per owner
	Limit    int64  // ≥ 1
	Duration time.Duration
	// AutoApply means that every verification takes one from it, asked or not.
	AutoApply bool
}

// Portal is where customers look after their own keys of some APIs. Its slug is unique among the live ones of a workspace.
type Portal struct {
	ID           PortalID
	Workspace    WorkspaceID
	Slug         string
	Name         string
	APIs         []APIID
	PrimaryColor string // "" or #rrggbb
	LogoURL      string
	ReturnURL    string
	Enabled      bool
	CreatedAt    time.Time
}

// PortalSession lets one customer into a portal for a while. What it may do was fixed when it was made; it ends at once when it is revoked, or its portal disabled or deleted.
type PortalSession struct {
	ID         SessionID
	Workspace  WorkspaceID
	Portal     PortalID
	ExternalID string
	APIs       []APIID
	Scopes     []string
	Preview    bool
	ReturnURL  string
	CreatedAt  time.Time
	Expires    time.Time // of the code that opens it, then of the session itself
}

// Namespace is a named set of standalone limits: identifiers in it are counted apart from those in others. Names are unique in a workspace for ever.
type Namespace struct {
	ID        NamespaceID
	Workspace WorkspaceID
	Name      string
	Deleted   bool
	CreatedAt time.Time
}

// Override replaces limit and duration for the identifiers of a namespace that Identifier names: one, or with `*` in it all that it matches.
type Override struct {
	ID         OverrideID
	Identifier string
	Limit      int64 // 0 blocks
	Duration   time.Duration
}

// Fold is how names that are unique without regard to letter case (slugs, names of roles) are compared.
func Fold(name string) string { return strings.ToLower(name) }

// Permission is a grantable slug. Slugs are unique in a workspace ignoring case and match byte for byte.
type Permission struct {
	ID          PermissionID
	Name        string
	Slug        string
	Description string
}

// Role is a named set of permissions. Names are unique in a workspace ignoring case.
type Role struct {
	ID          RoleID
	Name        string
	Description string
	Permissions []Permission // ordered by slug
}

// RootKey authenticates callers of the HTTP API for one workspace. Its permissions are tuples
// `<resource>.<id or *>.<action>`; it has no roles, limits or credits.
type RootKey struct {
	ID          KeyID
	Workspace   WorkspaceID
	Digest      Digest
	Start       string
	Name        string
	Permissions []string // ordered, without repeats
	Enabled     bool
	Expires     time.Time
	CreatedAt   time.Time
	LastUsedAt  time.Time
}
