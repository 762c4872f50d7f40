package control

import (
	"context"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// CreateMigration names a source of keys that exist already.
func (s *Service) CreateMigration(ctx context.Context, caller Caller, m tollkey.Migration) (tollkey.MigrationID, tollkey.Propagation, error) {
	if !caller.Can("migration", "*", "create_migration") {
		return "", tollkey.Propagation{}, denied("migration.*.create_migration")
	}
	switch looks := m.Lookup.Separator != ""; {
	case m.Algorithm.Slow() && !looks:
		return "", tollkey.Propagation{}, tollkey.Invalid("/lookup", "Hashes of this algorithm cannot be searched for: say how the public part of a key is cut from it.")
	case looks && !m.Algorithm.Slow():
		return "", tollkey.Propagation{}, tollkey.Invalid("/lookup", "Hashes of this algorithm are found by themselves.")
	}
	m.ID, m.Workspace = tollkey.MigrationID(tollkey.NewID("mig", s.now())), caller.Workspace
	p, err := s.mutate(ctx, caller, func(c *change) error {
		m.CreatedAt = c.Now()
		c.record("migration.create", "Created a migration", migrationTarget(&m), store.Announcement{Cells: []string{string(m.ID)}})
		return c.Tx.CreateMigration(ctx, &m)
	})
	return m.ID, p, err
}

// ListMigrations returns one page of the migrations and the cursor of the next, "" on the last.
func (s *Service) ListMigrations(ctx context.Context, caller Caller, page store.Page) (found []tollkey.Migration, next string, err error) {
	if !caller.Can("migration", "*", "read_migration") {
		return nil, "", denied("migration.*.read_migration")
	}
	err = s.store.View(ctx, func(r store.Reader) error {
		found, err = r.ListMigrations(ctx, caller.Workspace, store.Page{From: page.From, Limit: page.Limit + 1})
		return err
	})
	found, next = cut(found, page.Limit, func(m tollkey.Migration) string { return string(m.ID) })
	return found, next, err
}

// DeleteMigration ends a migration. Its keys that were used stay as they are; those that were not can be found no more.
func (s *Service) DeleteMigration(ctx context.Context, caller Caller, id tollkey.MigrationID) (tollkey.Propagation, error) {
	if !caller.Can("migration", string(id), "delete_migration") {
		return tollkey.Propagation{}, denied("migration.*.delete_migration")
	}
	return s.mutate(ctx, caller, func(c *change) error {
		c.record("migration.delete", "Deleted a migration", migrationTarget(&tollkey.Migration{ID: id}), store.Announcement{Cells: []string{string(id)}})
		return c.Tx.DeleteMigration(ctx, caller.Workspace, id)
	})
}

func migrationTarget(m *tollkey.Migration) tollkey.AuditTarget {
	return tollkey.AuditTarget{Type: "migration", ID: string(m.ID), Name: m.Name}
}
