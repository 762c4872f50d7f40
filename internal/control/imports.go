package control

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/foreignhash"
	"github.com/tollkey/tollkey/internal/store"
)

// ImportKey is a key of which the hash is known. Its roles are made where they do not exist.
type ImportKey struct {
	NewKey
	Hash   string
	Lookup string // of slow algorithms: the public part of the key
	Start  string // "" = unknown until the first use
}

// Imported is a key that was new.
type Imported struct {
	Hash string
	Key  tollkey.KeyID
}

// MigrateKeys imports keys by their hashes, in slices that are committed one by one. failed lists the hashes that exist already, in any workspace and also of
// deleted keys; of equal hashes in one call the first counts. After an error a part may have been imported: a repetition tells which, by failed.
func (s *Service) MigrateKeys(
	ctx context.Context, caller Caller, api tollkey.APIID, migration tollkey.MigrationID, keys []ImportKey,
) (done []Imported, failed []string, p tollkey.Propagation, err error) {
	if !caller.Can("api", string(api), "create_key") {
		return nil, nil, p, denied("api.*.create_key")
	}
	if _, err := s.store.API(ctx, caller.Workspace, api); err != nil {
		return nil, nil, p, err
	}
	m, err := s.store.Migration(ctx, caller.Workspace, migration)
	if err == nil && m == nil {
		err = tollkey.NotFound(tollkey.ReasonMigrationNotFound, "There is no such migration.")
	}
	if err != nil {
		return nil, nil, p, err
	}
	all, err := s.prepare(caller, api, m, keys)
	if err != nil {
		return nil, nil, p, err
	}
	p = tollkey.Propagation{Confirmed: true, Nodes: 1}
	var last int64
	correlation := tollkey.NewID("cor", s.now())
	for rest := all; len(rest) > 0; {
		n, began := sliceOf(rest), time.Now()
		update := s.store.UpdateSlice
		if n == len(rest) { // the last one waits for the disk, which then has all
			update = s.store.Update
		}
		number, err := update(ctx, s.now(), func(tx store.Tx) error {
			c := &change{tx, caller, correlation}
			return c.importSlice(ctx, m, rest[:n])
		})
		if err != nil {
			return nil, nil, p, err
		}
		last, rest = max(last, number), rest[n:]
		time.Sleep(min(time.Since(began)/2, 2*time.Millisecond)) // leave the processors and the writer to verifications for a third of the time
	}
	for i := range all {
		if all[i].fresh {
			done = append(done, Imported{all[i].in.Hash, all[i].ID})
		} else {
			failed = append(failed, all[i].in.Hash)
		}
	}
	if last > 0 {
		p = s.confirm(ctx, last)
	}
	return done, failed, p, nil
}

// importItem is a key on its way into the store.
type importItem struct {
	store.ImportedKey
	in    *ImportKey
	fresh bool
}

// prepare checks all keys before any is written, and leaves out repeated ones.
func (s *Service) prepare(caller Caller, api tollkey.APIID, m *tollkey.Migration, keys []ImportKey) ([]importItem, error) {
	now := s.now()
	all := make([]importItem, 0, len(keys))
	seen := make(map[tollkey.Digest]bool, len(keys))
	for i := range keys {
		in := &keys[i]
		if r := in.Credits.Refill; r != nil && r.Interval == tollkey.RefillMonthly && r.Day == 0 {
			return nil, tollkey.Invalid(fmt.Sprintf("/keys/%d/credits/refill/refillDay", i), "A monthly refill needs a refillDay.")
		}
		source, err := foreignhash.Digest(m.Algorithm, in.Hash)
		if err != nil {
			return nil, tollkey.Invalid(fmt.Sprintf("/keys/%d/hash", i), fmt.Sprintf("A hash of %s %s.", m.Algorithm, err))
		}
		digest := source
		switch {
		case !m.Algorithm.Slow() && in.Lookup != "":
			return nil, tollkey.Invalid(fmt.Sprintf("/keys/%d/lookup", i), "Hashes of this algorithm are found by themselves.")
		case m.Algorithm.Slow() && (in.Lookup == "" || strings.Contains(in.Lookup, m.Lookup.Separator)):
			return nil, tollkey.Invalid(fmt.Sprintf("/keys/%d/lookup", i), "Hashes of this algorithm need the public part of the key, without separators.")
		case m.Algorithm.Slow():
			digest = foreignhash.OfLookup(m, in.Lookup)
		}
		if seen[source] || seen[digest] {
			continue
		}
		seen[source], seen[digest] = true, true
		k := &tollkey.Key{
			ID: tollkey.KeyID(tollkey.NewID("key", now)), Workspace: caller.Workspace, API: api, Digest: digest, CreatedAt: now,
			Start: in.Start, Name: in.Name, Meta: in.Meta, Enabled: in.Enabled, Expires: in.Expires, Credits: in.Credits, RateLimits: limitsOf(in.RateLimits, now),
		}
		item := importItem{in: in, ImportedKey: store.ImportedKey{Key: k}}
		if !m.Algorithm.Native() {
			item.Foreign = &store.ForeignHash{Digest: digest, Source: source, Key: k.ID, Migration: m.ID, Hash: in.Hash}
		}
		all = append(all, item)
	}
	return all, nil
}

// sliceOf returns how many of the keys one transaction imports: so few rows that it holds the one writer of SQLite for a few milliseconds, and so few keys
// (100) that its change names each, and no node has to drop its cache.
func sliceOf(items []importItem) int {
	const maxKeys, maxRows = 60, 180
	rows := 0
	for i := range min(len(items), maxKeys) {
		in := items[i].in
		if rows += 2 + len(in.RateLimits) + len(in.Permissions) + len(in.Roles); in.ExternalID != "" {
			rows++
		}
		if rows > maxRows && i > 0 {
			return i
		}
	}
	return min(len(items), maxKeys)
}

// importSlice inserts some keys with all that they are linked to.
func (c *change) importSlice(ctx context.Context, m *tollkey.Migration, items []importItem) error {
	a, err := c.API(ctx, c.caller.Workspace, items[0].API)
	if err != nil {
		return err
	}
	if err := c.linkImports(ctx, items); err != nil {
		return err
	}
	keys := make([]store.ImportedKey, len(items))
	for i := range items {
		keys[i] = items[i].ImportedKey
	}
	fresh, err := c.ImportKeys(ctx, keys)
	if err != nil {
		return err
	}
	var made store.Announcement
	for i := range items {
		if items[i].fresh = fresh[items[i].ID]; items[i].fresh {
			made.Digests, made.Keys = append(made.Digests, items[i].Digest), append(made.Keys, items[i].ID)
		}
	}
	if len(made.Keys) > 0 {
		text := fmt.Sprintf("Imported %d keys, from %s to %s", len(made.Keys), made.Keys[0], made.Keys[len(made.Keys)-1])
		c.record("key.migrate", text, apiTarget(a), made, migrationTarget(m))
	}
	return nil
}

// linkImports finds or makes the identities, permissions and roles of the keys.
func (c *change) linkImports(ctx context.Context, items []importItem) error {
	var owners, slugs, names []string
	for i := range items {
		in := items[i].in
		slugs, names = append(slugs, in.Permissions...), append(names, in.Roles...)
		if in.ExternalID != "" {
			owners = append(owners, in.ExternalID)
		}
	}
	identities, err := c.importIdentities(ctx, owners)
	if err != nil {
		return err
	}
	permissions, _, err := c.putPermissions(ctx, slugs)
	if err != nil {
		return err
	}
	roles, created, err := c.PutRoles(ctx, c.caller.Workspace, names)
	if err != nil {
		return err
	}
	for _, r := range created {
		c.record("role.create", "Created a role", roleTarget(r), store.Announcement{})
	}
	bySlug, byName := map[string]tollkey.Permission{}, map[string]tollkey.Role{}
	for _, p := range permissions {
		bySlug[tollkey.Fold(p.Slug)] = p
	}
	for _, r := range roles {
		byName[tollkey.Fold(r.Name)] = r
	}
	for i := range items {
		k, in := items[i].Key, items[i].in
		if in.ExternalID != "" {
			k.Identity = &tollkey.Identity{ID: identities[in.ExternalID]}
		}
		k.Permissions, k.Roles = pick(in.Permissions, bySlug), pick(in.Roles, byName)
	}
	return nil
}

// importIdentities finds or makes identities; all that are new stand in one audit entry.
func (c *change) importIdentities(ctx context.Context, externalIDs []string) (map[string]tollkey.IdentityID, error) {
	ids, created, err := c.PutIdentities(ctx, c.caller.Workspace, externalIDs)
	var targets []tollkey.AuditTarget
	for _, i := range created {
		targets = append(targets, tollkey.AuditTarget{Type: "identity", ID: string(i.ID), Name: i.ExternalID})
	}
	if err == nil && len(targets) > 0 {
		c.record("identity.create", "Created identities", targets[0], store.Announcement{}, targets[1:]...)
	}
	return ids, err
}

// pick returns what the names lead to, without repeats.
func pick[T any](names []string, by map[string]T) []T {
	var out []T
	seen := map[string]bool{}
	for _, name := range names {
		if name = tollkey.Fold(name); !seen[name] {
			seen[name] = true
			out = append(out, by[name])
		}
	}
	return out
}

// RehashKey gives an imported key, which a verification has found by its foreign hash, its native digest.
func (s *Service) RehashKey(ctx context.Context, caller Caller, standIn, digest tollkey.Digest, start string) (tollkey.Propagation, error) {
	k, err := s.store.KeyByDigest(ctx, standIn)
	if err != nil || k == nil {
		return tollkey.Propagation{Confirmed: true, Nodes: 1}, err
	}
	return s.mutate(ctx, caller, func(c *change) error {
		done, err := c.Tx.RehashKey(ctx, caller.Workspace, standIn, digest, start)
		if err == nil && done {
			c.record("key.rehash", "Gave an imported key its own digest", keyTarget(&k.Key), store.Announcement{
				Cells: []string{string(k.ID)}, Digests: []tollkey.Digest{digest}, Keys: []tollkey.KeyID{k.ID},
			})
		}
		return err
	})
}
