package app

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

const clientTests = "../../test/clients"

// TestOfficialClients drives the server with the official npm client, which is told the server's address and nothing else.
func TestOfficialClients(t *testing.T) {
	needClients(t)
	files, err := filepath.Glob(filepath.Join(clientTests, "*.test.mjs"))
	if err != nil || len(files) == 0 {
		t.Fatal("no tests in ", clientTests, err)
	}
	arguments := []string{"--test", "--test-reporter=spec"}
	for _, f := range files {
		arguments = append(arguments, filepath.Base(f))
	}
	for name, config := range engines {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			c.Listen, c.RootKey, c.MasterKeys = "127.0.0.1:0", rootKey, masterKeys(1)
			s, stop := start(t, c)
			defer stop()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			node := exec.CommandContext(ctx, "node", arguments...)
			node.Dir = clientTests
			node.Env = append(os.Environ(), "TOLLKEY_URL=http://"+string(s), "TOLLKEY_ROOT_KEY="+rootKey, "NO_COLOR=1")
			if out, err := node.CombinedOutput(); err != nil {
				t.Errorf("node: %v\n%s", err, out)
			}
		})
	}
}

// needClients skips the test where the client is not installed, and fails it where it must be.
func needClients(t *testing.T) {
	t.Helper()
	_, err := os.Stat(filepath.Join(clientTests, "node_modules"))
	switch {
	case err == nil:
	case os.Getenv("CI") != "" || os.Getenv("TOLLKEY_TEST_CLIENTS") != "":
		t.Fatal("the clients are not installed: run scripts/test")
	default:
		t.Skip("run npm ci in test/clients")
	}
}
