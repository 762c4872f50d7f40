package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// CLOCK stands for the engine's present time in the statements below.
func clocked(text string) map[string]string {
	out := map[string]string{}
	for _, d := range []*dialect{sqliteDialect, postgresDialect} {
		out[d.name] = replaceClock(text, d.clock)
	}
	return out
}

var (
	qHead         = query(`select number, epoch from feed where id = 1`)
	qChangesAfter = hotQuery(`select number, at, kind, body from changes where number > $1 order by number limit $2`)
	qHeartbeat    = clocked(`insert into nodes (id, applied, epoch, seen_at) values ($1, $2, $3, CLOCK)
		on conflict (id) do update set applied = excluded.applied, epoch = excluded.epoch, seen_at = excluded.seen_at`)
	qAcknowledge = query(`update nodes set applied = $2, epoch = $3 where id = $1`)
	qNodes       = clocked(`select id, applied, epoch, CLOCK - seen_at from nodes order by id`)
	qRemoveNode  = query(`delete from nodes where id = $1`)
	qPruneFeed   = clocked(`delete from changes where number in (select number from changes order by number limit $2) and at < CLOCK - $1`) // looks no further than it may go
	qPruneNodes  = clocked(`delete from nodes where seen_at < CLOCK - $1`)
	qLease       = clocked(`insert into leases (name, holder, expires_at) values ($1, $2, CLOCK + $3)
		on conflict (name) do update set holder = excluded.holder, expires_at = excluded.expires_at
		where leases.holder = excluded.holder or leases.expires_at < CLOCK`)
	qRelease   = query(`delete from leases where name = $1 and holder = $2`)
	qFirstFeed = query(`insert into feed (id, number, audited, epoch) values (1, 0, 0, $1) on conflict (id) do nothing`)
)

// Head implements store.Changes.
func (db *DB) Head(ctx context.Context) (h store.Head, err error) {
	err = db.main.reads.QueryRowContext(ctx, qHead).Scan(&h.Number, &h.Epoch)
	return h, db.main.dialect.classify(err)
}

// ChangesAfter implements store.Changes.
func (db *DB) ChangesAfter(ctx context.Context, after int64, limit int) ([]tollkey.Change, error) {
	rows, err := db.main.reads.QueryContext(ctx, qChangesAfter, after, limit)
	if err != nil {
		return nil, db.main.dialect.classify(err)
	}
	defer func() { _ = rows.Close() }()
	var out []tollkey.Change
	for rows.Next() {
		c, err := scanChange(rows)
		if err != nil {
			return nil, db.main.dialect.classify(err)
		}
		out = append(out, c)
	}
	return out, db.main.dialect.classify(rows.Err())
}

func scanChange(rows *sql.Rows) (c tollkey.Change, err error) {
	var at int64
	var text string
	var body changeBody
	if err := rows.Scan(&c.Number, &at, &c.Kind, &text); err != nil {
		return c, err
	}
	if err := json.Unmarshal([]byte(text), &body); err != nil {
		return c, err
	}
	c.Time, c.Cells, c.Digests, c.FirstKey, c.LastKey = time.UnixMilli(at), body.Cells, body.Digests, body.FirstKey, body.LastKey
	return c, nil
}

// Heartbeat implements store.Changes.
func (db *DB) Heartbeat(ctx context.Context, n store.Node) (store.Head, error) {
	if err := db.run(ctx, qHeartbeat[db.main.dialect.name], n.ID, n.Applied, n.Epoch); err != nil {
		return store.Head{}, err
	}
	return db.Head(ctx)
}

// Acknowledge implements store.Changes.
func (db *DB) Acknowledge(ctx context.Context, n store.Node) error {
	return db.run(ctx, qAcknowledge, n.ID, n.Applied, n.Epoch)
}

// RemoveNode implements store.Changes.
func (db *DB) RemoveNode(ctx context.Context, id string) error {
	return db.run(ctx, qRemoveNode, id)
}

// run executes one statement at once, in a transaction of its own.
func (db *DB) run(ctx context.Context, text string, args ...any) error {
	if !db.Solo() {
		_, err := db.main.pool.ExecContext(ctx, text, args...)
		return db.main.dialect.classify(err)
	}
	return db.main.dialect.classify(db.main.writer.run(ctx, text, args...))
}

// Nodes implements store.Changes.
func (db *DB) Nodes(ctx context.Context) ([]store.NodeStatus, error) {
	rows, err := db.main.reads.QueryContext(ctx, qNodes[db.main.dialect.name])
	if err != nil {
		return nil, db.main.dialect.classify(err)
	}
	defer func() { _ = rows.Close() }()
	var out []store.NodeStatus
	for rows.Next() {
		var n store.NodeStatus
		var age int64
		if err := rows.Scan(&n.ID, &n.Applied, &n.Epoch, &age); err != nil {
			return nil, db.main.dialect.classify(err)
		}
		n.Age = time.Duration(age) * time.Millisecond
		out = append(out, n)
	}
	return out, db.main.dialect.classify(rows.Err())
}

// PruneChanges implements store.Changes.
func (db *DB) PruneChanges(ctx context.Context, age time.Duration, limit int) (int, error) {
	name := db.main.dialect.name
	if err := db.run(ctx, qPruneNodes[name], age.Milliseconds()); err != nil {
		return 0, err
	}
	return db.prune(ctx, limit, qPruneFeed[name], age.Milliseconds())
}

// Lease implements store.Store.
func (db *DB) Lease(ctx context.Context, name, holder string, ttl time.Duration) (held bool, err error) {
	err = db.main.updateUrgent(ctx, func(q querier) error {
		result, err := q.ExecContext(ctx, qLease[db.main.dialect.name], name, holder, ttl.Milliseconds())
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		held = n > 0
		return err
	})
	return held, err
}

// Release implements store.Store.
func (db *DB) Release(ctx context.Context, name, holder string) error {
	return db.run(ctx, qRelease, name, holder)
}

// Watch implements store.Changes.
func (db *DB) Watch(ctx context.Context) <-chan struct{} {
	ch := db.woken.hear(ctx)
	if !db.Solo() {
		go db.listen(ctx)
	}
	return ch
}

// listen rings the bell for every notification, on a connection of its own, until ctx ends.
func (db *DB) listen(ctx context.Context) {
	for ctx.Err() == nil {
		conn, err := db.main.pool.Conn(ctx)
		if err == nil {
			_ = conn.Raw(func(driver any) error {
				pg := driver.(*stdlib.Conn).Conn()
				_, err := pg.Exec(ctx, "listen tollkey_changes")
				for err == nil {
					if _, err = pg.WaitForNotification(ctx); err == nil {
						db.woken.ring()
					}
				}
				return err
			})
			_ = conn.Close()
		}
		select { // the poll serves meanwhile
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// bell wakes all who listen; rings that nobody has heard yet are one.
type bell struct {
	mu    sync.Mutex
	heard map[chan struct{}]bool
}

func newBell() *bell { return &bell{heard: map[chan struct{}]bool{}} }

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for ch := range b.heard {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

func (b *bell) hear(ctx context.Context) <-chan struct{} {
	ch := make(chan struct{}, 1)
	b.mu.Lock()
	b.heard[ch] = true
	b.mu.Unlock()
	context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.heard, ch)
		close(ch)
	})
	return ch
}
