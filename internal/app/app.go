// Package app puts the server together: configuration becomes objects, which Run starts and stops in order. It is the only importer of
// the store's implementation.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/control"
	"github.com/tollkey/tollkey/internal/feed"
	"github.com/tollkey/tollkey/internal/httpapi"
	"github.com/tollkey/tollkey/internal/ledger"
	"github.com/tollkey/tollkey/internal/limit"
	"github.com/tollkey/tollkey/internal/meter"
	"github.com/tollkey/tollkey/internal/obs"
	"github.com/tollkey/tollkey/internal/refill"
	"github.com/tollkey/tollkey/internal/sqlstore"
	"github.com/tollkey/tollkey/internal/store"
	"github.com/tollkey/tollkey/internal/vault"
	"github.com/tollkey/tollkey/internal/verify"
)

// Config is what the server needs to be told.
type Config struct {
	Listen      string // address and port
	Data        string // the data directory, without DatabaseURL
	DatabaseURL string // postgres://…
	RootKey     string // the first root key's secret; "" = generated
	// ErrorBase begins the type of every error; "" = this server's own pages.
	ErrorBase string
	// PortalURL is the page that customers are sent to with the code of a portal session; "" = this server's own.
	PortalURL string
	// TrustedProxies are the addresses whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	// LogSample has one in so many successful verifications logged; 0 = none.
	LogSample int64
	// Buffered answers what spends no credits before it is committed.
	Buffered bool
	// DiskSync has acknowledged verifications survive power loss on SQLite.
	DiskSync bool
	// MasterKeys encrypt the secrets of recoverable keys; none = there are no such keys. The first wraps, the others unwrap.
	MasterKeys []vault.MasterKey
	// LiveCounters is how many counters of limits are kept in memory, about 150 bytes each; 0 = a million. What is beyond is kept in the store.
	LiveCounters int

	// lookups, when set, stands between the engine and the store: a test stops a read there.
	lookups func(store.Lookups) store.Lookups
}

const (
	cachedKeys  = 100_000
	drainWithin = 10 * time.Second
	rollEvery   = time.Second
	keepChanges = time.Hour
	// keepSessions is how long ended portal sessions are kept.
	keepSessions = 24 * time.Hour
)

// App is a server that is ready to run.
type App struct {
	// Address is where it listens.
	Address string
	// FirstKey is the secret of the root key that this start has made, or "".
	FirstKey string

	db        *sqlstore.DB
	engine    *verify.Engine
	follower  *feed.Follower
	spiller   *spiller
	committer *ledger.Committer
	uses      *uses
	refilled  atomic.Int64 // the day up to which refills are done, as far as this node knows
	node      string
	listener  net.Listener
	server    *http.Server
	log       *slog.Logger
}

// New opens the store, restores the limits, makes the first workspace where there is none, and listens.
func New(ctx context.Context, c Config, log *slog.Logger) (*App, error) {
	db, err := sqlstore.Open(ctx, sqlstore.Options{Dir: c.Data, URL: c.DatabaseURL, DiskSync: c.DiskSync})
	if err != nil {
		return nil, err
	}
	if c.LiveCounters == 0 {
		c.LiveCounters = 1_000_000
	}
	a := &App{db: db, uses: newUses(db), log: log, node: tollkey.NewID("node", time.Now())}
	if err := a.build(ctx, c); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return a, nil
}

func (a *App) build(ctx context.Context, c Config) error {
	var err error
	if a.FirstKey, err = control.Bootstrap(ctx, a.db, c.RootKey, time.Now()); err != nil {
		return fmt.Errorf("the first start: %w", err)
	}
	if c.RootKey != "" && a.FirstKey == "" {
		known, err := control.IsRootKey(ctx, a.db, c.RootKey)
		if err != nil {
			return err
		}
		if !known {
			a.log.Warn("TOLLKEY_ROOT_KEY is no root key of this store, which has its first one already; it is ignored")
		}
	}
	secrets := vault.New(c.MasterKeys)
	if err := a.openVault(ctx, secrets); err != nil {
		return fmt.Errorf("the master keys (vault.keys): %w", err)
	}
	limits := limit.NewLocal(c.LiveCounters, storedTakes{a.db})
	if err := restore(ctx, a.db, limits); err != nil {
		return fmt.Errorf("reading back the limits: %w", err)
	}
	a.committer = ledger.NewCommitter(a.db, ledger.Options{Buffered: c.Buffered, Remote: !a.db.Solo()})
	a.spiller = &spiller{limits: limits, ledger: a.db, last: a.committer.Last}
	lookups := store.Lookups(a.db)
	if c.lookups != nil {
		lookups = c.lookups(lookups)
	}
	a.engine = verify.New(verify.Options{Lookups: lookups, Limits: limits, Ledger: a.committer, Used: a.uses.rootKey})
	a.follower = feed.NewFollower(feed.Options{Store: a.db, Node: a.node, Solo: a.db.Solo(), Learner: a.engine, Log: a.log})
	a.engine.Follow(a.follower, cachedKeys)
	if err := a.follower.Start(ctx); err != nil {
		return err
	}
	if a.listener, err = net.Listen("tcp", c.Listen); err != nil {
		return err
	}
	a.Address = a.listener.Addr().String()
	if c.ErrorBase == "" {
		c.ErrorBase = "http://" + a.Address + "/docs"
	}
	if c.PortalURL == "" {
		c.PortalURL = "http://" + a.Address + "/portal"
	}
	handler, err := httpapi.New(httpapi.Options{
		Control: control.New(a.db, a.db, secrets, a.follower.Confirm, time.Now), Verify: a.engine, Ready: a.db.Ping, Log: a.log, Remote: !a.db.Solo(),
		ErrorBase: c.ErrorBase, PortalBase: c.PortalURL, TrustedProxies: c.TrustedProxies, LogSample: c.LogSample, Metrics: a.metrics(limits), Now: time.Now,
	})
	a.server = &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 70 * time.Second,
		IdleTimeout: 2 * time.Minute, // longer than clients keep a connection: a call that meets its end is lost
	}
	return err
}

// Run serves until ctx ends; then it stops accepting, finishes what is being answered, commits, and closes the store.
func (a *App) Run(ctx context.Context) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	committing, stopCommitting := context.WithCancel(context.WithoutCancel(ctx))
	defer stopCommitting()
	var loops, committer sync.WaitGroup
	committer.Go(func() { a.committer.Run(committing, drainWithin) })
	loops.Go(func() { a.follower.Run(background) })
	loops.Go(func() { a.engine.Run(background) })
	loops.Go(func() { a.roll(background) })
	loops.Go(func() { a.spill(background) })
	loops.Go(func() { a.refill(background) })
	loops.Go(func() { a.noteUses(background) })
	loops.Go(func() {
		if err := a.engine.LoadFilter(background); err != nil && background.Err() == nil {
			a.log.Warn("the filter could not be loaded; unknown keys are looked up in the store", "error", err)
		}
	})
	served := make(chan error, 1)
	go func() { served <- a.server.Serve(a.listener) }()
	var err error
	select {
	case err = <-served:
	case <-ctx.Done():
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainWithin)
		defer cancel()
		err = a.server.Shutdown(drain)
	}
	stop()
	loops.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainWithin)
	defer cancel()
	err = errors.Join(err, a.uses.flush(last))
	stopCommitting()
	committer.Wait()
	return errors.Join(err, a.db.Close())
}

func (a *App) metrics(limits *limit.Local) *obs.Metrics {
	m := obs.New()
	m.Gauge("tollkey_ledger_waiting", "Entries that are not committed yet.", func() float64 { return float64(a.committer.Waiting()) })
	m.Counter("tollkey_ledger_entries_total", "Entries taken into batches of the ledger.", func() float64 { return float64(a.committer.Taken()) })
	m.Counter("tollkey_lookups_total", "Reads of the store for a key or root key that the cache did not hold.",
		func() float64 { return float64(a.engine.Lookups()) })
	m.Gauge("tollkey_limit_counters", "Counters of limits in memory.", func() float64 { return float64(limits.Len()) })
	m.Gauge("tollkey_refill_last_day", "The start of the day up to which credits are refilled, in Unix seconds; 0 = not known yet.", func() float64 {
		return float64(refill.Day(a.refilled.Load()).Start().Unix())
	})
	m.Gauge("tollkey_cache_usable", "1 while this node may answer from its cache.", func() float64 {
		if a.follower.Holds() {
			return 1
		}
		return 0
	})
	return m
}

// spill keeps the counters of limits within their memory.
func (a *App) spill(ctx context.Context) {
	tick := time.NewTicker(rollEvery / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := a.spiller.step(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("counters of limits could not spill; it will be tried again", "error", err)
		}
	}
}

// roll moves batches into usage and counters, and throws away what nobody needs, while this node holds the lease.
func (a *App) roll(ctx context.Context) {
	defer a.release(ctx, "roller")
	roller := &meter.Roller{Ledger: a.db, Usage: a.db, Used: a.uses.key}
	tick := time.NewTicker(rollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := a.rollOnce(ctx, roller); err != nil && ctx.Err() == nil {
			a.log.Warn("usage could not be rolled up; it will be tried again", "error", err)
		}
	}
}

// release gives a lease back, so that the next start or another node need not wait for its end.
func (a *App) release(ctx context.Context, lease string) {
	soon, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = a.db.Release(soon, lease, a.node) // it ends by itself as well
}

func (a *App) rollOnce(ctx context.Context, roller *meter.Roller) error {
	const lease = 30 * time.Second
	held, err := a.db.Lease(ctx, "roller", a.node, lease)
	if err != nil || !held {
		return err
	}
	for ctx.Err() == nil {
		n, err := roller.Roll(ctx)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		if a.uses.crowded() {
			if err := a.uses.flush(ctx); err != nil {
				return err
			}
		}
	}
	return a.prune(ctx, time.Now())
}

// prune throws away what nobody needs at now, in slices that let others write in between.
func (a *App) prune(ctx context.Context, now time.Time) error {
	const slice, pause = 500, 3 * time.Millisecond // verifications that queued up behind a slice get as long
	for _, next := range []func() (int, error){
		func() (int, error) { return a.db.PruneCounters(ctx, now.UnixMilli(), slice) },
		func() (int, error) { return a.db.PruneLinks(ctx, slice/5) },
		func() (int, error) { return a.db.PrunePortalSessions(ctx, time.Now().Add(-keepSessions), slice) },
		func() (int, error) {
			return a.db.PruneMinutes(ctx, time.Now().Add(-meter.KeepMinutes).UnixMilli(), slice)
		},
		func() (int, error) { return a.db.PruneChanges(ctx, keepChanges, slice) },
	} {
		for n := 1; n > 0 && ctx.Err() == nil; {
			var err error
			if n, err = next(); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	}
	return nil
}
