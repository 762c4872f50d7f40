package sqlstore

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tollkey/tollkey"
)

// A restore fills a folder of the data directory called undecided, and renames it to decided once it is complete, checked and on the disk. What was there
// before is untouched until then; from then on every Open finishes the restore before it opens anything.
const undecided, decided = "restoring", "restored"

var (
	qNewEpoch   = query(`update feed set epoch = $1 where id = 1`)
	qDropLeases = query(`delete from leases`)
)

// ErrStoreExists is Restore's refusal to replace a store.
var ErrStoreExists = errors.New("there is a store already")

// Restore puts what View.Backup wrote into a data directory that no server uses, and begins a new epoch. Without force it replaces no store. If it
// fails, or is killed, the directory holds either what it held before or all of the backup.
func Restore(ctx context.Context, dir string, r io.Reader, force bool) error {
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if err := finishRestore(dir); err != nil {
		return err
	}
	for _, name := range []string{mainFile, usageFile} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) && !force {
			return errors.Join(ErrStoreExists, err)
		}
	}
	staged := filepath.Join(dir, undecided)
	if err := os.RemoveAll(staged); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(staged) }() // gone, when all went well
	if err := os.Mkdir(staged, 0o700); err != nil {
		return err
	}
	if err := unpack(r, staged); err != nil {
		return fmt.Errorf("reading the backup: %w", err)
	}
	if err := verifyCopy(ctx, staged); err != nil {
		return fmt.Errorf("the backup: %w", err)
	}
	if err := beginEpoch(ctx, filepath.Join(staged, mainFile)); err != nil {
		return err
	}
	if err := errors.Join(syncPath(filepath.Join(staged, mainFile)), syncPath(filepath.Join(staged, usageFile)), syncPath(staged)); err != nil {
		return err
	}
	if err := os.Rename(staged, filepath.Join(dir, decided)); err != nil {
		return err
	}
	return errors.Join(syncPath(dir), finishRestore(dir))
}

// unpack writes the two files, and takes no other.
func unpack(r io.Reader, dir string) error {
	zip, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	archive := tar.NewReader(zip)
	for _, name := range []string{mainFile, usageFile} {
		header, err := archive.Next()
		if err != nil {
			return err
		}
		if header.Name != name || header.Typeflag != tar.TypeReg {
			return fmt.Errorf("it holds %q where %s should be", header.Name, name)
		}
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // the operator names the directory
		if err != nil {
			return err
		}
		_, err = io.Copy(f, archive) //nolint:gosec // the operator's own backup is as large as the store was
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	if _, err := archive.Next(); err != io.EOF {
		return errors.Join(fmt.Errorf("it does not end after %s", usageFile), err)
	}
	_, err = io.Copy(io.Discard, zip) //nolint:gosec // the checksum is at the end, and nothing is kept
	return errors.Join(err, zip.Close())
}

// verifyCopy refuses what is damaged, not Tollkey's, or of a newer version.
func verifyCopy(ctx context.Context, dir string) (err error) {
	v, err := OpenView(ctx, Options{Dir: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	if err := v.Check(ctx, true); err != nil {
		return err
	}
	if err := v.mustKnow(ctx); err != nil {
		return err
	}
	return v.Agree(ctx)
}

// mustKnow fails for a store that a newer version has migrated.
func (v *View) mustKnow(ctx context.Context) error {
	versions, err := v.Versions(ctx)
	for _, s := range versions {
		if s.Stored > s.Newest {
			return fmt.Errorf("schema %s has version %d; this version of Tollkey knows up to %d", s.Schema, s.Stored, s.Newest)
		}
	}
	return err
}

// beginEpoch changes the file itself and leaves no write-ahead log behind. Whoever held a lease is of another history.
func beginEpoch(ctx context.Context, path string) error {
	pool, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		return err
	}
	f := file{dialect: sqliteDialect, pool: pool}
	return errors.Join(f.updateOnce(ctx, func(q querier) error { return newEpoch(ctx, q) }), pool.Close())
}

func newEpoch(ctx context.Context, q querier) error {
	if _, err := q.ExecContext(ctx, qDropLeases); err != nil {
		return err
	}
	result, err := q.ExecContext(ctx, qNewEpoch, tollkey.NewID("epoch", time.Now()))
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return errors.Join(errors.New("the store has no feed of changes"), err)
	}
	return nil
}

// NewEpoch tells whoever cached something of a store that was restored by other means, such as pg_restore, to drop it.
func NewEpoch(ctx context.Context, o Options) (err error) {
	v, err := OpenView(ctx, o) // Open would make a store where there is none
	if err != nil {
		return err
	}
	if err := errors.Join(v.mustKnow(ctx), v.Close()); err != nil {
		return err
	}
	db, err := Open(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.main.update(ctx, func(q querier) error { return newEpoch(ctx, q) })
}

// finishRestore puts what a restore has decided into its place. It may be killed at any point, and is then done again.
func finishRestore(dir string) error {
	from := filepath.Join(dir, decided)
	if _, err := os.Stat(from); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, name := range []string{mainFile, usageFile} {
		if _, err := os.Stat(filepath.Join(from, name)); errors.Is(err, os.ErrNotExist) {
			continue // it is in its place
		}
		// The old log goes first: SQLite would apply it to the new file.
		for _, old := range []string{name + "-wal", name + "-shm", name + "-journal"} {
			if err := os.RemoveAll(filepath.Join(dir, old)); err != nil {
				return err
			}
		}
		if err := syncPath(dir); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(from, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return errors.Join(syncPath(dir), os.RemoveAll(from), syncPath(dir))
}

// syncPath has a file or a folder reach the disk.
func syncPath(path string) error {
	f, err := os.Open(path) //nolint:gosec // the operator names the directory
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// lockDir makes a data directory where there is none, and takes it for this process.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the operator names the directory
	if err != nil {
		return nil, fmt.Errorf("the data directory: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another server uses the data directory %s", dir), lock.Close())
	}
	return lock, nil
}
