//go:build long

package app

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollkey/tollkey"
)

// TestLongImport imports keys over HTTP, 5,000 a call, and measures verifications beside it: a million in two minutes with TOLLKEY_TEST_KEYS=1000000.
func TestLongImport(t *testing.T) {
	keys := 200_000
	if text := os.Getenv("TOLLKEY_TEST_KEYS"); text != "" {
		var err error
		if keys, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	for name, config := range engines {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			c.Listen, c.RootKey = "127.0.0.1:0", rootKey
			a, err := New(t.Context(), c, slog.New(slog.NewTextHandler(io.Discard, nil)))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			var running sync.WaitGroup
			running.Go(func() {
				if err := a.Run(ctx); err != nil {
					t.Error(err)
				}
			})
			defer func() { cancel(); running.Wait() }()
			s := server(a.Address)
			_, data := s.call(t, "apis.createApi", `{"name":"load"}`)
			api := data["apiId"].(string)
			_, plain := s.call(t, "keys.createKey", fmt.Sprintf(`{"apiId":%q}`, api))
			_, limited := s.call(t, "keys.createKey", fmt.Sprintf(`{"apiId":%q,"credits":{"remaining":10000000}}`, api))
			_, made := s.call(t, "migrations.createMigration", `{"algorithm":"sha256"}`)
			b := beside{t: t, app: a, api: tollkey.APIID(api), secrets: []string{plain["key"].(string), limited["key"].(string)}}
			var took time.Duration
			round := 0
			b.check(fmt.Sprintf("an import of %d keys", keys), func() {}, func() {
				round++
				began := time.Now()
				importKeys(t, s, api, made["migrationId"].(string), round, keys)
				took = time.Since(began)
				t.Logf("%d keys in %v, %.0f a second", keys, took, float64(keys)/took.Seconds())
			})
			calm := b.measure(spin).p99 <= worst // else the time says more of what others do
			if longest := time.Duration(keys) * 2 * time.Minute / 1_000_000; name == "sqlite" && calm && took > longest {
				t.Errorf("%d keys took %v, at most %v", keys, took, longest)
			}
			for _, i := range []int{0, keys / 2, keys - 1} {
				if _, v := s.call(t, "keys.verifyKey", fmt.Sprintf(`{"key":"old_%d_%d"}`, round, i)); v["code"] != "VALID" {
					t.Errorf("key %d is %v", i, v["code"])
				}
			}
		})
	}
}

func importKeys(t *testing.T, s server, api, migration string, round, keys int) {
	const atOnce = 5000
	for from := 0; from < keys; from += atOnce {
		var body bytes.Buffer
		fmt.Fprintf(&body, `{"migrationId":%q,"apiId":%q,"keys":[`, migration, api)
		n := min(atOnce, keys-from)
		for i := range n {
			sum := sha256.Sum256(fmt.Appendf(nil, "old_%d_%d", round, from+i))
			fmt.Fprintf(&body, `%s{"hash":%q,"name":"imported"}`, strings.Repeat(",", min(i, 1)), base64.StdEncoding.EncodeToString(sum[:]))
		}
		body.WriteString("]}")
		r, err := http.NewRequest(http.MethodPost, "http://"+string(s)+"/v2/keys.migrateKeys", &body)
		if err != nil {
			t.Error(err)
			return
		}
		r.Header.Set("Authorization", "Bearer "+rootKey)
		r.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Error(err)
			return
		}
		var answer struct {
			Data struct{ Migrated, Failed []any }
		}
		err = json.NewDecoder(resp.Body).Decode(&answer)
		_ = resp.Body.Close()
		if err != nil || len(answer.Data.Migrated) != n || len(answer.Data.Failed) != 0 {
			t.Errorf("%d: %d of %d imported, %d failed, %v", resp.StatusCode, len(answer.Data.Migrated), n, len(answer.Data.Failed), err)
			return
		}
	}
}
