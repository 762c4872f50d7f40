package app

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/tollkey/tollkey/internal/sqlstore"
)

// errUsePgDump is why there is no second way to copy a PostgreSQL database.
var errUsePgDump = errors.New("the store is in PostgreSQL: use pg_dump, which copies the whole database as it is at one moment, " +
	"and after pg_restore run `tollkey restore --epoch-only`")

// Backup writes a copy of the SQLite store to path while a server may be at work, and reports its size. The file appears under its name once it
// is complete and on the disk; nobody but its owner can read it.
func Backup(ctx context.Context, c Config, path string) (size int64, err error) {
	if c.DatabaseURL != "" {
		return 0, errUsePgDump
	}
	v, err := sqlstore.OpenView(ctx, sqlstore.Options{Dir: c.Data})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // of mode 0600
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.Remove(f.Name()) }() // it has another name when all went well
	paced := &pacer{ctx: ctx, file: f}
	if err := errors.Join(v.Backup(ctx, paced), f.Sync(), f.Close()); err != nil {
		return 0, err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return 0, err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return 0, err
	}
	return paced.written, errors.Join(dir.Sync(), dir.Close())
}

// pacer has a file reach the disk in bits, and leaves the disk to others for as long as each took: all at once, the file would hold up the server's
// commits behind it.
type pacer struct {
	ctx             context.Context
	file            *os.File
	written, synced int64
}

// Write implements io.Writer.
func (p *pacer) Write(b []byte) (int, error) {
	const bit = 256 << 10
	n, err := p.file.Write(b)
	p.written += int64(n)
	if err != nil || p.written-p.synced < bit {
		return n, err
	}
	began := time.Now()
	p.synced, err = p.written, p.file.Sync()
	select {
	case <-p.ctx.Done():
		return n, errors.Join(err, p.ctx.Err())
	case <-time.After(time.Since(began)):
		return n, err
	}
}

// Restore puts a backup into the data directory, and replaces the store that is there only with force.
func Restore(ctx context.Context, c Config, path string, force bool) (err error) {
	if c.DatabaseURL != "" {
		return errors.New("the store is in PostgreSQL: use pg_restore, and then `tollkey restore --epoch-only`")
	}
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return sqlstore.Restore(ctx, c.Data, f, force)
}

// ErrStoreExists is the refusal to replace a store.
var ErrStoreExists = sqlstore.ErrStoreExists

// NewEpoch has every server drop what it knows of a store that was restored by other means.
func NewEpoch(ctx context.Context, c Config) error {
	return sqlstore.NewEpoch(ctx, sqlstore.Options{Dir: c.Data, URL: c.DatabaseURL})
}
