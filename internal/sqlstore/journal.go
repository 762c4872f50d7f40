package sqlstore

import (
	"context"
	"database/sql"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// journal does for a SQLite file what SQLite itself would do within a commit, while everybody waits for the writer: it syncs the write-ahead log, once
// for all who have committed meanwhile, and copies the log into the database.
type journal struct {
	path string
	pool *sql.DB // of one connection, for checkpoints
	most int64   // pages that the log may grow to while commits never pause; then one waits for the rest of a checkpoint

	arrived atomic.Uint64 // who has asked for a sync
	mu      sync.Mutex    // held while the disk is waited for
	log     *os.File      // nil until the first sync
	synced  uint64        // those who had arrived when the last sync began
	failed  error

	commits atomic.Int64 // since the last checkpoint
	stop    context.CancelFunc
	running sync.WaitGroup
}

const (
	checkpointEvery = 250 // commits, looked at once a second
	maxLogPages     = 16384
	// idleCheckpoint is after how many seconds less is copied too.
	idleCheckpoint = 10
)

func newJournal(path string, pool *sql.DB) *journal {
	pool.SetMaxOpenConns(1)
	return &journal{path: path, pool: pool, most: maxLogPages}
}

// sync returns when all that was committed before the call survives the loss of power.
func (j *journal) sync() error {
	n := j.arrived.Add(1)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed != nil || n <= j.synced {
		return j.failed
	}
	if j.log == nil {
		// SQLite locks the database and the index of the log, but never the log: another descriptor of it takes no locks away when it is closed.
		if j.log, j.failed = os.Open(j.path + "-wal"); j.failed != nil {
			return j.failed
		}
	}
	upTo := j.arrived.Load()
	// After a failed sync the next may succeed although pages are lost: then nothing is promised any more until the next start.
	if j.failed = j.log.Sync(); j.failed == nil {
		j.synced = upTo
	}
	return j.failed
}

// start keeps the log short until close.
func (j *journal) start(w *writer) {
	ctx, cancel := context.WithCancel(context.Background())
	j.stop = cancel
	j.running.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for idle := 0; ; idle++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if n := j.commits.Load(); n < checkpointEvery && (n == 0 || idle < idleCheckpoint) {
				continue
			}
			idle = 0
			j.commits.Store(0)
			_ = j.shorten(ctx, w) // what cannot be copied now is copied the next time; a broken store fails elsewhere too
		}
	})
}

// shorten copies the log into the database beside the writer. A log that does not get shorter that way, since there always is a newer commit, it
// copies a second time with the writer's turn, when little is left to be done.
func (j *journal) shorten(ctx context.Context, w *writer) error {
	pages, err := j.checkpoint(ctx)
	if err != nil || pages < j.most {
		return err
	}
	if _, err = j.checkpoint(ctx); err != nil {
		return err
	}
	if err := w.enter(ctx, &w.normal, false); err != nil {
		return err
	}
	defer w.leave()
	_, err = j.checkpoint(ctx)
	return err
}

// checkpoint copies what it can without waiting for anybody, and returns how many pages the log has.
func (j *journal) checkpoint(ctx context.Context) (pages int64, err error) {
	var busy, copied int64
	err = j.pool.QueryRowContext(ctx, "pragma wal_checkpoint(passive)").Scan(&busy, &pages, &copied)
	return pages, err
}

// end stops the checkpoints.
func (j *journal) end() {
	j.stop()
	j.running.Wait()
	_ = j.pool.Close()
}

// close is called after the last commit; who still waits for the disk is served by it.
func (j *journal) close() {
	_ = j.sync() // who needs it asks too, and learns of a failure
	j.mu.Lock()
	defer j.mu.Unlock()
	j.synced = math.MaxUint64
	if j.log != nil {
		_ = j.log.Close()
	}
}
