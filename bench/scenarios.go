package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	rootKey          = "tollkey-bench-root-key-0000" // the same in every run, so that a database can be used again
	plenty           = 1_000_000_000                 // more than a run can use up
	hourMillis       = 3_600_000
	setupConnections = 16
	setupWithin      = time.Minute
)

var connectionCounts = []int{1, 16, 64}

type scenario struct {
	name    string
	keys    int
	credits bool
	limit   bool
	// standalone asks ratelimit.limit instead, for so many identifiers in turn.
	standalone int
}

var scenarios = []scenario{
	{name: "one key", keys: 1},
	{name: "10,000 keys in turn", keys: 10_000},
	{name: "one key, limit", keys: 1, limit: true},
	{name: "one key, credits", keys: 1, credits: true},
	{name: "standalone limit", standalone: 10_000},
}

type key struct {
	ID     string `json:"keyId"`
	Secret string `json:"key"`
}

// bench runs all scenarios on one engine.
type bench struct {
	options
	engine engine
	binary string
	temp   string

	server *process
	api    string
	rows   []Row
}

// run fills rows, also when it fails. A wrong answer fails it at its end, anything else at once.
func (b *bench) run(ctx context.Context) error {
	env := append([]string{"TOLLKEY_ROOT_KEY=" + rootKey}, b.engine.env...)
	data := filepath.Join(b.temp, b.engine.name)
	var err error
	if b.server, err = start(ctx, b.temp, env, b.binary, "serve", "--listen", "127.0.0.1:0", "--data", data); err != nil {
		return err
	}
	defer b.server.stop()
	if b.api, err = b.createAPI(ctx); err != nil {
		return fmt.Errorf("creating an API: %w", err)
	}
	var failed error
	if b.wants(creatingKeys) {
		if err := b.creation(ctx); err != nil {
			failed = fmt.Errorf("%s: %w", creatingKeys, err)
		}
	}
	for _, s := range scenarios {
		if !b.wants(s.name) {
			continue
		}
		err := b.scenario(ctx, s)
		var w *wrongError
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", s.name, err))
		}
		if err != nil && !errors.As(err, &w) {
			if words := b.server.lastWords(); words != "" && ctx.Err() == nil {
				failed = fmt.Errorf("%w\nthe server wrote: %s", failed, words)
			}
			break
		}
	}
	return failed
}

func (b *bench) wants(scenario string) bool { return b.only == "" || b.only == scenario }

// wrongError tells that figures were measured but the server was not right.
type wrongError struct{ text string }

func (e *wrongError) Error() string { return e.text }

func (b *bench) createAPI(ctx context.Context) (string, error) {
	c, err := dial(ctx, b.server.address, setupWithin)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	var answer struct {
		ID string `json:"apiId"`
	}
	err = c.call(request(b.server.address, "apis.createApi", rootKey, map[string]any{"name": "bench"}), &answer)
	return answer.ID, err
}

// keys makes the scenario's keys, and verifies each once: what is measured is a server that has seen its keys. It returns one answer.
func (b *bench) keys(ctx context.Context, s scenario) (keys []key, requests [][]byte, answer []byte, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	body := map[string]any{"apiId": b.api}
	if s.credits {
		body["credits"] = map[string]any{"remaining": plenty}
	}
	if s.limit {
		body["ratelimits"] = []any{map[string]any{"name": "requests", "limit": plenty, "duration": hourMillis, "autoApply": true}}
	}
	create := request(b.server.address, "keys.createKey", rootKey, body)
	keys, requests = make([]key, s.keys), make([][]byte, s.keys)
	var next atomic.Int64
	var workers sync.WaitGroup
	work := func() error {
		c, err := dial(ctx, b.server.address, setupWithin)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		for i := next.Add(1) - 1; i < int64(s.keys); i = next.Add(1) - 1 {
			if err := c.call(create, &keys[i]); err != nil {
				return err
			}
			requests[i] = request(b.server.address, "keys.verifyKey", rootKey, map[string]any{"key": keys[i].Secret})
			status, body, err := c.do(requests[i])
			if err != nil {
				return err
			}
			if i == 0 {
				answer = fmt.Appendf(nil, "%s", body)
			}
			if status != 200 {
				return fmt.Errorf("the first verification: status %d: %s", status, body)
			}
		}
		return nil
	}
	for range min(setupConnections, s.keys) {
		workers.Go(func() {
			if err := work(); err != nil {
				cancel(err)
			}
		})
	}
	workers.Wait()
	return keys, requests, answer, context.Cause(ctx)
}

// creatingKeys is the name of a scenario of management calls, whose pace counts and not its ratio.
const creatingKeys = "creating keys"

// creation measures how fast keys are created.
func (b *bench) creation(ctx context.Context) error {
	const connections = 16
	requests := [][]byte{request(b.server.address, "keys.createKey", rootKey, map[string]any{"apiId": b.api})}
	c, err := dial(ctx, b.server.address, setupWithin)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_, body, err := c.do(requests[0])
	if err != nil {
		return err
	}
	yardstick, err := b.startBare(ctx, body)
	if err != nil {
		return err
	}
	defer yardstick.stop()
	row, seen, err := b.cell(ctx, yardstick, requests, newKey, connections)
	if err != nil {
		return err
	}
	row.Engine, row.Scenario, row.Goal, row.Met = b.engine.name, creatingKeys, 0, true
	b.rows = append(b.rows, *row)
	row.print(os.Stderr)
	if seen.wrong > 0 {
		return &wrongError{fmt.Sprintf("%d keys were not created, the first: %s", seen.wrong, seen.firstWrong)}
	}
	return nil
}

// scenario measures one scenario at every number of connections.
func (b *bench) scenario(ctx context.Context, s scenario) error {
	setup, want := b.keys, validCode
	if s.standalone > 0 {
		setup, want = b.identifiers, passed
	}
	keys, requests, answer, err := setup(ctx, s)
	if err != nil {
		return fmt.Errorf("setup: %w", err)
	}
	yardstick, err := b.startBare(ctx, answer)
	if err != nil {
		return err
	}
	defer yardstick.stop()
	valid, wrong, firstWrong := int64(s.keys), int64(0), "" // the setup's verifications
	for _, n := range connectionCounts {
		row, seen, err := b.cell(ctx, yardstick, requests, want, n)
		if err != nil {
			return err
		}
		row.Engine, row.Scenario = b.engine.name, s.name
		if s.standalone > 0 && n > 1 {
			row.aim(goalLimit)
		}
		b.rows = append(b.rows, *row)
		row.print(os.Stderr)
		valid += seen.valid
		if wrong += seen.wrong; firstWrong == "" {
			firstWrong = seen.firstWrong
		}
	}
	if wrong > 0 {
		return &wrongError{fmt.Sprintf("%d answers were not 200 and VALID, the first: %s", wrong, firstWrong)}
	}
	if s.credits {
		return b.checkCredits(ctx, keys[0], valid)
	}
	return nil
}

// identifiers makes the questions of a standalone limit.
func (b *bench) identifiers(ctx context.Context, s scenario) (_ []key, requests [][]byte, answer []byte, err error) {
	requests = make([][]byte, s.standalone)
	for i := range requests {
		requests[i] = request(b.server.address, "ratelimit.limit", rootKey, map[string]any{
			"namespace": "bench", "identifier": fmt.Sprintf("user_%06d", i), "limit": plenty, "duration": hourMillis,
		})
	}
	c, err := dial(ctx, b.server.address, setupWithin)
	if err != nil {
		return nil, nil, nil, err
	}
	defer func() { _ = c.Close() }()
	status, body, err := c.do(requests[0])
	if err == nil && status != 200 {
		err = fmt.Errorf("status %d: %s", status, body)
	}
	return nil, requests, fmt.Appendf(nil, "%s", body), err
}

func (b *bench) startBare(ctx context.Context, answer []byte) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(b.temp, "answer.json")
	if err := os.WriteFile(file, answer, 0o600); err != nil {
		return nil, err
	}
	return start(ctx, b.temp, nil, self, "bare", file)
}

// cell measures the bare handler for half the time, Tollkey, and the bare handler again, so that a machine that gets slower or faster
// meanwhile weighs on both alike. It returns what Tollkey's load has seen besides.
func (b *bench) cell(ctx context.Context, yardstick *process, requests [][]byte, want []byte, connections int) (*Row, *sample, error) {
	half := &load{
		address: yardstick.address, requests: requests, connections: connections, warmup: b.warmup / 2, window: b.window / 2, want: want,
		cpu: func() (time.Duration, error) { return cpuOf(yardstick.pid) },
	}
	whole := &load{address: b.server.address, requests: requests, connections: connections, warmup: b.warmup, window: b.window, want: want, cpu: b.cpu}
	plain, err := half.run(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("the bare handler: %w", err)
	}
	first := plain.cpuMicros()
	before, err := b.cpu()
	if err != nil {
		return nil, nil, err
	}
	ours, err := whole.run(ctx)
	if err != nil {
		return nil, nil, err
	}
	again, err := half.run(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("the bare handler: %w", err)
	}
	after, err := b.cpu()
	if err != nil {
		return nil, nil, err
	}
	second := again.cpuMicros()
	plain.add(again)
	if plain.wrong > 0 {
		return nil, nil, fmt.Errorf("the bare handler: %s", plain.firstWrong)
	}
	row := newRow(connections, ours, plain)
	row.BareCPUBefore, row.BareCPUAfter = first, second
	row.CPUAllIn = float64((after - before).Nanoseconds()) / 1000 / float64(ours.valid+ours.wrong)
	return row, ours, nil
}

// cpu is the CPU time of all server processes.
func (b *bench) cpu() (time.Duration, error) {
	own, err := cpuOf(b.server.pid)
	if err != nil || b.engine.postmaster == 0 {
		return own, err
	}
	postgres, err := cpuOfTree(b.engine.postmaster)
	return own + postgres, err
}

// checkCredits compares the books with what was answered. No request is in flight any more, so they must agree exactly.
func (b *bench) checkCredits(ctx context.Context, k key, valid int64) error {
	c, err := dial(ctx, b.server.address, setupWithin)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	var answer struct {
		Credits struct {
			Remaining int64 `json:"remaining"`
		} `json:"credits"`
	}
	if err := c.call(request(b.server.address, "keys.getKey", rootKey, map[string]any{"keyId": k.ID}), &answer); err != nil {
		return err
	}
	if want := plenty - valid; answer.Credits.Remaining != want {
		return &wrongError{fmt.Sprintf("%d credits remain after %d VALID answers, want %d", answer.Credits.Remaining, valid, want)}
	}
	return nil
}
