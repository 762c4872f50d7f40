// Package store is the contract of Tollkey's durable state: what can be read, what can be changed in a transaction, and
// how changes and nodes are known. It holds types and comments, no SQL; internal/sqlstore implements it on SQLite and
// PostgreSQL, and internal/conformance proves both.
//
// Rules that hold for every method:
//   - Everything is confined to the workspace given; a thing of another workspace is answered as a missing one.
//   - A missing thing is a *tollkey.Error with CodeNotFound and the Reason of its kind; a duplicate has CodeConflict; a
//     store that cannot be asked is tollkey.Unavailable. Other errors are faults of this program.
//   - Returned values are the caller's; the store keeps no reference to them, nor to arguments.
//   - All methods of Store may be called concurrently; a Reader or Tx belongs to one goroutine.
package store

import (
	"context"
	"time"

	"github.com/tollkey/tollkey"
)

// Store is the whole of it, as the composition root hands it out.
type Store interface {
	// View runs fn on one snapshot. fn may run twice.
	View(ctx context.Context, fn func(Reader) error) error
	// Update runs fn in a transaction, writes what fn gave to Audit and Announce as its last statements, and commits. It
	// returns the number of the change, or 0 when nothing was announced. fn may run twice; it must do nothing but talk to
	// its Tx. When fn returns an error, nothing is written and that error is returned.
	Update(ctx context.Context, now time.Time, fn func(Tx) error) (change int64, err error)
	// UpdateSlice is Update for a part of something longer: power loss may undo it until a later Update has returned.
	UpdateSlice(ctx context.Context, now time.Time, fn func(Tx) error) (change int64, err error)

	// API is Reader.API for whoever needs nothing else: one statement, without a transaction around it.
	API(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.APIID) (*tollkey.API, error)

	Lookups
	Changes
	Refills
	Uses
	DataKeys
	// Lease takes or renews the lease called name for holder until ttl from now by the store's clock. It reports false
	// while another holder's lease is live. Release gives it back early.
	Lease(ctx context.Context, name, holder string, ttl time.Duration) (held bool, err error)
	Release(ctx context.Context, name, holder string) error
	// PruneLinks removes up to limit links of keys to permissions and roles that were deleted, and reports how many.
	PruneLinks(ctx context.Context, limit int) (int, error)
}

// Lookups are the hot path's cold reads. Each is one indexed statement, hence one snapshot.
type Lookups interface {
	// KeyByDigest returns the live key with that digest whatever its workspace or state, or nil, nil when there is none
	// (never existed, or deleted). Root keys are not keys.
	KeyByDigest(ctx context.Context, digest tollkey.Digest) (*KeyRecord, error)
	// RootKeyByDigest is the same for root keys.
	RootKeyByDigest(ctx context.Context, digest tollkey.Digest) (*RootKeyRecord, error)
	// Namespace returns the namespace of that name or id, deleted or not, with all its overrides, or nil, nil when there never was one.
	// Where one is named as another's id is, the id counts.
	Namespace(ctx context.Context, ws tollkey.WorkspaceID, nameOrID string) (*NamespaceRecord, error)
	// PortalSession returns the opened session with that token, if neither it nor its portal nor its workspace has ended, or nil, nil.
	PortalSession(ctx context.Context, token tollkey.Digest, now time.Time) (*tollkey.PortalSession, error)
	// Migration returns the migration with that id, or nil, nil.
	Migration(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.MigrationID) (*tollkey.Migration, error)
	// ForeignHash returns what a key is known by that has this stand-in for a digest, or nil, nil: also when it has its native digest by now.
	ForeignHash(ctx context.Context, standIn tollkey.Digest) (*ForeignHash, error)
	// Digests calls fn with the digest of every key and root key, in slices that fn must not keep; with first and last set, only
	// with those of keys whose id is in that closed range.
	Digests(ctx context.Context, first, last tollkey.KeyID, fn func([]tollkey.Digest) error) error
}

// KeyRecord is a key with what its verification depends on besides.
type KeyRecord struct {
	tollkey.Key
	APIDeleted       bool
	IPAllowList      []string
	WorkspaceEnabled bool
}

// RootKeyRecord is a root key with the state of its workspace.
type RootKeyRecord struct {
	tollkey.RootKey
	WorkspaceMissing  bool
	WorkspaceEnabled  bool
	RequestsPerMinute int64 // negative = no cap
}

// NamespaceRecord is a namespace with its overrides, ordered by id.
type NamespaceRecord struct {
	tollkey.Namespace
	Overrides []tollkey.Override
}

// ForeignHash is what is known of a key that was imported and never used.
type ForeignHash struct {
	Digest    tollkey.Digest // the stand-in that the key has until then
	Source    tollkey.Digest // the stand-in of the hash; not read back
	Key       tollkey.KeyID
	Migration tollkey.MigrationID
	Hash      string
}

// ImportedKey is a key with the foreign hash by which it is known; nil where its digest is the native one.
type ImportedKey struct {
	*tollkey.Key
	Foreign *ForeignHash
}

// NamespaceCell names what answers depend on that looked for a namespace by name, whether or not there is one.
func NamespaceCell(ws tollkey.WorkspaceID, name string) string {
	return "namespace/" + string(ws) + "/" + name
}

// DataKeys is the operator's view of the data keys of all workspaces.
type DataKeys interface {
	// DataKeys returns up to limit data keys with ids above after, ascending.
	DataKeys(ctx context.Context, after tollkey.DataKeyID, limit int) ([]tollkey.DataKey, error)
}

// Changes is the feed of announced changes and the list of the nodes that follow it.
type Changes interface {
	// Head returns the number of the last committed change and the epoch of the store. The epoch changes when the store is
	// restored from a backup; whoever cached something under another epoch must drop it.
	Head(ctx context.Context) (Head, error)
	// ChangesAfter returns up to limit changes with numbers above after, ascending. Changes are kept for an hour.
	ChangesAfter(ctx context.Context, after int64, limit int) ([]tollkey.Change, error)
	// Heartbeat writes this node's row with the store's present time and then returns the Head. The row is visible to all before the Head is read: whoever commits
	// a later change sees the node.
	Heartbeat(ctx context.Context, node Node) (Head, error)
	// Acknowledge writes only what was applied.
	Acknowledge(ctx context.Context, node Node) error
	// Nodes lists the rows with their age by the store's clock.
	Nodes(ctx context.Context) ([]NodeStatus, error)
	RemoveNode(ctx context.Context, id string) error
	// Watch returns a channel that receives (never blocks, may coalesce) soon after a change was committed, by this process or,
	// where the engine can tell, by any other. It is closed when ctx ends. It is a hint only: followers poll as well.
	Watch(ctx context.Context) <-chan struct{}
	// PruneChanges deletes the rows of dead nodes, and up to limit changes, that are older than age; fewer where others would wait too long. It reports
	// how many changes.
	PruneChanges(ctx context.Context, age time.Duration, limit int) (int, error)
}

// Head is the end of the feed.
type Head struct {
	Number int64
	Epoch  string
}

// Node is a process that answers from a cache.
type Node struct {
	ID      string // one boot of one process
	Applied int64  // the last change it has applied
	Epoch   string // of the store in which that change was
}

// NodeStatus is a Node as the others see it.
type NodeStatus struct {
	Node
	Age time.Duration // since its last heartbeat
}

// Reader reads one snapshot.
type Reader interface {
	Workspace(ctx context.Context, id tollkey.WorkspaceID) (*tollkey.Workspace, error)
	// ListWorkspaces returns all workspaces of the server by ascending id.
	ListWorkspaces(ctx context.Context, page Page) ([]tollkey.Workspace, error)
	// CountWorkspaces is for the first start.
	CountWorkspaces(ctx context.Context) (int64, error)

	RootKey(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.KeyID) (*tollkey.RootKey, error)
	ListRootKeys(ctx context.Context, ws tollkey.WorkspaceID, page Page) ([]tollkey.RootKey, error)

	// API returns a live API.
	API(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.APIID) (*tollkey.API, error)
	// ListAPIs returns live APIs by ascending id.
	ListAPIs(ctx context.Context, ws tollkey.WorkspaceID, filter APIFilter, page Page) ([]tollkey.API, error)
	// Key returns a live key of a live API, whole.
	Key(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.KeyID) (*tollkey.Key, error)
	// ListKeys returns live keys by ascending id, whole, in a bounded number of statements.
	ListKeys(ctx context.Context, ws tollkey.WorkspaceID, filter KeyFilter, page Page) ([]tollkey.Key, error)

	// DataKey returns the workspace's data key, or nil, nil when it has none yet.
	DataKey(ctx context.Context, ws tollkey.WorkspaceID) (*tollkey.DataKey, error)
	// SealedSecrets returns the secrets of those of the live keys that are recoverable, in no order.
	SealedSecrets(ctx context.Context, ws tollkey.WorkspaceID, keys []tollkey.KeyID) ([]tollkey.SealedSecret, error)

	// FindIdentity returns the live identity with that id or external id, with its limits. Where one has another's id as its external id, the id counts.
	FindIdentity(ctx context.Context, ws tollkey.WorkspaceID, ref string) (*tollkey.Identity, error)
	// ListIdentities returns live identities in whose id or external id search occurs without regard to case ("" = all), by ascending id, with their limits.
	ListIdentities(ctx context.Context, ws tollkey.WorkspaceID, search string, page Page) ([]tollkey.Identity, error)
	// Identity returns the live identity with that external id, without its limits.
	Identity(ctx context.Context, ws tollkey.WorkspaceID, externalID string) (*tollkey.Identity, error)
	// Namespace returns the namespace of that name or id, deleted or not. Where one is named as another's id is, the id counts.
	Namespace(ctx context.Context, ws tollkey.WorkspaceID, nameOrID string) (*tollkey.Namespace, error)
	// Portal returns the live portal with that id or slug. Where one has another's id as its slug, the id counts.
	Portal(ctx context.Context, ws tollkey.WorkspaceID, ref string) (*tollkey.Portal, error)
	// ListPortals returns live portals by ascending id.
	ListPortals(ctx context.Context, ws tollkey.WorkspaceID, page Page) ([]tollkey.Portal, error)
	// ListPortalSessions returns sessions that are live now, by ascending id; with externalID only those of that customer.
	ListPortalSessions(ctx context.Context, ws tollkey.WorkspaceID, externalID string, now time.Time, page Page) ([]tollkey.PortalSession, error)

	// ListNamespaces returns live namespaces by ascending id.
	ListNamespaces(ctx context.Context, ws tollkey.WorkspaceID, page Page) ([]tollkey.Namespace, error)
	// ListOverrides returns overrides of a namespace, deleted or not, by ascending id.
	ListOverrides(ctx context.Context, ns tollkey.NamespaceID, page Page) ([]tollkey.Override, error)

	// ListMigrations returns migrations by ascending id.
	ListMigrations(ctx context.Context, ws tollkey.WorkspaceID, page Page) ([]tollkey.Migration, error)

	// Permission returns the one with that id, or else with that slug without regard to case.
	Permission(ctx context.Context, ws tollkey.WorkspaceID, ref string) (*tollkey.Permission, error)
	// ListPermissions returns those by ascending id in whose id, name, slug or description search occurs, without regard to case; "" = all.
	ListPermissions(ctx context.Context, ws tollkey.WorkspaceID, search string, page Page) ([]tollkey.Permission, error)
	// PermissionsBySlug returns those that exist, matching without regard to case, ordered by slug. In a Tx they cannot be deleted before it ends.
	PermissionsBySlug(ctx context.Context, ws tollkey.WorkspaceID, slugs []string) ([]tollkey.Permission, error)
	// Role returns the one with that id, or else with that name without regard to case, with its permissions.
	Role(ctx context.Context, ws tollkey.WorkspaceID, ref string) (*tollkey.Role, error)
	// ListRoles is like ListPermissions, for id, name and description; with their permissions.
	ListRoles(ctx context.Context, ws tollkey.WorkspaceID, search string, page Page) ([]tollkey.Role, error)
	// RolesByName returns those that exist, matching without regard to case, ordered by name, with their permissions. In a Tx they cannot be
	// deleted before it ends.
	RolesByName(ctx context.Context, ws tollkey.WorkspaceID, names []string) ([]tollkey.Role, error)

	// ListAudit returns entries from the newest on; Page.From is the id of the first, and one that the workspace does not have is invalid.
	ListAudit(ctx context.Context, ws tollkey.WorkspaceID, filter AuditFilter, page Page) ([]tollkey.AuditEntry, error)
}

// Page asks for up to Limit rows whose id is From or above; From "" starts at the beginning.
type Page struct {
	From  string
	Limit int
}

// APIFilter narrows ListAPIs.
type APIFilter struct {
	IDs    []tollkey.APIID // nil = any
	Search string          // a part of the name or the id, in any letter case; "" = any
}

// KeyFilter narrows ListKeys.
type KeyFilter struct {
	API        tollkey.APIID
	ExternalID string // "" = any
	// APIs, when set, replaces API: keys of any of these, at most 100. ExternalID must be set then.
	APIs []tollkey.APIID
}

// AuditFilter narrows ListAudit; "" = any.
type AuditFilter struct {
	Actor, Event, Target string // Actor and Target are ids
	From, Before         time.Time
}

// Tx is a transaction: a Reader that sees its own writes, and the writes.
type Tx interface {
	Reader
	// Now is the time given to Update; all rows of a transaction agree on it.
	Now() time.Time

	// CreateWorkspace is a conflict when the slug exists; the transaction can go on.
	CreateWorkspace(ctx context.Context, w *tollkey.Workspace) error
	// UpdateWorkspace writes the fields that u holds.
	UpdateWorkspace(ctx context.Context, id tollkey.WorkspaceID, u WorkspaceUpdate) error
	CreateRootKey(ctx context.Context, k *tollkey.RootKey) error
	// UpdateRootKey writes the fields that u holds; it is not found when deleted.
	UpdateRootKey(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.KeyID, u RootKeyUpdate) error
	DeleteRootKey(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.KeyID) error
	// LockRootKeys makes transactions that change root keys of the workspace follow one another, so that "the last one
	// that can …" can be decided.
	LockRootKeys(ctx context.Context, ws tollkey.WorkspaceID) error

	CreateAPI(ctx context.Context, a *tollkey.API) error
	// UpdateAPI writes the fields that u holds. Two updates of different fields never undo each other.
	UpdateAPI(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.APIID, u APIUpdate) error
	// DeleteAPI marks a live API as deleted; its keys stay but cannot be reached.
	DeleteAPI(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.APIID) error

	// CreateKeys inserts the keys with their credits, limits and links. Identity, Permissions and Roles must exist; only
	// their ids are read. A digest that exists is a conflict; an API that is deleted, or is when this transaction commits, is missing.
	CreateKeys(ctx context.Context, keys []*tollkey.Key) error
	// AddCredits adds amount to the balance of a key, or takes it away, down to 0. It reports false, and writes nothing, when the key is unlimited or the
	// balance would exceed MaxAmount.
	AddCredits(ctx context.Context, id tollkey.KeyID, amount int64) (remaining int64, done bool, err error)
	// UpdateKey writes the fields that u holds and sets UpdatedAt. Two updates of different fields never undo each other.
	UpdateKey(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.KeyID, u KeyUpdate) error
	// DeleteKey marks a key as deleted, or with permanent removes it and all that hangs on it. A sealed secret goes either way.
	DeleteKey(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.KeyID, permanent bool) error

	CreateMigration(ctx context.Context, m *tollkey.Migration) error
	DeleteMigration(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.MigrationID) error
	// ImportKeys is CreateKeys, but for what exists already: a key whose digest or foreign hash any other has, a deleted one included, is left out. It
	// returns the ids of the others.
	ImportKeys(ctx context.Context, keys []ImportedKey) (map[tollkey.KeyID]bool, error)
	// RehashKey gives a live key that has a stand-in its native digest. It reports false, and writes nothing, when the key has it by now or when another,
	// deleted one has it.
	RehashKey(ctx context.Context, ws tollkey.WorkspaceID, standIn, digest tollkey.Digest, start string) (done bool, err error)

	// CreateIdentity inserts the identity with its limits. An external id that a live one has is a conflict.
	CreateIdentity(ctx context.Context, i *tollkey.Identity) error
	// LockIdentity has others who change the identity wait until this transaction ends.
	LockIdentity(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.IdentityID) error
	UpdateIdentity(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.IdentityID, u IdentityUpdate) error
	// DeleteIdentity marks the identity as deleted and removes its limits. Keys keep their link, which leads nowhere then; the external id is free again.
	DeleteIdentity(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.IdentityID) error

	// CreateSealedSecret makes a key of this transaction recoverable.
	CreateSealedSecret(ctx context.Context, s *tollkey.SealedSecret) error
	// PutDataKey inserts k unless its workspace has a data key, and reports whether it did.
	PutDataKey(ctx context.Context, k *tollkey.DataKey) (created bool, err error)
	// RewrapDataKey writes how k is wrapped now, unless it is no longer wrapped with the master key called from, and reports whether it did.
	RewrapDataKey(ctx context.Context, from string, k *tollkey.DataKey) (done bool, err error)
	// DeleteDataKey removes a data key and every secret that it seals, and reports how many those were.
	DeleteDataKey(ctx context.Context, id tollkey.DataKeyID) (secrets int64, err error)

	// PutIdentity returns the live identity with that external id, making it when there is none; concurrent calls
	// converge on one.
	PutIdentity(ctx context.Context, ws tollkey.WorkspaceID, externalID string) (id tollkey.IdentityID, created bool, err error)
	// PutIdentities is PutIdentity for many; created holds the new ones.
	PutIdentities(ctx context.Context, ws tollkey.WorkspaceID, externalIDs []string) (ids map[string]tollkey.IdentityID, created []tollkey.Identity, err error)
	// PutPermissions returns one permission per slug, making those that do not exist in any letter case. The result is
	// ordered by slug, without repeats, and cannot be deleted before the transaction ends; created holds the new ones.
	PutPermissions(ctx context.Context, ws tollkey.WorkspaceID, slugs []string) (all, created []tollkey.Permission, err error)
	// CreatePermission is a conflict when the slug exists in any letter case.
	CreatePermission(ctx context.Context, ws tollkey.WorkspaceID, p *tollkey.Permission) error
	// DeletePermission removes the permission that Permission would return, and its links, and returns it with the roles that held it. What
	// it returns of them is complete: a transaction that gives it to a role either came first or does not find it.
	DeletePermission(ctx context.Context, ws tollkey.WorkspaceID, ref string) (*tollkey.Permission, []tollkey.RoleID, error)
	// CreateRole inserts the role and its links; a name that exists in any letter case is a conflict.
	CreateRole(ctx context.Context, ws tollkey.WorkspaceID, r *tollkey.Role) error
	// PutRoles returns one role per name, making those that do not exist in any letter case. The result cannot be deleted before the transaction ends; created
	// holds the new ones.
	PutRoles(ctx context.Context, ws tollkey.WorkspaceID, names []string) (all, created []tollkey.Role, err error)
	// DeleteRole removes the role that Role would return, and its links, and returns it without its permissions.
	DeleteRole(ctx context.Context, ws tollkey.WorkspaceID, ref string) (*tollkey.Role, error)
	// LockRole returns the role and makes transactions that change its permissions follow one another, so that what it returns stays true.
	LockRole(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.RoleID) (*tollkey.Role, error)
	// ChangeRolePermissions adds and removes permissions of a role; what it holds already, or does not hold, is no error.
	ChangeRolePermissions(ctx context.Context, id tollkey.RoleID, add, remove []tollkey.PermissionID) error
	// LockKey is Key, and makes transactions that change the key follow one another, so that what it returns stays true.
	LockKey(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.KeyID) (*tollkey.Key, error)
	// ChangeKeyLinks adds and removes direct permissions and roles of a key and sets UpdatedAt; what it has already, or has not, is no error.
	ChangeKeyLinks(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.KeyID, add, remove KeyLinks) error

	// PutNamespaces makes those of the names that do not exist, deleted ones included, and returns the new ones; concurrent calls converge.
	PutNamespaces(ctx context.Context, ws tollkey.WorkspaceID, names []string) (created []tollkey.Namespace, err error)
	// DeleteNamespace marks a live namespace as deleted. Its name stays taken.
	DeleteNamespace(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.NamespaceID) error
	// PutOverride makes or replaces the override of that identifier and returns its id, which a replaced one keeps. The namespace must exist.
	PutOverride(ctx context.Context, ns tollkey.NamespaceID, o tollkey.Override) (tollkey.OverrideID, error)
	// DeleteOverride removes the override of exactly that identifier.
	DeleteOverride(ctx context.Context, ns tollkey.NamespaceID, identifier string) (tollkey.OverrideID, error)

	// CreatePortal is a conflict when a live portal has the slug.
	CreatePortal(ctx context.Context, p *tollkey.Portal) error
	// UpdatePortal writes the whole of it but id, workspace and creation. Without Enabled, all sessions so far end for good.
	UpdatePortal(ctx context.Context, p *tollkey.Portal) error
	DeletePortal(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.PortalID) error
	// CreatePortalSession stores a session that waits to be opened by a code.
	CreatePortalSession(ctx context.Context, s *tollkey.PortalSession, code tollkey.Digest) error
	// OpenPortalSession exchanges a code for a token, once, and sets the session's expiry; it is not found when the code is unknown, used or out of date, or the session or its
	// portal has ended.
	OpenPortalSession(ctx context.Context, code, token tollkey.Digest, expires time.Time) (*tollkey.PortalSession, error)
	RevokePortalSession(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.SessionID) error

	// Audit adds entries to what is written at commit, behind all that were committed before: they form one chain, see tollkey.AuditEntry.
	Audit(entries ...tollkey.AuditEntry)
	// Announce adds to the one change that this transaction announces.
	Announce(c Announcement)
}

// Announcement is a part of a Change; the parts of one transaction are merged. A transaction that creates more than 100
// keys announces them by the range of their ids.
type Announcement struct {
	Cells   []string
	Digests []tollkey.Digest
	Keys    []tollkey.KeyID // the ids that belong to Digests
	Flush   bool
}

// APIUpdate holds the fields to write; a nil pointer leaves a field alone.
type APIUpdate struct {
	Name              *string
	DefaultPrefix     *string // "" clears
	DefaultByteLength *int    // 0 clears
	DeleteProtection  *bool
	IPAllowList       *[]string
	RecoverableKeys   *bool
	KeyFormat         *tollkey.KeyFormat
}

// KeyUpdate holds the fields to write; a nil pointer leaves a field alone.
type KeyUpdate struct {
	Name        *string                 // "" clears
	Meta        *[]byte                 // nil slice clears
	Identity    *tollkey.IdentityID     // "" unlinks
	Enabled     *bool                   //
	Expires     *time.Time              // zero clears
	Remaining   **int64                 // pointer to nil = unlimited
	Refill      **tollkey.Refill        // pointer to nil clears
	RateLimits  *[]tollkey.RateLimit    // the whole set; one with the name of a stored one keeps the stored id
	Permissions *[]tollkey.PermissionID // the whole direct set
	Roles       *[]tollkey.RoleID       // the whole set
	Digest      *tollkey.Digest         // with Start: a new secret
	Start       *string                 //
	UpdatedAt   *time.Time              // nil = the transaction's time; zero clears
}

// KeyLinks are permissions and roles that a key has directly.
type KeyLinks struct {
	Permissions []tollkey.PermissionID
	Roles       []tollkey.RoleID
}

// IdentityUpdate holds the fields to write; a nil pointer leaves a field alone.
type IdentityUpdate struct {
	Meta       *[]byte              // nil slice clears
	RateLimits *[]tollkey.RateLimit // the whole set; one with the name of a stored one keeps the stored id
}

// WorkspaceUpdate holds the fields to write; a nil pointer leaves a field alone.
type WorkspaceUpdate struct {
	Name              *string
	RequestsPerMinute *int64
	RetentionDays     *int
}

// RootKeyUpdate holds the fields to write; a nil pointer leaves a field alone.
type RootKeyUpdate struct {
	Name        *string
	Permissions *[]string
	Enabled     *bool
	Expires     *time.Time
}
