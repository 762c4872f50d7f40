//go:build long

package app

import (
	"context"
	"crypto/sha256"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/meter"
	"github.com/tollkey/tollkey/internal/sqlstore"
)

// TestLongKill kills a server under load, again and again. What was answered VALID must have been spent and counted, no more than one request
// per client and kill may be spent unanswered, and no hour may admit more than its limit.
func TestLongKill(t *testing.T) {
	const kills, clients, credits, hourly = 20, 8, 1_000_000, 3000
	binary := build(t)
	data := t.TempDir()
	node := launch(t, binary, "TOLLKEY_DATA="+data)
	s := server(node.address)
	_, made := s.call(t, "apis.createApi", `{"name":"payments"}`)
	api := made["apiId"].(string)
	create := func(rest string) (string, string) {
		_, k := s.call(t, "keys.createKey", `{"apiId":"`+api+`",`+rest+`}`)
		return k["key"].(string), k["keyId"].(string)
	}
	paid, paidID := create(`"credits":{"remaining":1000000}`)
	limited, _ := create(`"ratelimits":[{"name":"hourly","limit":3000,"duration":3600000,"autoApply":true}]`)
	var spent, admitted atomic.Int64
	began := time.Now()
	for range kills {
		var wg sync.WaitGroup
		stop := make(chan struct{})
		answers := make(chan struct{})
		for i := range clients {
			wg.Go(func() {
				key, count := paid, &spent
				if i%2 == 1 {
					key, count = limited, &admitted
				}
				for {
					select {
					case <-stop:
						return
					default:
					}
					switch code := s.ask(key); code {
					case "VALID":
						count.Add(1)
						select {
						case answers <- struct{}{}:
						case <-stop:
							return
						}
					case "":
						return // killed
					}
				}
			})
		}
		for range 150 {
			<-answers
		}
		_ = node.Process.Kill()
		close(stop)
		wg.Wait()
		_ = node.Wait()
		node = launch(t, binary, "TOLLKEY_DATA="+data)
		s = server(node.address)
	}
	stop(t, node)
	left, events := books(t, data, tollkey.KeyID(paidID))
	inFlight := int64(kills * clients)
	if used := credits - left; used < spent.Load() || used > spent.Load()+inFlight || events != used {
		t.Errorf("%d answered VALID, %d spent, %d counted", spent.Load(), used, events)
	}
	hours := int64(time.Now().Unix()/3600-began.Unix()/3600) + 1
	if admitted.Load() > hours*hourly {
		t.Errorf("%d admitted in %d hours of %d", admitted.Load(), hours, hourly)
	}
	t.Logf("%d kills: %d VALID paid, %d spent, %d admitted by the limit", kills, spent.Load(), credits-left, admitted.Load())
}

// ask returns the outcome, or "" when there was no answer.
func (s server) ask(key string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+string(s)+"/v2/keys.verifyKey", strings.NewReader(`{"key":"`+key+`"}`))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+rootKey)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(body), `"code":"`)
	code, _, _ := strings.Cut(rest, `"`)
	return code
}

// books reads what a stopped server's store says of a key: what is left, and how many VALID were counted.
func books(t *testing.T, data string, id tollkey.KeyID) (left, events int64) {
	t.Helper()
	db, err := sqlstore.Open(t.Context(), sqlstore.Options{Dir: data})
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
