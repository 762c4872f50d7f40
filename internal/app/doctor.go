package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tollkey/tollkey/internal/control"
	"github.com/tollkey/tollkey/internal/ledger"
	"github.com/tollkey/tollkey/internal/sqlstore"
	"github.com/tollkey/tollkey/internal/vault"
)

// Level is how well a Check went.
type Level string

// The levels: warn wants to be looked at, fail wants to be repaired.
const (
	OK   Level = "ok"
	Warn Level = "warn"
	Fail Level = "fail"
)

// Check is what Doctor found about one thing.
type Check struct {
	Level      Level
	Name, Says string
}

// What Doctor finds to be too much or too little.
const (
	silentAfter = 4 * time.Second // the others call a node dead then
	clockWarn   = 100 * time.Millisecond
	clockFail   = time.Second
	lagWarn     = 30 * time.Second
	lagFail     = 10 * time.Minute
	diskWarn    = 1 << 30
	diskFail    = 100 << 20
)

// Doctor looks at everything that a server needs, beside a running one or without. It changes nothing.
func Doctor(ctx context.Context, c Config) []Check {
	d := &doctor{now: time.Now}
	if c.DatabaseURL == "" {
		d.directory(c.Data)
	}
	v, err := sqlstore.OpenView(ctx, sqlstore.Options{Dir: c.Data, URL: c.DatabaseURL})
	if err != nil {
		d.add(Fail, "store", "cannot be reached: %v", err)
		return d.checks
	}
	d.add(OK, "store", "is reached")
	if d.schema(ctx, v) { // what follows needs its tables
		if c.DatabaseURL == "" {
			d.integrity(ctx, v)
		} else {
			d.settings(ctx, v)
		}
		d.agreement(ctx, v)
		d.masterKeys(ctx, v, c.MasterKeys)
		d.clock(ctx, v)
		d.roller(ctx, v, d.nodes(ctx, v))
	}
	if err := v.Close(); err != nil {
		d.add(Warn, "store", "closing it: %v", err)
	}
	return d.checks
}

type doctor struct {
	now    func() time.Time
	checks []Check
}

func (d *doctor) add(level Level, name, says string, args ...any) {
	d.checks = append(d.checks, Check{level, name, fmt.Sprintf(says, args...)})
}

// directory looks at who may read the data directory, and at the room on its disk.
func (d *doctor) directory(dir string) {
	for _, at := range []struct {
		path  string
		level Level
	}{{dir, Warn}, {filepath.Join(dir, "root-key"), Fail}} {
		path := at.path
		info, err := os.Stat(path)
		switch name := "mode of " + path; {
		case errors.Is(err, fs.ErrNotExist) && path != dir: // the key is elsewhere
		case err != nil:
			d.add(Fail, name, "%v", err)
		case info.Mode()&0o077 != 0:
			d.add(at.level, name, "is %v: others can read it; chmod go= %s", info.Mode().Perm(), path)
		default:
			d.add(OK, name, "is %v", info.Mode().Perm())
		}
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(dir, &disk); err != nil {
		d.add(Fail, "disk", "%v", err)
		return
	}
	free, level := int64(disk.Bavail)*int64(disk.Bsize), OK //nolint:gosec // no disk has 2^63 bytes
	switch {
	case free < diskFail:
		level = Fail
	case free < diskWarn:
		level = Warn
	}
	d.add(level, "disk", "%d MiB are free", free>>20)
}

// schema reports whether the rest can be looked at.
func (d *doctor) schema(ctx context.Context, v *sqlstore.View) bool {
	versions, err := v.Versions(ctx)
	if err != nil {
		d.add(Fail, "schema", "%v", err)
		return false
	}
	current := true
	for _, s := range versions {
		name := "schema " + s.Schema
		switch {
		case s.Stored > s.Newest:
			d.add(Fail, name, "has version %d, newer than this program's %d", s.Stored, s.Newest)
		case s.Stored < s.Newest:
			d.add(Warn, name, "has version %d; the next start, or `tollkey migrate`, makes it %d", s.Stored, s.Newest)
		default:
			d.add(OK, name, "has version %d", s.Stored)
		}
		current = current && s.Stored == s.Newest
	}
	return current
}

func (d *doctor) integrity(ctx context.Context, v *sqlstore.View) {
	if err := v.Check(ctx, false); err != nil {
		d.add(Fail, "integrity", "%v", err)
		return
	}
	d.add(OK, "integrity", "no damage is found in either file")
}

func (d *doctor) agreement(ctx context.Context, v *sqlstore.View) {
	if err := v.Agree(ctx); err != nil {
		d.add(Fail, "books", "%v", err)
		return
	}
	d.add(OK, "books", "ledger and usage agree")
}

func (d *doctor) masterKeys(ctx context.Context, v *sqlstore.View, keys []vault.MasterKey) {
	if err := control.CheckDataKeys(ctx, v, vault.New(keys)); err != nil {
		d.add(Fail, "master keys", "%v", err)
		return
	}
	d.add(OK, "master keys", "open every data key of recoverable keys")
}

// settings looks at those of PostgreSQL on which promises rest.
func (d *doctor) settings(ctx context.Context, v *sqlstore.View) {
	const needed = 30 // 20 for a node, and the same again for whoever maintains it
	for _, s := range []struct {
		name  string
		check func(string) (Level, string)
	}{
		{"server_version", func(string) (Level, string) { return OK, "" }},
		{"fsync", isOn(Fail, "a crash of the machine can damage the whole database")},
		{"full_page_writes", isOn(Fail, "a crash of the machine can damage the whole database")},
		{"synchronous_commit", isOn(Warn, "a crash of the database can lose the last answered verifications and changes")},
		{"max_connections", func(v string) (Level, string) {
			if n, err := strconv.Atoi(v); err != nil || n < needed {
				return Warn, "a node uses up to 21 connections"
			}
			return OK, ""
		}},
	} {
		value, err := v.Setting(ctx, s.name)
		if err != nil {
			d.add(Fail, s.name, "%v", err)
			continue
		}
		level, why := s.check(value)
		d.add(level, s.name, "%s", strings.TrimSuffix("is "+value+": "+why, ": "))
	}
}

func isOn(otherwise Level, why string) func(string) (Level, string) {
	return func(value string) (Level, string) {
		if value == "off" { // what else synchronous_commit can be is as durable or more
			return otherwise, why
		}
		return OK, ""
	}
}

// clock compares the engine's with this machine's. An answer is taken to be from the middle of the question's way, and the shortest way counts.
func (d *doctor) clock(ctx context.Context, v *sqlstore.View) {
	const questions = 5
	var off time.Duration
	shortest := time.Hour
	for range questions {
		before := d.now()
		millis, err := v.Clock(ctx)
		way := d.now().Sub(before)
		if err != nil {
			d.add(Fail, "clock", "%v", err)
			return
		}
		if way < shortest {
			shortest, off = way, time.UnixMilli(millis).Sub(before.Add(way/2)).Abs().Round(time.Millisecond)
		}
	}
	level := OK
	switch {
	case off > clockFail:
		level = Fail
	case off > clockWarn:
		level = Warn
	}
	d.add(level, "clock", "differs from the store's by %v", off)
}

// nodes reports whether a server is at work.
func (d *doctor) nodes(ctx context.Context, v *sqlstore.View) (serving bool) {
	nodes, err := v.Nodes(ctx)
	if err != nil {
		d.add(Fail, "nodes", "%v", err)
		return false
	}
	live, silent, ahead := 0, 0, false
	for _, n := range nodes {
		if n.Age < silentAfter {
			live++
		} else {
			silent++
		}
		ahead = ahead || n.Age < -clockFail
	}
	says := fmt.Sprintf("%d at work, %d gone without a word within the last hour", live, silent)
	if ahead {
		d.add(Warn, "nodes", "%s; one was seen in the future: the clock went back", says)
	} else {
		d.add(OK, "nodes", "%s", says)
	}
	return live > 0
}

// roller looks at whether usage is added up in time.
func (d *doctor) roller(ctx context.Context, v *sqlstore.View, serving bool) {
	holder, err := v.Holder(ctx, "roller")
	if err != nil {
		d.add(Fail, "roller", "%v", err)
		return
	}
	now := d.now()
	oldest := now
	n, err := v.Backlog(ctx, func(b ledger.Batch) error {
		events, err := ledger.Decode(b.Data)
		for i := range events {
			if events[i].Time.Before(oldest) {
				oldest = events[i].Time
			}
		}
		return err
	})
	if err != nil {
		d.add(Fail, "roller", "%v", err)
		return
	}
	lag, level := now.Sub(oldest).Round(time.Millisecond), OK
	says := fmt.Sprintf("%d batches wait, the oldest for %v", n, lag)
	switch {
	case !serving:
		says += "; no server is at work"
	case holder == "":
		level, says = Warn, says+"; no node holds its lease"
	case lag > lagFail:
		level = Fail
	case lag > lagWarn:
		level = Warn
	}
	d.add(level, "roller", "%s", says)
}
