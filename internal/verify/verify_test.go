package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/feed"
	"github.com/tollkey/tollkey/internal/ledger"
	"github.com/tollkey/tollkey/internal/limit"
	"github.com/tollkey/tollkey/internal/sqlstore"
	"github.com/tollkey/tollkey/internal/store"
)

const ws = tollkey.WorkspaceID("ws_1")

// rig is an engine on a real store.
type rig struct {
	*Engine
	db       *sqlstore.DB
	follower *feed.Follower
	caller   *tollkey.Principal
	clock    atomic.Int64
	// between, when set, runs between a lookup's read of the store and its return.
	between func()
	lookups int
}

// KeyByDigest lets a test step in after the read and before the answer is kept.
func (r *rig) KeyByDigest(ctx context.Context, d tollkey.Digest) (*store.KeyRecord, error) {
	k, err := r.db.KeyByDigest(ctx, d)
	r.lookups++
	if f := r.between; f != nil {
		r.between = nil
		f()
	}
	return k, err
}

func (r *rig) RootKeyByDigest(ctx context.Context, d tollkey.Digest) (*store.RootKeyRecord, error) {
	return r.db.RootKeyByDigest(ctx, d)
}

func (r *rig) Digests(ctx context.Context, first, last tollkey.KeyID, fn func([]tollkey.Digest) error) error {
	return r.db.Digests(ctx, first, last, fn)
}

func (r *rig) Namespace(ctx context.Context, ws tollkey.WorkspaceID, nameOrID string) (*store.NamespaceRecord, error) {
	return r.db.Namespace(ctx, ws, nameOrID)
}

func (r *rig) PortalSession(ctx context.Context, token tollkey.Digest, now time.Time) (*tollkey.PortalSession, error) {
	return r.db.PortalSession(ctx, token, now)
}

func (r *rig) Migration(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.MigrationID) (*tollkey.Migration, error) {
	return r.db.Migration(ctx, ws, id)
}

func (r *rig) ForeignHash(ctx context.Context, d tollkey.Digest) (*store.ForeignHash, error) {
	return r.db.ForeignHash(ctx, d)
}

func newRig(t testing.TB) *rig {
	t.Helper()
	db, err := sqlstore.Open(t.Context(), sqlstore.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{db: db, caller: &tollkey.Principal{Workspace: ws, Permissions: map[string]struct{}{"api.*.verify_key": {}}}}
	r.clock.Store(1_790_000_000_000)
	committer := ledger.NewCommitter(db, ledger.Options{})
	r.Engine = New(Options{Lookups: r, Limits: limit.NewLocal(1_000_000, nil), Ledger: committer, Now: func() time.Time { return time.UnixMilli(r.clock.Load()) }})
	r.follower = feed.NewFollower(feed.Options{Store: db, Node: "n", Solo: true, Learner: r.Engine, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	r.Follow(r.follower, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	var runner sync.WaitGroup
	runner.Go(func() { committer.Run(ctx, time.Minute) })
	t.Cleanup(func() {
		cancel()
		runner.Wait()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	r.change(t, func(tx store.Tx) error {
		return errors.Join(
			tx.CreateWorkspace(t.Context(), &tollkey.Workspace{ID: ws, Name: "w", Slug: "w", Enabled: true, RequestsPerMinute: -1, CreatedAt: tx.Now()}),
			tx.CreateAPI(t.Context(), &tollkey.API{ID: "api_1", Workspace: ws, Name: "a", CreatedAt: tx.Now()}),
			tx.CreateAPI(t.Context(), &tollkey.API{ID: "api_ip", Workspace: ws, Name: "a", CreatedAt: tx.Now(), IPAllowList: []string{"10.0.0.0/8", "2001:db8::1"}}))
	})
	if err := r.follower.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.LoadFilter(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// change commits and confirms.
func (r *rig) change(t testing.TB, fn func(store.Tx) error) {
	t.Helper()
	n, err := r.db.Update(context.Background(), time.UnixMilli(r.clock.Load()), fn)
	if err != nil {
		t.Fatal(err)
	}
	if p := r.follower.Confirm(context.Background(), n); n > 0 && !p.Confirmed {
		t.Fatalf("not confirmed: %+v", p)
	}
}

func (r *rig) create(t testing.TB, secret string, edit func(*tollkey.Key)) {
	t.Helper()
	k := &tollkey.Key{ID: tollkey.KeyID("key_" + secret), Workspace: ws, API: "api_1", Digest: digestOf(secret), Start: "s", Enabled: true, CreatedAt: time.UnixMilli(r.clock.Load())}
	if edit != nil {
		edit(k)
	}
	r.change(t, func(tx store.Tx) error {
		tx.Announce(store.Announcement{Digests: []tollkey.Digest{k.Digest}, Keys: []tollkey.KeyID{k.ID}})
		return tx.CreateKeys(t.Context(), []*tollkey.Key{k})
	})
}

// createHolder makes the key k with the permission "direct" and the role "Role", which holds "through.role".
func (r *rig) createHolder(t testing.TB) {
	t.Helper()
	var held []tollkey.Permission // "direct", "through.role"
	r.change(t, func(tx store.Tx) (err error) {
		if held, _, err = tx.PutPermissions(t.Context(), ws, []string{"direct", "through.role"}); err != nil {
			return err
		}
		return tx.CreateRole(t.Context(), ws, &tollkey.Role{ID: "role_1", Name: "Role", Permissions: held[1:]})
	})
	r.create(t, "k", func(k *tollkey.Key) { k.Permissions, k.Roles = held[:1], []tollkey.Role{{ID: "role_1"}} })
}

func (r *rig) ask(t testing.TB, q Question) Verification {
	t.Helper()
	v, err := r.Verify(context.Background(), r.caller, &q)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func credits(n int64) func(*tollkey.Key) {
	return func(k *tollkey.Key) { k.Credits.Remaining = &n }
}

func TestOutcomesInOrder(t *testing.T) {
	r := newRig(t)
	r.create(t, "plain", nil)
	r.create(t, "disabled", func(k *tollkey.Key) { k.Enabled, k.Expires = false, time.UnixMilli(1) })
	r.create(t, "expired", func(k *tollkey.Key) { k.Expires, k.API = time.UnixMilli(1), "api_ip" })
	r.create(t, "address", func(k *tollkey.Key) { k.API = "api_ip" })
	r.create(t, "broke", credits(5))
	ten := []tollkey.RateLimit{{ID: "rl_1", Name: "r", Limit: 1, Duration: time.Hour, AutoApply: true}}
	r.create(t, "limited", func(k *tollkey.Key) { k.RateLimits = ten })
	here := netip.MustParseAddr("192.0.2.1")
	for _, c := range []struct {
		q    Question
		want tollkey.Outcome
	}{
		{Question{Secret: "invented"}, tollkey.OutcomeNotFound},
		{Question{Secret: "plain"}, tollkey.OutcomeValid},
		{Question{Secret: "disabled", Permissions: "x"}, tollkey.OutcomeDisabled},
		{Question{Secret: "expired", ClientIP: here}, tollkey.OutcomeExpired},
		{Question{Secret: "address", ClientIP: here, Permissions: "x"}, tollkey.OutcomeForbidden},
		{Question{Secret: "address", ClientIP: netip.MustParseAddr("::ffff:10.1.2.3")}, tollkey.OutcomeValid},
		{Question{Secret: "address", ClientIP: netip.MustParseAddr("2001:db8::1")}, tollkey.OutcomeValid},
		{Question{Secret: "plain", Permissions: "x"}, tollkey.OutcomeInsufficientPermissions},
		{Question{Secret: "broke", Cost: 15}, tollkey.OutcomeUsageExceeded},
		{Question{Secret: "broke", Cost: 5}, tollkey.OutcomeValid},
		{Question{Secret: "broke", Cost: 0}, tollkey.OutcomeValid},
		{Question{Secret: "limited"}, tollkey.OutcomeValid},
		{Question{Secret: "limited"}, tollkey.OutcomeRateLimited},
	} {
		if v := r.ask(t, c.q); v.Outcome != c.want {
			t.Errorf("%+v: %s, want %s", c.q, v.Outcome, c.want)
		}
	}
	stranger := &tollkey.Principal{Workspace: "ws_2", Permissions: r.caller.Permissions}
	nobody := &tollkey.Principal{Workspace: ws}
	for _, p := range []*tollkey.Principal{stranger, nobody} {
		if v, err := r.Verify(t.Context(), p, &Question{Secret: "plain", Permissions: "@"}); err != nil || v.Outcome != tollkey.OutcomeNotFound {
			t.Errorf("%v %v", v.Outcome, err)
		}
	}
	if _, err := r.Verify(t.Context(), r.caller, &Question{Secret: "disabled", Permissions: "a AND"}); !tollkey.IsReason(err, tollkey.ReasonPermissionQuerySyntax) {
		t.Errorf("syntax: %v", err)
	}
	if _, err := r.Verify(t.Context(), r.caller, &Question{Secret: "plain", RateLimits: []RateLimitQuestion{{Name: "nope", Cost: 1}}}); !tollkey.IsReason(err, tollkey.ReasonPrecondition) {
		t.Errorf("an unknown limit: %v", err)
	}
}

func TestRefusedSpendGivesLimitsBack(t *testing.T) {
	r := newRig(t)
	r.create(t, "k", func(k *tollkey.Key) {
		credits(1)(k)
		k.RateLimits = []tollkey.RateLimit{{ID: "rl_1", Name: "r", Limit: 2, Duration: time.Hour, AutoApply: true}}
	})
	if v := r.ask(t, Question{Secret: "k", Cost: 1}); v.Outcome != tollkey.OutcomeValid || v.Remaining != 0 || v.RateLimits[0].Remaining != 1 {
		t.Errorf("%+v", v)
	}
	for range 3 {
		if v := r.ask(t, Question{Secret: "k", Cost: 1}); v.Outcome != tollkey.OutcomeUsageExceeded {
			t.Errorf("%s", v.Outcome)
		}
	}
	if v := r.ask(t, Question{Secret: "k", Cost: 0}); v.Outcome != tollkey.OutcomeValid {
		t.Errorf("the refused spends kept their limit: %s", v.Outcome)
	}
}

func TestInventedKeysReadNothing(t *testing.T) {
	r := newRig(t)
	r.create(t, "k", nil)
	for i := range 20_000 {
		if v := r.ask(t, Question{Secret: fmt.Sprint("invented", i)}); v.Outcome != tollkey.OutcomeNotFound {
			t.Fatal(v.Outcome)
		}
	}
	if r.lookups > 200 {
		t.Errorf("20,000 invented keys caused %d reads", r.lookups)
	}
	r.recordFolded(t.Context())
	batches, err := r.db.Batches(t.Context(), 10)
	if err != nil || len(batches) != 1 {
		t.Fatal(len(batches), err)
	}
	if events, _ := ledger.Decode(batches[0].Data); len(events) != 1 || events[0].Count != 20_000 {
		t.Errorf("%+v", events)
	}
}

// TestFillIsNeverStale stops a fill between its read and its publication, applies each kind of change there, and asks again.
func TestFillIsNeverStale(t *testing.T) {
	off, past := false, time.UnixMilli(1)
	const none = ""
	for name, c := range map[string]struct {
		query  string
		change func(store.Tx) error
		want   tollkey.Outcome
	}{
		"permission deleted": {"direct", func(tx store.Tx) error {
			p, _, err := tx.DeletePermission(context.Background(), ws, "direct")
			tx.Announce(store.Announcement{Cells: []string{string(p.ID)}})
			return err
		}, tollkey.OutcomeInsufficientPermissions},
		"permission of a role deleted": {"through.role", func(tx store.Tx) error {
			_, roles, err := tx.DeletePermission(context.Background(), ws, "through.role")
			tx.Announce(store.Announcement{Cells: []string{string(roles[0])}})
			return err
		}, tollkey.OutcomeInsufficientPermissions},
		"permission taken from the role": {"through.role", func(tx store.Tx) error {
			role, err := tx.LockRole(context.Background(), ws, "role_1")
			tx.Announce(store.Announcement{Cells: []string{"role_1"}})
			return errors.Join(err, tx.ChangeRolePermissions(context.Background(), "role_1", nil, []tollkey.PermissionID{role.Permissions[0].ID}))
		}, tollkey.OutcomeInsufficientPermissions},
		"permission given to the role": {"later", func(tx store.Tx) error {
			later, _, err := tx.PutPermissions(context.Background(), ws, []string{"later"})
			tx.Announce(store.Announcement{Cells: []string{"role_1"}})
			return errors.Join(err, tx.ChangeRolePermissions(context.Background(), "role_1", []tollkey.PermissionID{later[0].ID}, nil))
		}, tollkey.OutcomeValid},
		"role deleted": {"through.role", func(tx store.Tx) error {
			_, err := tx.DeleteRole(context.Background(), ws, "Role")
			tx.Announce(store.Announcement{Cells: []string{"role_1"}})
			return err
		}, tollkey.OutcomeInsufficientPermissions},
		"permission taken from the key": {"direct", func(tx store.Tx) error {
			k, err := tx.LockKey(context.Background(), ws, "key_k")
			tx.Announce(store.Announcement{Cells: []string{"key_k"}})
			return errors.Join(err, tx.ChangeKeyLinks(context.Background(), ws, "key_k", store.KeyLinks{}, store.KeyLinks{Permissions: []tollkey.PermissionID{k.Permissions[0].ID}}))
		}, tollkey.OutcomeInsufficientPermissions},
		"key disabled": {none, func(tx store.Tx) error {
			tx.Announce(store.Announcement{Cells: []string{"key_k"}})
			return tx.UpdateKey(context.Background(), ws, "key_k", store.KeyUpdate{Enabled: &off})
		}, tollkey.OutcomeDisabled},
		"key expired": {none, func(tx store.Tx) error {
			tx.Announce(store.Announcement{Cells: []string{"key_k"}})
			return tx.UpdateKey(context.Background(), ws, "key_k", store.KeyUpdate{Expires: &past})
		}, tollkey.OutcomeExpired},
		"key deleted": {none, func(tx store.Tx) error {
			tx.Announce(store.Announcement{Cells: []string{"key_k"}})
			return tx.DeleteKey(context.Background(), ws, "key_k", true)
		}, tollkey.OutcomeNotFound},
		"API deleted": {none, func(tx store.Tx) error {
			tx.Announce(store.Announcement{Cells: []string{"api_1"}})
			return tx.DeleteAPI(context.Background(), ws, "api_1")
		}, tollkey.OutcomeNotFound},
		"everything flushed": {none, func(tx store.Tx) error {
			tx.Announce(store.Announcement{Flush: true})
			return tx.UpdateKey(context.Background(), ws, "key_k", store.KeyUpdate{Enabled: &off})
		}, tollkey.OutcomeDisabled},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.createHolder(t)
			r.between = func() { r.change(t, c.change) }
			r.ask(t, Question{Secret: "k", Permissions: c.query}) // asked before the change: any answer is right
			if v := r.ask(t, Question{Secret: "k", Permissions: c.query}); v.Outcome != c.want {
				t.Errorf("after the change: %s, want %s", v.Outcome, c.want)
			}
		})
	}
	t.Run("key created", func(t *testing.T) {
		r := newRig(t)
		r.known.ready.Store(false) // as before the filter is loaded: absence is cached
		r.between = func() { r.create(t, "k", nil) }
		r.ask(t, Question{Secret: "k"})
		if v := r.ask(t, Question{Secret: "k"}); v.Outcome != tollkey.OutcomeValid {
			t.Errorf("after the change: %s", v.Outcome)
		}
	})
}

func TestExactCredits(t *testing.T) {
	r := newRig(t)
	r.create(t, "k", credits(1000))
	r.create(t, "l", func(k *tollkey.Key) {
		k.RateLimits = []tollkey.RateLimit{{ID: "rl_1", Name: "r", Limit: 1000, Duration: time.Hour, AutoApply: true}}
	})
	for _, secret := range []string{"k", "l"} {
		var valid atomic.Int64
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				for range 20 {
					if v := r.ask(t, Question{Secret: secret, Cost: 1}); v.Outcome == tollkey.OutcomeValid {
						valid.Add(1)
					}
				}
			})
		}
		wg.Wait()
		if valid.Load() != 1000 {
			t.Errorf("%s: %d VALID, want 1000", secret, valid.Load())
		}
	}
}

func TestUnlimitedWhileAsked(t *testing.T) {
	r := newRig(t)
	r.create(t, "k", credits(3))
	r.ask(t, Question{Secret: "k", Cost: 1})
	none := (*int64)(nil)
	// Without an announcement the cached subject still believes in a balance; the ledger knows better.
	if _, err := r.db.Update(t.Context(), time.Now(), func(tx store.Tx) error {
		return tx.UpdateKey(t.Context(), ws, "key_k", store.KeyUpdate{Remaining: &none})
	}); err != nil {
		t.Fatal(err)
	}
	if v := r.ask(t, Question{Secret: "k", Cost: 100}); v.Outcome != tollkey.OutcomeValid {
		t.Errorf("%s", v.Outcome)
	}
}

// instant is a ledger that admits everything at once: the engine alone is measured.
type instant struct{}

func (instant) Commit(context.Context, ledger.Entry) (ledger.Result, error) {
	return ledger.Result{Admitted: true}, nil
}

func (instant) Balance(context.Context, tollkey.BalanceID) (int64, bool, error) { return 0, false, nil }

func BenchmarkVerifyEngineOnly(b *testing.B) {
	r := newRig(b)
	r.create(b, "k", nil)
	r.ledger = instant{}
	r.ask(b, Question{Secret: "k"})
	ctx, q := context.Background(), &Question{Secret: "k", Cost: 1}
	b.ReportAllocs()
	for b.Loop() {
		if v, err := r.Verify(ctx, r.caller, q); err != nil || v.Outcome != tollkey.OutcomeValid {
			b.Fatal(v.Outcome, err)
		}
	}
}
