//go:build long

package app

import (
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/sqlstore"
)

// TestLongBackup copies the store of a server under load from another process, many times, and restores the copies elsewhere. In each, what is spent, what
// usage counts and what limits have admitted agree, and lie between what was answered before the backup and what was asked until its end. The
// last copy serves. Verification keeps its latency beside backups, and beside doctor.
func TestLongBackup(t *testing.T) {
	const others, credits, most, backups = 200_000, 1_000_000_000, 1_000_000_000, 8
	binary, data, dir := build(t), t.TempDir()+"/data", t.TempDir()
	tollkeyIn := func(data string, args ...string) {
		t.Helper()
		c := exec.Command(binary, args...)
		c.Env = append(os.Environ(), "TOLLKEY_DATA="+data)
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	server := launch(t, binary, "TOLLKEY_DATA="+data)
	api := server.newAPI(t)
	const funded = `,"credits":{"remaining":1000000000},"ratelimits":[{"name":"monthly","limit":1000000000,"duration":2592000000,"autoApply":true}]`
	var ids, secrets []string
	for range 2 {
		id, secret := server.newKey(t, api, funded)
		ids, secrets = append(ids, id), append(secrets, secret)
	}
	stop(t, server)
	fillStore(t, data, tollkey.APIID(api), others)

	server = launch(t, binary, "TOLLKEY_DATA="+data)
	b := &beside{t: t, app: &App{Address: server.address}, secrets: secrets}
	t.Logf("nothing beside: %v", b.measure(func() { time.Sleep(3 * time.Second) }))
	type copied struct {
		file          string
		least, utmost int64 // what may be spent in it
	}
	var copies []copied
	for len(copies) < backups {
		b.check("tollkey backup", func() {}, func() {
			c := copied{file: filepath.Join(dir, "backup"+strings.Repeat("i", len(copies))), least: b.answered.Load()}
			tollkeyIn(data, "backup", c.file)
			c.utmost = b.asked.Load()
			copies = append(copies, c)
		})
	}
	if info, err := os.Stat(filepath.Join(data, "tollkey.db-wal")); err == nil {
		t.Logf("the write-ahead log has %d MiB", info.Size()>>20)
	}
	b.check("tollkey doctor", func() {}, func() { tollkeyIn(data, "doctor") })
	stop(t, server)
	if spent := checkBooks(t, data, ids, credits); spent != b.answered.Load() {
		t.Errorf("%d spent in the original, %d answered", spent, b.answered.Load())
	}

	var last string
	for _, c := range copies {
		last = t.TempDir()
		began := time.Now()
		tollkeyIn(last, "restore", c.file)
		took := time.Since(began)
		spent := checkBooks(t, last, ids, credits)
		if spent < c.least || spent > c.utmost {
			t.Errorf("%d spent in the copy, not from %d to %d", spent, c.least, c.utmost)
		}
		t.Logf("%d spent in the copy, from %d to %d possible; restored in %v", spent, c.least, c.utmost, took.Round(time.Millisecond))
	}
	again := launch(t, binary, "TOLLKEY_DATA="+last)
	for i, id := range ids {
		left := again.remaining(t, id)
		v, err := again.verify(newClient(t), secrets[i], "")
		if err != nil || v.Code != "VALID" || v.Credits != left-1 || v.Ratelimits[0].Remaining != most-(credits-left)-1 {
			t.Errorf("the copy answers %+v, %v; %d credits were left", v, err, left)
		}
	}
	stop(t, again)
}

// fillStore adds keys to a stopped server's store.
func fillStore(t *testing.T, data string, api tollkey.APIID, n int) {
	t.Helper()
	db, err := sqlstore.Open(t.Context(), sqlstore.Options{Dir: data})
	if err != nil {
		t.Fatal(err)
	}
	record, err := db.RootKeyByDigest(t.Context(), tollkey.Digest(sha256.Sum256([]byte(rootKey))))
	if err != nil {
		t.Fatal(err)
	}
	b := beside{t: t, app: &App{db: db}, workspace: record.Workspace, api: api}
	b.insertKeys(n)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// checkBooks reads what a store says of keys: as much must be spent as is counted. It returns the sum.
func checkBooks(t *testing.T, data string, ids []string, credits int64) (spent int64) {
	t.Helper()
	for _, id := range ids {
		left, events := books(t, sqlstore.Options{Dir: data}, tollkey.KeyID(id))
		if credits-left != events {
			t.Errorf("%s: %d spent, %d counted", id, credits-left, events)
		}
		spent += credits - left
	}
	return spent
}
