//go:build long

package app

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollkey/tollkey/internal/conformance"
)

// TestLongExactLimit takes from one limit with many clients: exactly so many are admitted.
func TestLongExactLimit(t *testing.T) {
	for name, config := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { return "TOLLKEY_DATA=" + t.TempDir() },
		"postgres": func(t *testing.T) string { return "TOLLKEY_DATABASE_URL=" + conformance.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) { exactLimit(t, launch(t, build(t), config(t))) })
	}
}

func exactLimit(t *testing.T, server *process) {
	const clients, limit = 64, 1000
	api := server.newAPI(t)
	client := newClient(t)
	round := func() bool {
		_, secret := server.newKey(t, api, fmt.Sprintf(`,"ratelimits":[{"name":"hourly","limit":%d,"duration":3600000,"autoApply":true}]`, limit))
		hour, start := time.Now().Unix()/3600, time.Now()
		var valid, refused atomic.Int64
		var after [limit]atomic.Int32 // how many were told that so much is left
		var faults atomic.Pointer[string]
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() {
				for mine := 0; mine < 20; {
					v, err := server.verify(client, secret, "")
					fault := ""
					switch {
					case err != nil:
						t.Error(err)
						return
					case len(v.Ratelimits) != 1:
						fault = fmt.Sprintf("%+v", v)
					case v.Code == "RATE_LIMITED":
						refused.Add(1)
						mine++
					case v.Code == "VALID" && v.Ratelimits[0].Remaining >= 0 && v.Ratelimits[0].Remaining < limit:
						valid.Add(1)
						after[v.Ratelimits[0].Remaining].Add(1)
					default:
						fault = fmt.Sprintf("%+v", v)
					}
					if fault != "" {
						faults.Store(&fault)
						return
					}
				}
			})
		}
		wg.Wait()
		took := time.Since(start)
		if time.Now().Unix()/3600 != hour {
			return false
		}
		if f := faults.Load(); f != nil {
			t.Error(*f)
		}
		for left := range after {
			if n := after[left].Load(); n != 1 {
				t.Errorf("%d answers say that %d are left", n, left)
				break
			}
		}
		if valid.Load() != limit {
			t.Errorf("%d VALID of %d", valid.Load(), limit)
		}
		t.Logf("%d VALID, %d RATE_LIMITED, %.0f a second", valid.Load(), refused.Load(), float64(valid.Load()+refused.Load())/took.Seconds())
		return true
	}
	if first := round(); !first && !round() {
		t.Error("the hour changed twice")
	}
	stop(t, server)
}
