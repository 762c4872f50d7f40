//go:build long

package app

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestLongPostgresRestart restarts PostgreSQL under load. What was answered VALID must have been spent, and little more.
func TestLongPostgresRestart(t *testing.T) {
	const clients, credits = 16, 10_000_000
	began := time.Now()
	url, restart := ownPostgres(t)
	nodes := launchAll(t, 2, url)
	api := nodes[0].newAPI(t)
	client := newClient(t)
	var ids, secrets [2]string
	for k := range ids {
		ids[k], secrets[k] = nodes[0].newKey(t, api, fmt.Sprintf(`,"credits":{"remaining":%d}`, credits))
	}
	var valid, failed [2]atomic.Int64
	var last atomic.Pointer[error]
	var wg sync.WaitGroup
	done := make(chan struct{})
	for i := range clients {
		wg.Go(func() {
			for k := i / 2 % 2; ; {
				select {
				case <-done:
					return
				default:
				}
				switch v, err := nodes[i%2].verify(client, secrets[k], ""); {
				case err != nil:
					failed[k].Add(1)
					last.Store(&err)
					time.Sleep(10 * time.Millisecond)
				case v.Code == "VALID":
					valid[k].Add(1)
				default:
					t.Errorf("%+v", v)
					return
				}
			}
		})
	}
	sum := func(n *[2]atomic.Int64) int64 { return n[0].Load() + n[1].Load() }
	// flows waits for more answers, and returns how long they took.
	flows := func(more int64) time.Duration {
		start := time.Now()
		for least := sum(&valid) + more; sum(&valid) < least; time.Sleep(5 * time.Millisecond) {
			if time.Since(start) > time.Minute {
				t.Errorf("no more than %d VALID after a minute", sum(&valid))
				break
			}
		}
		return time.Since(start)
	}
	flows(2000)
	for _, mode := range []string{"fast", "immediate", "fast", "immediate"} {
		before, errorsBefore := sum(&valid), sum(&failed)
		start := time.Now()
		restart(mode)
		took := time.Since(start)
		back := flows(clients + 1) // more than can have been answered before
		t.Logf("%s: restarted in %v, VALID again %v later; %d VALID before, %d requests without an answer", mode, took.Round(time.Millisecond),
			back.Round(time.Millisecond), before, sum(&failed)-errorsBefore)
		flows(2000)
	}
	close(done)
	wg.Wait()
	want := map[string]used{}
	for k := range ids {
		spent := credits - nodes[1].remaining(t, ids[k])
		if more := spent - valid[k].Load(); more < 0 || more > min(failed[k].Load(), 2*clients) { // half of the clients, in flight at four restarts
			t.Errorf("%d spent, %d answered VALID, %d without an answer", spent, valid[k].Load(), failed[k].Load())
		}
		want[ids[k]] = used{spent, spent}
		t.Logf("%d spent, %d VALID answered, %d requests without an answer", spent, valid[k].Load(), failed[k].Load())
	}
	if err := last.Load(); err != nil {
		t.Logf("an error, for example: %v", *err)
	}
	nodes[0].expectUsage(t, began, want)
	a, err := nodes[0].post(client, "keys.updateKey", `{"keyId":"`+ids[0]+`","enabled":false}`)
	if p := a.Meta.Propagation; err != nil || !p.Confirmed || p.Nodes != 2 {
		t.Errorf("a change after the restarts: %+v %v", p, err)
	}
	for _, n := range nodes {
		if v, err := n.verify(client, secrets[0], ""); err != nil || v.Code != "DISABLED" {
			t.Errorf("a key disabled after the restarts: %+v %v", v, err)
		}
	}
	stop(t, nodes...)
}

// ownPostgres starts a PostgreSQL that only this test uses, and may restart.
func ownPostgres(t *testing.T) (url string, restart func(mode string)) {
	t.Helper()
	bin := ""
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb"); len(found) > 0 {
		slices.SortFunc(found, func(a, b string) int { return majorOf(a) - majorOf(b) })
		bin = filepath.Dir(found[len(found)-1])
	} else if found, err := exec.LookPath("initdb"); err == nil {
		bin = filepath.Dir(found)
	} else {
		t.Fatal("PostgreSQL's initdb is missing; make test installs it")
	}
	dir, err := os.MkdirTemp("", "tollkey-pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	run := func(name string, args ...string) error {
		args = append([]string{filepath.Join(bin, name), "-D", dir + "/data"}, args...)
		if os.Getuid() == 0 { // PostgreSQL refuses to run as root
			args = append([]string{"runuser", "-u", "postgres", "--"}, args...)
		}
		c := exec.Command(args[0], args[1:]...) // its output is dropped, since the server inherits it and would keep a pipe open
		c.Dir = "/"
		return c.Run()
	}
	if os.Getuid() == 0 {
		owner, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, err := strconv.Atoi(owner.Uid)
		if err == nil {
			err = os.Chown(dir, uid, -1)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	control := func(args ...string) {
		t.Helper()
		if err := run("pg_ctl", append([]string{"-w", "-t", "120", "-l", dir + "/log"}, args...)...); err != nil {
			text, _ := os.ReadFile(dir + "/log")
			t.Fatalf("pg_ctl %v: %v\n%s", args, err, text[max(0, len(text)-2000):])
		}
	}
	if err := run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"); err != nil {
		t.Fatalf("initdb: %v", err)
	}
	t.Cleanup(func() { _ = run("pg_ctl", "-w", "-t", "120", "-m", "immediate", "stop") })
	control("-o", "-p "+port+" -c listen_addresses=127.0.0.1 -c unix_socket_directories="+dir, "start")
	return "postgres://postgres@127.0.0.1:" + port + "/postgres?sslmode=disable", func(mode string) { control("-m", mode, "restart") }
}

// majorOf is the 16 of /usr/lib/postgresql/16/bin/initdb.
func majorOf(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	return n
}
