package verify

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// admitted adds up what was admitted per counter and aligned window, as callers can see it: by what they asked, and by `reset`.
type admitted map[string]int64

func (a admitted) add(t *rapid.T, counter string, reset time.Time, duration time.Duration, cost, limit int64) {
	start := reset.Add(-duration).UnixMilli()
	if start%duration.Milliseconds() != 0 {
		t.Fatalf("the window of %s begins at %d", counter, start)
	}
	window := fmt.Sprint(counter, "@", start)
	if a[window] += cost; a[window] > limit {
		t.Fatalf("%s admitted %d of %d", window, a[window], limit)
	}
}

var windows = []time.Duration{time.Second, 7 * time.Second, time.Minute}

// TestMultiLimitSchedules asks several standalone limits at random: no window admits more than its limit, and what is refused takes nothing.
func TestMultiLimitSchedules(t *testing.T) {
	r := newRig(t)
	r.change(t, func(tx store.Tx) error {
		tx.Announce(store.Announcement{Cells: []string{store.NamespaceCell(ws, "a"), store.NamespaceCell(ws, "b")}})
		_, err := tx.PutNamespaces(context.Background(), ws, []string{"a", "b"})
		return err
	})
	p := &tollkey.Principal{Workspace: ws, Permissions: map[string]struct{}{"ratelimit.*.limit": {}}}
	limits := map[time.Duration]int64{windows[0]: 3, windows[1]: 10, windows[2]: 25}
	round := 0
	rapid.Check(t, func(t *rapid.T) {
		round++
		seen := admitted{}
		ask := func(questions []LimitQuestion) ([]LimitAnswer, bool) {
			answers, err := r.MultiLimit(context.Background(), p, questions)
			if err != nil {
				t.Fatal(err)
			}
			passed := true
			for _, a := range answers {
				passed = passed && !a.Exceeded
			}
			return answers, passed
		}
		for range rapid.IntRange(1, 40).Draw(t, "calls") {
			r.clock.Add(rapid.Int64Range(0, 4000).Draw(t, "step"))
			questions := make([]LimitQuestion, rapid.IntRange(1, 4).Draw(t, "items"))
			peeks := make([]LimitQuestion, len(questions))
			for i := range questions {
				d := rapid.SampledFrom(windows).Draw(t, "duration")
				questions[i] = LimitQuestion{
					Namespace: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "namespace"), Duration: d, Limit: limits[d],
					Identifier: fmt.Sprint(round, rapid.SampledFrom([]string{"x", "y"}).Draw(t, "identifier")), Cost: rapid.Int64Range(0, 6).Draw(t, "cost"),
				}
				peeks[i] = questions[i]
				peeks[i].Cost = 0
			}
			before, _ := ask(peeks)
			answers, passed := ask(questions)
			if !passed {
				after, _ := ask(peeks)
				for i := range peeks {
					if before[i] != after[i] {
						t.Fatalf("a refused call changed %+v from %+v to %+v", questions[i], before[i], after[i])
					}
				}
				continue
			}
			for i, q := range questions {
				seen.add(t, fmt.Sprint(q.Namespace, q.Identifier, q.Duration), answers[i].Reset, q.Duration, q.Cost, q.Limit)
			}
		}
	})
}

// TestVerificationSchedules does the same for keys that share the limits of their identity and have their own, and credits besides.
func TestVerificationSchedules(t *testing.T) {
	r := newRig(t)
	own := tollkey.RateLimit{ID: "rl_own", Name: "own", Limit: 4, Duration: windows[1], AutoApply: true}
	shared := tollkey.RateLimit{ID: "rl_all", Name: "all", Limit: 9, Duration: windows[2]}
	round := 0
	rapid.Check(t, func(t *rapid.T) {
		round++
		secrets := [2]string{fmt.Sprint("k", round, "a"), fmt.Sprint("k", round, "b")}
		r.changeIdentity(t, fmt.Sprint("user", round), shared, secrets[:], own)
		seen, spent := admitted{}, map[string]int64{}
		for range rapid.IntRange(1, 30).Draw(t, "calls") {
			r.clock.Add(rapid.Int64Range(0, 9000).Draw(t, "step"))
			secret := rapid.SampledFrom(secrets[:]).Draw(t, "key")
			q := Question{Secret: secret, Cost: rapid.Int64Range(0, 3).Draw(t, "credits")}
			costs := map[string]int64{"own": 1}
			for _, name := range []string{"own", "all", "inline"} {
				if rapid.Bool().Draw(t, name) {
					costs[name] = rapid.Int64Range(0, 3).Draw(t, "cost")
					q.RateLimits = append(q.RateLimits, RateLimitQuestion{Name: name, Cost: costs[name], Inline: name == "inline", Limit: 5, Duration: windows[0]})
				}
			}
			peek := q
			peek.Cost = 0
			peek.RateLimits = []RateLimitQuestion{{Name: "own"}, {Name: "all"}, {Name: "inline", Inline: true, Limit: 5, Duration: windows[0]}}
			before, err := r.Verify(context.Background(), r.caller, &peek)
			v, err2 := r.Verify(context.Background(), r.caller, &q)
			after, err3 := r.Verify(context.Background(), r.caller, &peek)
			if err := errors.Join(err, err2, err3); err != nil {
				t.Fatal(err)
			}
			if v.Outcome != tollkey.OutcomeValid {
				for i := range before.RateLimits {
					if before.RateLimits[i] != after.RateLimits[i] || before.Remaining != after.Remaining {
						t.Fatalf("%v changed %+v to %+v", v.Outcome, before, after)
					}
				}
				continue
			}
			if spent[secret] += q.Cost; v.Remaining != 20-spent[secret] {
				t.Fatalf("%d credits left after %d of 20", v.Remaining, spent[secret])
			}
			for _, l := range v.RateLimits {
				counter := secret + l.Name
				if l.Name == "all" {
					counter = "all"
				}
				seen.add(t, counter, l.Reset, l.Duration, costs[l.Name], l.Limit)
			}
		}
	})
}

// changeIdentity makes a customer with a limit that its keys share.
func (r *rig) changeIdentity(t *rapid.T, externalID string, shared tollkey.RateLimit, secrets []string, own tollkey.RateLimit) {
	n, err := r.db.Update(context.Background(), time.UnixMilli(r.clock.Load()), func(tx store.Tx) error {
		owner := tollkey.IdentityID("id_" + externalID)
		shared.ID = tollkey.RateLimitID("rl_" + externalID)
		i := &tollkey.Identity{ID: owner, Workspace: ws, ExternalID: externalID, RateLimits: []tollkey.RateLimit{shared}, CreatedAt: tx.Now()}
		if err := tx.CreateIdentity(context.Background(), i); err != nil {
			return err
		}
		remaining := int64(20)
		for _, secret := range secrets {
			own.ID = tollkey.RateLimitID("rl_" + secret)
			k := &tollkey.Key{
				ID: tollkey.KeyID("key_" + secret), Workspace: ws, API: "api_1", Digest: digestOf(secret), Enabled: true, CreatedAt: tx.Now(),
				Identity: &tollkey.Identity{ID: owner}, RateLimits: []tollkey.RateLimit{own}, Credits: tollkey.Credits{Remaining: &remaining},
			}
			tx.Announce(store.Announcement{Digests: []tollkey.Digest{k.Digest}, Keys: []tollkey.KeyID{k.ID}})
			if err := tx.CreateKeys(context.Background(), []*tollkey.Key{k}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r.follower.Confirm(context.Background(), n)
}

// TestOverridesApplyAtOnce changes an override and asks right after.
func TestOverridesApplyAtOnce(t *testing.T) {
	r := newRig(t)
	p := &tollkey.Principal{Workspace: ws, Permissions: map[string]struct{}{"ratelimit.*.limit": {}}}
	ask := func() LimitAnswer {
		a, err := r.Limit(context.Background(), p, LimitQuestion{Namespace: "n", Identifier: "i", Limit: 5, Duration: time.Minute, Cost: 1})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	var unknown *UnknownNamespaces
	if _, err := r.Limit(context.Background(), p, LimitQuestion{Namespace: "n"}); !errors.As(err, &unknown) {
		t.Fatalf("%v", err)
	}
	var id tollkey.NamespaceID
	r.change(t, func(tx store.Tx) error {
		made, err := tx.PutNamespaces(context.Background(), ws, []string{"n"})
		if err == nil {
			id = made[0].ID
		}
		tx.Announce(store.Announcement{Cells: []string{store.NamespaceCell(ws, "n")}})
		return err
	})
	if a := ask(); a.Limit != 5 || a.Exceeded || a.Remaining != 4 {
		t.Errorf("%+v", a)
	}
	for _, most := range []int64{0, 9} {
		r.change(t, func(tx store.Tx) error {
			tx.Announce(store.Announcement{Cells: []string{string(id)}})
			_, err := tx.PutOverride(context.Background(), id, tollkey.Override{Identifier: "*", Limit: most, Duration: time.Minute})
			return err
		})
		if a := ask(); a.Limit != most || a.Exceeded != (most == 0) {
			t.Errorf("%+v", a)
		}
	}
	r.change(t, func(tx store.Tx) error {
		tx.Announce(store.Announcement{Cells: []string{string(id)}})
		return tx.DeleteNamespace(context.Background(), ws, id)
	})
	if _, err := r.Limit(context.Background(), p, LimitQuestion{Namespace: "n"}); !tollkey.IsReason(err, tollkey.ReasonNamespaceGone) {
		t.Errorf("%v", err)
	}
	if _, err := r.Limit(context.Background(), p, LimitQuestion{Namespace: string(id)}); !tollkey.IsReason(err, tollkey.ReasonNamespaceGone) {
		t.Errorf("%v", err)
	}
}

// BenchmarkLimit is the engine's part of ratelimit.limit, commit included.
func BenchmarkLimit(b *testing.B) {
	r := newRig(b)
	p := &tollkey.Principal{Workspace: ws, Permissions: map[string]struct{}{"ratelimit.*.limit": {}}}
	r.change(b, func(tx store.Tx) error {
		tx.Announce(store.Announcement{Cells: []string{store.NamespaceCell(ws, "n")}})
		_, err := tx.PutNamespaces(context.Background(), ws, []string{"n"})
		return err
	})
	q := LimitQuestion{Namespace: "n", Identifier: "i", Limit: 1 << 50, Duration: time.Hour, Cost: 1}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Limit(context.Background(), p, q); err != nil {
			b.Fatal(err)
		}
	}
}
