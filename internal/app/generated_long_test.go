//go:build long

package app

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/tollkey/tollkey/internal/conformance"
)

// TestLongGenerated is TestGenerated on the real binary with as many requests in all as TOLLKEY_TEST_GENERATED says, 5,000 without.
func TestLongGenerated(t *testing.T) {
	wanted, err := strconv.Atoi(os.Getenv("TOLLKEY_TEST_GENERATED"))
	if err != nil {
		wanted = 5_000
	}
	binary := build(t)
	for name, setting := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { return "TOLLKEY_DATA=" + t.TempDir() },
		"postgres": func(t *testing.T) string { return "TOLLKEY_DATABASE_URL=" + conformance.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			p := launch(t, binary, setting(t), "TOLLKEY_VAULT_KEYS="+masterKeys(1)[0].Entry())
			sent := 0
			for seed := 1; sent < wanted/2; seed++ {
				sent += server(p.address).generated(t, "--seed", strconv.Itoa(seed), "--max-examples", "25")
			}
			stop(t, p)
			t.Logf("%d requests in %v", sent, time.Since(began).Round(time.Second))
		})
	}
}
