package sqlstore

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Backup writes the store on SQLite, as it is at one moment, to w: a compressed tar of both files. A server may be at work meanwhile.
//
// It reads pages within one read transaction per file and takes no lock that a writer waits for. While it runs, SQLite cannot start its write-ahead log
// anew: tollkey.db-wal grows by all that is written meanwhile, and keeps that size on the disk until the server stops.
func (v *View) Backup(ctx context.Context, w io.Writer) error {
	if v.main.dialect != sqliteDialect {
		return errors.New("sqlstore: only a store on SQLite is copied page by page")
	}
	zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(zip)
	err = v.snapshots(ctx, func(main, usage querier) error {
		now := time.Now()
		return errors.Join(copyPages(ctx, archive, mainFile, main, now), copyPages(ctx, archive, usageFile, usage, now))
	})
	return errors.Join(err, archive.Close(), zip.Close())
}

// copyPages writes a database file as the snapshot shows it, the write-ahead log included.
func copyPages(ctx context.Context, archive *tar.Writer, name string, q querier, now time.Time) error {
	var pages, size int64
	if err := errors.Join(q.QueryRowContext(ctx, "pragma page_count").Scan(&pages), q.QueryRowContext(ctx, "pragma page_size").Scan(&size)); err != nil {
		return err
	}
	header := tar.Header{Name: name, Mode: 0o600, Size: pages * size, ModTime: now}
	if err := archive.WriteHeader(&header); err != nil {
		return err
	}
	rows, err := q.QueryContext(ctx, "select data from sqlite_dbpage order by pgno")
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	var page []byte
	for rows.Next() {
		if err := rows.Scan(&page); err != nil {
			return err
		}
		if _, err := archive.Write(page); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("copying %s: %w", name, err)
	}
	return nil
}
