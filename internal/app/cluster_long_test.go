//go:build long

package app

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tollkey/tollkey/internal/conformance"
)

// TestLongExactCredits spends the credits of the same keys through all processes at once: not one credit too many or too few, and usage says
// the same.
func TestLongExactCredits(t *testing.T) {
	for name, start := range deployments {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			nodes := start(t)
			api := nodes[0].newAPI(t)
			want := map[string]used{}
			oneBalance(t, nodes, api, want)
			twoBalances(t, nodes, api, want)
			nodes[0].expectUsage(t, began, want)
			stop(t, nodes...)
		})
	}
}

const spenders = 64

// oneBalance has many clients empty one key.
func oneBalance(t *testing.T, nodes []*process, api string, want map[string]used) {
	const credits = 10_000
	client := newClient(t)
	id, secret := nodes[0].newKey(t, api, fmt.Sprintf(`,"credits":{"remaining":%d}`, credits))
	var valid, refused atomic.Int64
	var empty atomic.Bool           // somebody was told that nothing is left
	var after [credits]atomic.Int32 // how many were told that so much is left
	var byNode [3]atomic.Int64
	start := time.Now()
	var wg sync.WaitGroup
	for i := range spenders {
		wg.Go(func() {
			for mine := 0; mine < 5 && !t.Failed(); {
				wasEmpty := empty.Load()
				v, err := nodes[i%len(nodes)].verify(client, secret, "")
				switch {
				case err != nil:
					t.Error(err)
				case v.Code == "USAGE_EXCEEDED" && v.Credits == 0:
					empty.Store(true)
					refused.Add(1)
					mine++
				case v.Code != "VALID" || v.Credits < 0 || v.Credits >= credits || wasEmpty:
					t.Errorf("node %d: %+v; the key was empty before: %v", i%len(nodes), v, wasEmpty)
				default:
					valid.Add(1)
					byNode[i%len(nodes)].Add(1)
					after[v.Credits].Add(1)
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	for left := range after {
		if n := after[left].Load(); n != 1 {
			t.Errorf("%d answers say that %d credits are left", n, left)
			break
		}
	}
	if left := nodes[len(nodes)-1].remaining(t, id); valid.Load() != credits || left != 0 {
		t.Errorf("%d VALID of %d credits, %d left", valid.Load(), credits, left)
	}
	want[id] = used{valid.Load(), valid.Load()}
	t.Logf("one key: %d VALID (%d, %d, %d by node), %d USAGE_EXCEEDED, %.0f a second", valid.Load(), byNode[0].Load(), byNode[1].Load(), byNode[2].Load(),
		refused.Load(), float64(valid.Load()+refused.Load())/took.Seconds())
}

// twoBalances mixes costs over two keys, of which the first runs empty with costs that do not fit exactly.
func twoBalances(t *testing.T, nodes []*process, api string, want map[string]used) {
	client := newClient(t)
	first := [2]int64{4001, 50_000}
	var ids, secrets [2]string
	var spent, count, over [2]atomic.Int64
	var wg sync.WaitGroup
	for k := range ids {
		ids[k], secrets[k] = nodes[k%len(nodes)].newKey(t, api, fmt.Sprintf(`,"credits":{"remaining":%d}`, first[k]))
	}
	for i := range spenders {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			for range 100 {
				n, k, cost := rng.IntN(len(nodes)), rng.IntN(2), []int64{1, 2, 5}[rng.IntN(3)]
				v, err := nodes[n].verify(client, secrets[k], fmt.Sprintf(`,"credits":{"cost":%d}`, cost))
				switch {
				case err != nil:
					t.Error(err)
					return
				case v.Code == "VALID" && v.Credits >= 0 && v.Credits <= first[k]-cost:
					spent[k].Add(cost)
					count[k].Add(1)
				case v.Code == "USAGE_EXCEEDED" && v.Credits >= 0 && v.Credits < cost:
					over[k].Add(1)
				default:
					t.Errorf("cost %d: %+v", cost, v)
					return
				}
			}
		})
	}
	wg.Wait()
	for k := range ids {
		left := nodes[len(nodes)-1].remaining(t, ids[k])
		if spent[k].Load()+left != first[k] {
			t.Errorf("key %d: %d spent and %d left of %d", k, spent[k].Load(), left, first[k])
		}
		want[ids[k]] = used{count[k].Load(), spent[k].Load()}
		t.Logf("mixed costs: %d credits in %d VALID, %d refused, %d left of %d", spent[k].Load(), count[k].Load(), over[k].Load(), left, first[k])
	}
	if over[0].Load() == 0 || over[1].Load() != 0 {
		t.Errorf("refused: %d and %d; only the first key was to run empty", over[0].Load(), over[1].Load())
	}
}

// TestLongNeverStale changes keys through random nodes while all are read through all nodes: after a change is confirmed, no node may answer from
// before it, on one process and on three. TOLLKEY_TEST_SEED repeats a schedule.
func TestLongNeverStale(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("TOLLKEY_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("TOLLKEY_TEST_SEED=%d", seed)
	for name, start := range deployments {
		t.Run(name, func(t *testing.T) { neverStale(t, start(t), seed) })
	}
}

func neverStale(t *testing.T, nodes []*process, seed uint64) {
	const workers, each, atLeast = 8, 60, 300
	api := nodes[0].newAPI(t)
	client := newClient(t)
	var total tally
	var owners, readers sync.WaitGroup
	done := make(chan struct{})
	deadline := time.Now().Add(3 * time.Minute)
	for i := range workers {
		o := &owner{t: t, nodes: nodes, client: client, api: api, number: i, rng: rand.New(rand.NewPCG(seed, uint64(i))), tally: &total}
		o.create()
		readers.Go(func() { o.read(done, rand.New(rand.NewPCG(seed, uint64(100+i)))) })
		owners.Go(func() {
			for n := 0; n < each && time.Now().Before(deadline) && !t.Failed(); n++ {
				o.step()
			}
		})
	}
	owners.Wait()
	close(done)
	readers.Wait()
	if n := total.changes.Load(); n < atLeast {
		t.Errorf("only %d changes were made", n)
	}
	if n := total.unconfirmed.Load(); n > total.confirmed.Load()/10 {
		t.Errorf("%d replies were not confirmed, %d were", n, total.confirmed.Load())
	}
	t.Logf("%d changes (%d switched, %d permissions, %d recreated, %d roles), %d replies confirmed, slowest %d ms; %d checks after and %d reads meanwhile",
		total.changes.Load(), total.kinds[0].Load(), total.kinds[1].Load(), total.kinds[2].Load(), total.kinds[3].Load(),
		total.confirmed.Load(), total.slowest.Load(), total.checks.Load(), total.reads.Load())
	stop(t, nodes...)
}

type tally struct {
	changes, confirmed, unconfirmed, slowest, checks, reads atomic.Int64
	kinds                                                   [4]atomic.Int64
}

// owner is the only one who changes its key.
type owner struct {
	t      *testing.T
	nodes  []*process
	client *http.Client
	api    string
	number int
	rng    *rand.Rand
	tally  *tally

	id     string
	now    keyState
	shown  atomic.Pointer[keyState] // the last that was confirmed
	doomed sync.Map                 // the secrets of the keys whose deletion has been sent
}

// keyState is what a verification must show.
type keyState struct {
	secret   string
	version  int // the key's name says it
	gone     bool
	disabled bool
	direct   []string
	role     string
	byRole   []string
}

func (s *keyState) effective() []string {
	all := slices.Concat(s.direct, s.byRole)
	slices.Sort(all)
	return slices.Compact(all)
}

// change posts through any node, and says whether the reply was a confirmation. On a machine with too much to do a node may be too late; it may
// not be stale then, but that nobody waits for.
func (o *owner) change(procedure, body string) (answer, bool) {
	n := o.rng.IntN(len(o.nodes))
	a, err := o.nodes[n].post(o.client, procedure, body)
	if err != nil {
		o.t.Errorf("node %d: %s %s: %v", n, procedure, body, err)
		return a, false
	}
	p := a.Meta.Propagation
	if !p.Confirmed {
		o.t.Logf("node %d: %s %s: %+v", n, procedure, body, p)
		o.tally.unconfirmed.Add(1)
		return a, false
	}
	o.tally.confirmed.Add(1)
	for old := o.tally.slowest.Load(); p.Milliseconds > old && !o.tally.slowest.CompareAndSwap(old, p.Milliseconds); {
		old = o.tally.slowest.Load()
	}
	return a, true
}

func (o *owner) create() {
	o.t.Helper()
	next := keyState{version: o.now.version + 1}
	a, ok := o.change("keys.createKey", fmt.Sprintf(`{"apiId":%q,"name":"v%d"}`, o.api, next.version))
	o.id, next.secret = textOf(a, "keyId"), textOf(a, "key")
	o.reached(next, ok)
}

// reached notes the state that a change has led to; when that is confirmed, every node must show it.
func (o *owner) reached(next keyState, confirmed bool) {
	if confirmed {
		o.confirm(next)
	}
	o.now = next
}

// confirm checks at once that every node shows the state.
func (o *owner) confirm(next keyState) {
	o.shown.Store(&next)
	asked := fmt.Sprintf("docs.%d", o.rng.IntN(6))
	want := "VALID"
	switch {
	case next.gone:
		want = "NOT_FOUND"
	case next.disabled:
		want = "DISABLED"
	case !slices.Contains(next.effective(), asked):
		want = "INSUFFICIENT_PERMISSIONS"
	}
	var all sync.WaitGroup
	for n := range o.nodes {
		all.Go(func() {
			o.tally.checks.Add(1)
			v, err := o.nodes[n].verify(o.client, next.secret, `,"permissions":"`+asked+`"`)
			roles := []string(nil)
			if next.role != "" {
				roles = []string{next.role}
			}
			same := v.Code == want && (next.gone ||
				v.Name == fmt.Sprintf("v%d", next.version) && slices.Equal(v.Permissions, next.effective()) && slices.Equal(v.Roles, roles))
			if err != nil || !same {
				o.t.Errorf("key %d at node %d, asked for %s: %+v %v, want %s of %+v", o.number, n, asked, v, err, want, next)
			}
		})
	}
	all.Wait()
}

// step makes one change.
func (o *owner) step() {
	next := o.now
	next.version++
	update := func(fields string) {
		_, ok := o.change("keys.updateKey", fmt.Sprintf(`{"keyId":%q,"name":"v%d",%s}`, o.id, next.version, fields))
		o.reached(next, ok)
	}
	some := func() (slugs []string) {
		for i := range 6 {
			if o.rng.IntN(2) == 0 {
				slugs = append(slugs, fmt.Sprintf("docs.%d", i))
			}
		}
		return slugs
	}
	kind := o.rng.IntN(4)
	switch kind {
	case 0:
		next.disabled = !next.disabled
		update(fmt.Sprintf(`"enabled":%v`, !next.disabled))
	case 1:
		next.direct = some()
		update(`"permissions":` + list(next.direct))
	case 2:
		o.doomed.Store(next.secret, true)
		_, ok := o.change("keys.deleteKey", fmt.Sprintf(`{"keyId":%q,"permanent":%v}`, o.id, o.rng.IntN(2) == 0))
		next.gone = true
		o.reached(next, ok)
		o.tally.changes.Add(1)
		o.create()
	case 3:
		next.role, next.byRole = fmt.Sprintf("role_%d_%d", o.number, next.version), some()
		o.change("permissions.createRole", fmt.Sprintf(`{"name":%q,"permissions":%s}`, next.role, list(next.byRole)))
		update(`"roles":["` + next.role + `"]`)
	}
	o.tally.kinds[kind].Add(1)
	o.tally.changes.Add(1)
}

// read verifies through any node until done: never may an answer be older than what was confirmed before the question.
func (o *owner) read(done <-chan struct{}, rng *rand.Rand) {
	for {
		select {
		case <-done:
			return
		default:
		}
		s := o.shown.Load()
		if s == nil {
			return // the creation failed
		}
		n := rng.IntN(len(o.nodes))
		v, err := o.nodes[n].verify(o.client, s.secret, "")
		o.tally.reads.Add(1)
		_, doomed := o.doomed.Load(s.secret)
		version, _ := strconv.Atoi(strings.TrimPrefix(v.Name, "v"))
		switch {
		case err != nil:
			o.t.Errorf("key %d at node %d: %v", o.number, n, err)
			return
		case s.gone && v.Code != "NOT_FOUND",
			v.Code == "NOT_FOUND" && !doomed,
			v.Code != "NOT_FOUND" && (version < s.version || version == s.version && (v.Code == "DISABLED") != s.disabled):
			o.t.Errorf("key %d at node %d: %+v, after %+v was confirmed", o.number, n, v, *s)
			return
		}
	}
}

func list(words []string) string {
	if len(words) == 0 {
		return "[]"
	}
	return `["` + strings.Join(words, `","`) + `"]`
}

func textOf(a answer, field string) string {
	_, rest, _ := strings.Cut(string(a.Data), `"`+field+`":"`)
	text, _, _ := strings.Cut(rest, `"`)
	return text
}

// TestLongStoppedProcess freezes a process while keys that it has cached are revoked through the others. When it wakes, it must know.
func TestLongStoppedProcess(t *testing.T) {
	nodes := launchAll(t, 3, conformance.Postgres(t))
	api := nodes[0].newAPI(t)
	for _, c := range []struct {
		name   string
		frozen time.Duration // at least
		early  bool          // it wakes before the replies are there
	}{
		{"ten seconds", 10 * time.Second, false},
		{"woken by the confirmation", 0, false},
		{"woken while it is waited for", 2 * time.Second, true},
	} {
		t.Run(c.name, func(t *testing.T) { freeze(t, nodes, api, c.frozen, c.early) })
	}
	stop(t, nodes...)
}

// revoked is one key of the test, and whether a reply has said that no node takes it any more.
type revoked struct {
	id, secret string
	confirmed  atomic.Bool
}

func freeze(t *testing.T, nodes []*process, api string, frozen time.Duration, early bool) {
	const count, hammers = 24, 32
	victim, others := nodes[0], nodes[1:]
	old, fresh := newClient(t), newClient(t)
	keys := make([]*revoked, count)
	for i := range keys {
		keys[i] = &revoked{}
		keys[i].id, keys[i].secret = others[0].newKey(t, api, "")
	}
	_, control := others[0].newKey(t, api, "")
	var warm sync.WaitGroup
	for i := range 3 * count { // three times, so that the last is from the cache, and over as many connections as there are keys
		warm.Go(func() {
			if v, err := victim.verify(old, keys[i%count].secret, ""); err != nil || v.Code != "VALID" {
				t.Errorf("before: %+v %v", v, err)
			}
		})
	}
	warm.Wait()

	var total outcomes
	var waiting, hammering, revoking sync.WaitGroup
	ask := func(c *http.Client, k *revoked, o *outcomes) {
		knew := k.confirmed.Load()
		r, err := http.NewRequest(http.MethodPost, "http://"+victim.address+"/v2/keys.verifyKey", strings.NewReader(`{"key":"`+k.secret+`"}`))
		if err != nil {
			t.Error(err)
			return
		}
		reused := false
		r = r.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }}))
		var a answer
		err = send(c, r, &a)
		code := textOf(a, "code")
		if code == "VALID" && (knew || !early) {
			t.Errorf("the process that was frozen says VALID for a revoked key (confirmed before the question: %v, on an old connection: %v)", knew, reused)
		}
		o.add(code, reused, err)
	}
	victim.signal(t, syscall.SIGSTOP)
	slept := time.Now()
	asleep := true
	wake := func() {
		if asleep {
			asleep = false
			victim.signal(t, syscall.SIGCONT)
		}
	}
	defer wake()
	time.Sleep(20 * time.Millisecond)
	for _, k := range keys {
		waiting.Go(func() { ask(old, k, &total) })
		waiting.Go(func() { ask(fresh, k, &total) })
	}
	var slowest, fastest, unconfirmed atomic.Int64
	fastest.Store(int64(time.Hour))
	for i, k := range keys {
		revoking.Go(func() {
			procedure, body := "keys.updateKey", `{"keyId":"`+k.id+`","enabled":false}`
			if i%2 == 0 {
				procedure, body = "keys.deleteKey", `{"keyId":"`+k.id+`"}`
			}
			start := time.Now()
			a, err := others[i%len(others)].post(fresh, procedure, body)
			took := time.Since(start)
			for old := slowest.Load(); int64(took) > old && !slowest.CompareAndSwap(old, int64(took)); {
				old = slowest.Load()
			}
			for old := fastest.Load(); int64(took) < old && !fastest.CompareAndSwap(old, int64(took)); {
				old = fastest.Load()
			}
			p := a.Meta.Propagation
			switch {
			case err != nil:
				t.Error(err)
				return
			case took > 15*time.Second: // five, on a machine that has time
				t.Errorf("the reply took %v: %+v", took, p)
			case p.Confirmed:
				k.confirmed.Store(true)
			case len(p.Silent) == 1:
				unconfirmed.Add(1)
			default:
				t.Errorf("neither confirmed nor is the silent node named: %+v", p)
			}
			for _, n := range others {
				if v, err := n.verify(fresh, k.secret, ""); err != nil || v.Code != "DISABLED" && v.Code != "NOT_FOUND" {
					t.Errorf("a living node after the reply: %+v %v", v, err)
				}
			}
		})
	}
	hammer := func(o *outcomes) {
		start := time.Now()
		for i := range hammers {
			hammering.Go(func() {
				for n := i; n < i+10 || time.Since(start) < 1500*time.Millisecond; n++ {
					ask(fresh, keys[n%count], o)
				}
			})
		}
	}
	if early {
		time.Sleep(frozen - time.Since(slept))
	} else {
		revoking.Wait()
		time.Sleep(frozen - time.Since(slept))
	}
	for _, k := range keys { // these know that the key is revoked, and wait in the sockets too
		waiting.Go(func() { ask(old, k, &total) })
		waiting.Go(func() { ask(fresh, k, &total) })
	}
	time.Sleep(50 * time.Millisecond)
	asked := total.sum()
	var later outcomes
	wake()
	woken := time.Now()
	hammer(&later)
	if asked != 0 {
		t.Errorf("%d answers came from a process that was frozen", asked)
	}
	waiting.Wait()
	drained := time.Since(woken)
	hammering.Wait()
	revoking.Wait()
	if early { // now all are confirmed
		hammer(&later)
		hammering.Wait()
	}
	if v, err := victim.verify(fresh, control, ""); err != nil || v.Code != "VALID" {
		t.Errorf("a key that is not revoked, at the process that was frozen: %+v %v", v, err)
	}
	if n := later.refused.Load(); n < 100 || later.failed.Load() > 0 || total.failed.Load() > 0 || total.sum() < 2*count {
		t.Errorf("too little was answered: waiting %v, later %v", &total, &later)
	}
	t.Logf("frozen for %v; %d replies after %v to %v, %d of them unconfirmed; waiting requests, answered within %v: %v; later ones: %v",
		woken.Sub(slept).Round(time.Millisecond), count, time.Duration(fastest.Load()).Round(time.Millisecond),
		time.Duration(slowest.Load()).Round(time.Millisecond), unconfirmed.Load(), drained.Round(time.Millisecond), &total, &later)
}

// outcomes counts answers.
type outcomes struct {
	valid, refused, reused atomic.Int64
	lost                   atomic.Int64 // old connections that the server closed
	failed                 atomic.Int64
	mu                     sync.Mutex
	last                   error
}

func (o *outcomes) add(code string, reused bool, err error) {
	switch {
	case err != nil && reused:
		o.lost.Add(1)
	case err != nil:
		o.failed.Add(1)
		o.mu.Lock()
		o.last = err
		o.mu.Unlock()
	case code == "VALID":
		o.valid.Add(1)
	default:
		o.refused.Add(1)
	}
	if err == nil && reused {
		o.reused.Add(1)
	}
}

func (o *outcomes) sum() int64 { return o.valid.Load() + o.refused.Load() }

func (o *outcomes) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return fmt.Sprintf("%d VALID, %d refused (%d of all on old connections), %d lost with an old connection, %d failed (%v)",
		o.valid.Load(), o.refused.Load(), o.reused.Load(), o.lost.Load(), o.failed.Load(), o.last)
}
