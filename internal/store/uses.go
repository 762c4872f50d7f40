package store

import (
	"context"
	"time"

	"github.com/tollkey/tollkey"
)

// Uses keeps when keys were last used.
type Uses interface {
	// PutLastUsed moves the times of some keys and root keys forward, never back. Ids that are unknown are passed over. It works for about
	// budget in one transaction, in ascending order of ids, and returns how many of the given it has done.
	PutLastUsed(ctx context.Context, uses []Use, budget time.Duration) (done int, err error)
}

// Use is when a key was last used.
type Use struct {
	Key  tollkey.KeyID
	Root bool // it is a root key
	At   time.Time
}
