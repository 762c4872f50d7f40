//go:build long

package app

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/conformance"
	"github.com/tollkey/tollkey/internal/meter"
	"github.com/tollkey/tollkey/internal/sqlstore"
)

// TestLongKill kills a server under load, again and again. What was answered VALID must have been spent and counted, no more than one request
// per client and kill may be spent or counted unanswered, and no aligned window may admit more than its limit.
func TestLongKill(t *testing.T) {
	for name, where := range map[string]func(t *testing.T) (sqlstore.Options, string){
		"sqlite": func(t *testing.T) (sqlstore.Options, string) {
			dir := t.TempDir()
			return sqlstore.Options{Dir: dir}, "TOLLKEY_DATA=" + dir
		},
		"postgres": func(t *testing.T) (sqlstore.Options, string) {
			url := conformance.Postgres(t)
			return sqlstore.Options{URL: url}, "TOLLKEY_DATABASE_URL=" + url
		},
	} {
		t.Run(name, func(t *testing.T) { killAgain(t, where) })
	}
}

// customer is a key of this test, and what its clients were answered.
type customer struct {
	id, secret string
	clients    int
	valid      atomic.Int64
	rounds     int64

	mu      sync.Mutex
	windows map[int64]int64 // VALID by when the window ends
}

func (c *customer) count(v verdict) {
	c.valid.Add(1)
	for _, l := range v.Ratelimits {
		c.mu.Lock()
		c.windows[l.Reset]++
		c.mu.Unlock()
	}
}

func killAgain(t *testing.T, where func(t *testing.T) (sqlstore.Options, string)) {
	const kills, credits, limit, hours = 20, 1_000_000, 100, 4
	binary := build(t)
	options, setting := where(t)
	server := launch(t, binary, setting)
	api := server.newAPI(t)
	create := func(clients int, rest string) *customer {
		c := &customer{clients: clients, windows: map[int64]int64{}}
		c.id, c.secret = server.newKey(t, api, rest)
		return c
	}
	limited := func(clients int, millis int) *customer {
		return create(clients, fmt.Sprintf(`,"ratelimits":[{"name":"requests","limit":%d,"duration":%d,"autoApply":true}]`, limit, millis))
	}
	paid, short := create(4, fmt.Sprintf(`,"credits":{"remaining":%d}`, credits)), limited(1, 10_000)
	all := []*customer{paid, short}
	var hourly *customer
	for kill := range kills {
		if kill%(kills/hours) == 0 { // a fresh one, that some kills interrupt before its limit is reached
			hourly = limited(1, 3_600_000)
			all = append(all, hourly)
		}
		underLoad(t, server, []*customer{paid, short, hourly}, func(answered func() int64) {
			for deadline := time.Now().Add(time.Minute); answered() < 150; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("kill %d: %d answers in a minute", kill, answered())
				}
			}
			_ = server.Process.Kill()
		})
		_ = server.Wait()
		server = launch(t, binary, setting)
	}
	stop(t, server)
	for _, c := range all {
		left, events := books(t, options, tollkey.KeyID(c.id))
		valid, inFlight := c.valid.Load(), c.rounds*int64(c.clients)
		if events < valid || events > valid+inFlight {
			t.Errorf("key %s: %d answered VALID, %d counted", c.id, valid, events)
		}
		if c == paid && credits-left != events {
			t.Errorf("%d spent, %d counted", credits-left, events)
		}
		for end, n := range c.windows {
			if n > limit {
				t.Errorf("key %s: %d VALID in the window that ends at %d, at most %d", c.id, n, end, limit)
			}
		}
		t.Logf("%d kills: %d VALID, %d counted, %d windows", c.rounds, valid, events, len(c.windows))
	}
}

// underLoad runs kill while the customers' clients ask, and returns when all have noticed it. answered tells how many VALID the first customer got.
func underLoad(t *testing.T, server *process, customers []*customer, kill func(answered func() int64)) {
	t.Helper()
	client := newClient(t)
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	killed := make(chan struct{})
	for _, c := range customers {
		c.rounds++
		for range c.clients {
			wg.Go(func() {
				for {
					v, err := server.verify(client, c.secret, "")
					switch {
					case err != nil:
						select {
						case <-killed:
						case <-time.After(10 * time.Second):
							t.Errorf("before the kill: %v", err)
						}
						return
					case v.Code == "VALID":
						c.count(v)
					case v.Code != "RATE_LIMITED":
						t.Errorf("%+v", v)
						return
					}
				}
			})
		}
	}
	before := customers[0].valid.Load()
	kill(func() int64 { return customers[0].valid.Load() - before })
	close(killed)
	wg.Wait()
}

// books reads what a stopped server's store says of a key: what is left, and how many VALID were counted.
func books(t *testing.T, options sqlstore.Options, id tollkey.KeyID) (left, events int64) {
	t.Helper()
	db, err := sqlstore.Open(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	roller := &meter.Roller{Ledger: db, Usage: db}
	for n := 1; n > 0; {
		if n, err = roller.Roll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	record, err := db.RootKeyByDigest(t.Context(), tollkey.Digest(sha256.Sum256([]byte(rootKey))))
	if err != nil {
		t.Fatal(err)
	}
	ws := record.Workspace
	left, _, err = db.Balance(t.Context(), tollkey.BalanceID(id))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := db.Usage(t.Context(), meter.Query{Workspace: ws, To: time.Now().Add(24 * time.Hour).UnixMilli(), Key: id, Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		events += row.Valid
	}
	return left, events
}
