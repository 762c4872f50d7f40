package app

import (
	"bytes"
	"context"
	"database/sql"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollkey/tollkey/internal/conformance"
	"github.com/tollkey/tollkey/internal/vault"
)

// masterKeys are made once for a test.
func masterKeys(n int) []vault.MasterKey {
	keys := make([]vault.MasterKey, n)
	for i := range keys {
		keys[i] = vault.NewMasterKey(time.Now())
	}
	return keys
}

// open is the store behind a server's back.
func open(t *testing.T, c Config) *sql.DB {
	t.Helper()
	driver, source := "pgx", c.DatabaseURL
	if source == "" {
		driver, source = "sqlite", "file:"+filepath.Join(c.Data, "tollkey.db")+"?_pragma=busy_timeout(10000)"
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func count(t *testing.T, db *sql.DB, query string) (n int) {
	t.Helper()
	if err := db.QueryRow(query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// newRecoverable makes an API that allows recoverable keys, and one such key in it.
func (s server) newRecoverable(t *testing.T) (id, plain string) {
	t.Helper()
	_, made := s.call(t, "apis.createApi", `{"name":"payments"}`)
	api := made["apiId"].(string)
	if status, e := s.call(t, "apis.updateApi", `{"apiId":"`+api+`","recoverableKeys":true}`); status != 200 {
		t.Fatal(status, e)
	}
	status, made := s.call(t, "keys.createKey", `{"apiId":"`+api+`","recoverable":true,"prefix":"sk"}`)
	if status != 200 {
		t.Fatal(status, made)
	}
	return made["keyId"].(string), made["key"].(string)
}

// recovers checks that the server gives a key's secret back; "" = that it gives none.
func (s server) recovers(t *testing.T, id, plain string) {
	t.Helper()
	status, k := s.call(t, "keys.getKey", `{"keyId":"`+id+`","decrypt":true}`)
	if got, _ := k["plaintext"].(string); status != 200 || got != plain {
		t.Errorf("%d %v, want %q", status, k, plain)
	}
}

// TestSecretsAreSealed looks for a recoverable key's secret, and for the master key, wherever a server leaves something.
func TestSecretsAreSealed(t *testing.T) {
	for name, config := range engines {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			c.Listen, c.RootKey, c.MasterKeys, c.LogSample = "127.0.0.1:0", rootKey, masterKeys(1), 1
			var log bytes.Buffer
			a, err := New(t.Context(), c, slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			var running sync.WaitGroup
			running.Go(func() { _ = a.Run(ctx) })
			s := server(a.Address)
			id, plain := s.newRecoverable(t)
			s.recovers(t, id, plain)
			db := open(t, c)
			if n := count(t, db, `select count(*) from audit_entries where event = 'key.decrypt' and targets like '%`+id+`%'`); n != 1 {
				t.Errorf("%d audit entries of the decryption", n)
			}
			var entries, sealed string
			if err := db.QueryRow(`select actor_id || targets || description from audit_entries where event = 'key.decrypt'`).Scan(&entries); err != nil {
				t.Error(err)
			}
			var ciphertext []byte
			if err := db.QueryRow(`select key_id, ciphertext from sealed_secrets`).Scan(&sealed, &ciphertext); err != nil || sealed != id {
				t.Error(sealed, err)
			}
			s.corrupted(t, db, id, ciphertext)
			s.recovers(t, id, plain)
			cancel()
			running.Wait()
			everything := log.String() + entries + string(ciphertext) + files(t, c.Data)
			for _, hidden := range []string{plain, plain[3:], c.MasterKeys[0].Entry()[len(c.MasterKeys[0].ID)+1:]} {
				if strings.Contains(everything, hidden) {
					t.Errorf("%q is somewhere", hidden)
				}
			}
			if !strings.Contains(log.String(), "getKey") {
				t.Error("nothing was logged:", log.String())
			}
		})
	}
}

// corrupted checks that a damaged secret is left out and the key is shown all the same, and puts the right one back.
func (s server) corrupted(t *testing.T, db *sql.DB, id string, ciphertext []byte) {
	t.Helper()
	damaged := bytes.Clone(ciphertext)
	damaged[len(damaged)-1] ^= 1
	for _, content := range [][]byte{damaged, {}, ciphertext} {
		if _, err := db.Exec(`update sealed_secrets set ciphertext = $1`, content); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(content, ciphertext) {
			s.recovers(t, id, "")
		}
	}
	if n := count(t, db, `select count(*) from audit_entries where event = 'key.decrypt'`); n != 1 {
		t.Errorf("%d audit entries: where nothing was read, nothing is to be told", n)
	}
}

// files is all that is in a data directory.
func files(t *testing.T, dir string) string {
	t.Helper()
	if dir == "" {
		return ""
	}
	var all strings.Builder
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(filepath.Join(dir, path))
		all.Write(content)
		return err
	})
	if err != nil || all.Len() == 0 {
		t.Error(all.Len(), err)
	}
	return all.String()
}

// refusesToStart checks that a server says which master key it lacks.
func refusesToStart(t *testing.T, c Config, want string) {
	t.Helper()
	a, err := New(t.Context(), c, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err == nil {
		_ = a.listener.Close()
		_ = a.db.Close()
		t.Fatalf("it starts, want %q", want)
	}
	if !strings.Contains(err.Error(), "the master keys (vault.keys): ") || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}

// TestMasterKeysAtStart: what the configured keys do not open, no server starts with; only discarding it helps.
func TestMasterKeysAtStart(t *testing.T) {
	for name, config := range engines {
		t.Run(name, func(t *testing.T) {
			keys := masterKeys(2)
			c := config(t)
			c.Listen, c.RootKey = "127.0.0.1:0", rootKey
			with := func(keys ...vault.MasterKey) Config { c.MasterKeys = keys; return c }
			s, stop := start(t, with(keys[0]))
			id, plain := s.newRecoverable(t)
			stop()
			refusesToStart(t, with(), `"`+keys[0].ID+`", which is not configured`)
			refusesToStart(t, with(keys[1]), `"`+keys[0].ID+`", which is not configured`)
			impostor, err := vault.ParseMasterKeys(keys[0].ID + ":" + keys[1].Entry()[len(keys[1].ID)+1:])
			if err != nil {
				t.Fatal(err)
			}
			refusesToStart(t, with(impostor...), "not the one that wrapped it")
			if failed := find(Doctor(t.Context(), with(keys[1])), Fail); !strings.Contains(failed, keys[0].ID) {
				t.Errorf("doctor finds %q", failed)
			}
			if _, err := RewrapDataKeys(t.Context(), with(keys[1])); err == nil {
				t.Error("rotated without the old key")
			}
			s, stop = start(t, with(keys[0]))
			s.recovers(t, id, plain)
			stop()
			if n, secrets, err := DiscardSecrets(t.Context(), with(keys[0])); n != 0 || secrets != 0 || err != nil {
				t.Errorf("discarded what opens: %d %d %v", n, secrets, err)
			}
			if n, secrets, err := DiscardSecrets(t.Context(), with(keys[1])); n != 1 || secrets != 1 || err != nil {
				t.Errorf("discarded %d data keys and %d secrets: %v", n, secrets, err)
			}
			s, stop = start(t, with(keys[1]))
			defer stop()
			s.recovers(t, id, "")
			if _, v := s.call(t, "keys.verifyKey", `{"key":"`+plain+`"}`); v["code"] != "VALID" {
				t.Errorf("the key itself: %v", v)
			}
			other, secret := s.newRecoverable(t)
			s.recovers(t, other, secret)
		})
	}
}

// TestRotationOnSQLite: nobody else has the store, so that a restart is all that it takes.
func TestRotationOnSQLite(t *testing.T) {
	keys := masterKeys(2)
	c := Config{Data: t.TempDir(), Listen: "127.0.0.1:0", RootKey: rootKey, MasterKeys: keys[:1]}
	s, stop := start(t, c)
	id, plain := s.newRecoverable(t)
	stop()
	for _, masters := range [][]vault.MasterKey{{keys[1], keys[0]}, {keys[1]}} {
		c.MasterKeys = masters
		s, stop = start(t, c)
		s.recovers(t, id, plain)
		stop()
	}
	c.MasterKeys = keys[:1]
	refusesToStart(t, c, keys[1].ID)
}

// TestRotationOnSeveralNodes follows docs/security.md with two servers on one database: at every step both give the secrets back.
func TestRotationOnSeveralNodes(t *testing.T) {
	keys := masterKeys(2)
	before, during, after := keys[:1], []vault.MasterKey{keys[1], keys[0]}, keys[1:]
	c := Config{DatabaseURL: conformance.Postgres(t), Listen: "127.0.0.1:0", RootKey: rootKey}
	secrets := map[string]string{}
	var nodes [2]struct {
		server
		stop func()
	}
	restart := func(i int, masters []vault.MasterKey) {
		t.Helper()
		if nodes[i].stop != nil {
			nodes[i].stop()
		}
		c := c
		c.MasterKeys = masters
		nodes[i].server, nodes[i].stop = start(t, c)
	}
	check := func(step string) {
		t.Helper()
		for i := range nodes {
			id, plain := nodes[i].newRecoverable(t)
			secrets[id] = plain
			for j := range nodes {
				for id, plain := range secrets {
					nodes[j].recovers(t, id, plain)
				}
			}
		}
		if t.Failed() {
			t.Fatal(step)
		}
	}
	rotate := func(done, already int) {
		t.Helper()
		c := c
		c.MasterKeys = during
		if got, err := RewrapDataKeys(t.Context(), c); err != nil || got.Done != done || got.Already != already {
			t.Errorf("%+v %v", got, err)
		}
	}
	restart(0, before)
	restart(1, before)
	check("before")
	restart(0, during)
	check("one node has the new key")
	restart(1, during)
	check("both have it")
	rotate(1, 0)
	check("rotated")
	rotate(0, 1)
	restart(0, after)
	check("one has lost the old key")
	restart(1, after)
	check("after")
	refused := c
	refused.MasterKeys = before
	refusesToStart(t, refused, keys[1].ID)
	nodes[0].stop()
	nodes[1].stop()
	if n := count(t, open(t, c), `select count(*) from audit_entries where event = 'data_key.rewrap'`); n != 1 {
		t.Errorf("%d audit entries of the rotation", n)
	}
}

// TestFirstRecoverableKeysAtOnce: of all that make a workspace's data key, one does, and every secret opens.
func TestFirstRecoverableKeysAtOnce(t *testing.T) {
	for name, config := range engines {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			c.Listen, c.RootKey, c.MasterKeys = "127.0.0.1:0", rootKey, masterKeys(1)
			s, stop := start(t, c)
			defer stop()
			_, made := s.call(t, "apis.createApi", `{"name":"payments"}`)
			api := made["apiId"].(string)
			s.call(t, "apis.updateApi", `{"apiId":"`+api+`","recoverableKeys":true}`)
			var mu sync.Mutex
			secrets := map[string]string{}
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					status, made := s.call(t, "keys.createKey", `{"apiId":"`+api+`","recoverable":true}`)
					mu.Lock()
					defer mu.Unlock()
					if status != 200 {
						t.Error(status, made)
						return
					}
					secrets[made["keyId"].(string)] = made["key"].(string)
				})
			}
			wg.Wait()
			_, rows := s.callList(t, "apis.listKeys", `{"apiId":"`+api+`","decrypt":true}`)
			for _, k := range rows {
				if k["plaintext"] != secrets[k["keyId"].(string)] {
					t.Errorf("%v", k)
				}
			}
			db := open(t, c)
			if n := count(t, db, `select count(*) from data_keys`); n != 1 || len(rows) != 20 {
				t.Errorf("%d data keys, %d keys", n, len(rows))
			}
			if n := count(t, db, `select count(*) from audit_entries where event = 'key.decrypt'`); n != 1 {
				t.Errorf("a page of secrets has %d audit entries", n)
			}
		})
	}
}
