package app

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"
)

const clientTests = "../../test/clients"

// clients gives the commands that drive the server with each official client, the folder that they run in, and what is there once the client is
// installed. The last command looks whether every operation that both client and server have was answered with success.
var clients = map[string]struct {
	folder, installed string
	commands          [][]string
}{
	"typescript": {clientTests, clientTests + "/node_modules/.package-lock.json", [][]string{{"node", "--test", "--test-reporter=spec"}, {"node", "covered.mjs"}}},
	"python":     {clientTests + "/python", clientTests + "/python/.venv/installed", [][]string{{"./.venv/bin/python", "-B", "-m", "unittest"}, {"./.venv/bin/python", "-B", "covered.py"}}},
}

// TestOfficialClients drives the server with the official clients, which are told the server's address and nothing else.
func TestOfficialClients(t *testing.T) {
	for client, c := range clients {
		for name, config := range engines {
			t.Run(client+"/"+name, func(t *testing.T) {
				need(t, c.installed)
				config := config(t)
				config.Listen, config.RootKey, config.MasterKeys = "127.0.0.1:0", rootKey, masterKeys(1)
				s, stop := start(t, config)
				defer stop()
				for _, command := range c.commands {
					s.drive(t, c.folder, command)
				}
			})
		}
	}
}

// drive runs a command of a client's tests.
func (s server) drive(t *testing.T, folder string, command []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Dir = folder
	c.Env = append(os.Environ(), "TOLLKEY_URL=http://"+string(s), "TOLLKEY_ROOT_KEY="+rootKey, "NO_COLOR=1")
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v: %v\n%s", command, err, out)
	}
}

// need skips a test where what it drives the server with is not installed, and fails it where it must be.
func need(t *testing.T, installed string) {
	t.Helper()
	_, err := os.Stat(installed)
	switch {
	case err == nil:
	case os.Getenv("CI") != "" || os.Getenv("TOLLKEY_TEST_CLIENTS") != "":
		t.Fatal("run scripts/test, which installs ", installed)
	default:
		t.Skip("scripts/test installs ", installed)
	}
}
