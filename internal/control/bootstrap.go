package control

import (
	"context"
	"errors"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/access"
	"github.com/tollkey/tollkey/internal/secret"
	"github.com/tollkey/tollkey/internal/store"
)

// Bootstrap makes the first workspace and a root key that may do everything, unless there is a workspace already. preset, when not "",
// is the root key's secret. It returns the secret of the key that it made, or "" when it made none.
func Bootstrap(ctx context.Context, s store.Store, preset string, at time.Time) (string, error) {
	var made string
	_, err := s.Update(ctx, at, func(tx store.Tx) error {
		made = ""
		n, err := tx.CountWorkspaces(ctx)
		if err != nil || n > 0 {
			return err
		}
		plain, start := preset, secret.Start(preset)
		if plain == "" {
			if plain, start, err = secret.New("tollkey", 32); err != nil {
				return err
			}
		}
		w := &tollkey.Workspace{ID: tollkey.WorkspaceID(tollkey.NewID("ws", at)), Name: "Default", Slug: "default", Enabled: true, RequestsPerMinute: -1, CreatedAt: at}
		made = plain
		_, err = found(ctx, tx, w, plain, start, access.All())
		return err
	})
	var conflict *tollkey.Error
	if errors.As(err, &conflict) && conflict.Code == tollkey.CodeConflict {
		return "", nil // another node was first
	}
	return made, err
}

// found makes a workspace with its first root key, which is the first entry of the workspace's audit log.
func found(ctx context.Context, tx store.Tx, w *tollkey.Workspace, plain, start string, permissions []string) (tollkey.KeyID, error) {
	if err := tx.CreateWorkspace(ctx, w); err != nil {
		return "", err
	}
	k := &tollkey.RootKey{
		ID: tollkey.KeyID(tollkey.NewID("key", tx.Now())), Workspace: w.ID, Digest: secret.Hash(plain), Start: start, Name: "First root key",
		Permissions: permissions, Enabled: true, CreatedAt: tx.Now(),
	}
	tx.Announce(store.Announcement{Digests: []tollkey.Digest{k.Digest}, Cells: []string{string(w.ID)}})
	bySystem(tx, w.ID, "workspace.create", "Created the workspace and its first root key", workspaceTarget(w), rootKeyTarget(k))
	return k.ID, tx.CreateRootKey(ctx, k)
}

// IsRootKey reports whether the secret is that of a root key.
func IsRootKey(ctx context.Context, s store.Lookups, plain string) (bool, error) {
	r, err := s.RootKeyByDigest(ctx, secret.Hash(plain))
	return r != nil, err
}
