// Package cli is the command line of Tollkey.
package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tollkey/tollkey/internal/app"
)

// Version is what `tollkey version` prints; releases set it at link time.
var Version = "development"

// Run executes the command line and returns the exit code.
func Run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{Use: "tollkey", Short: "API keys, limits, usage and permissions", SilenceUsage: true}
	root.AddCommand(serve(), &cobra.Command{
		Use: "version", Short: "print the version", Args: cobra.NoArgs,
		Run: func(c *cobra.Command, _ []string) { _, _ = fmt.Fprintln(c.OutOrStdout(), Version) },
	})
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		return 1
	}
	return 0
}

// rootKeyLengths are the bounds of a preset root key.
const minRootKey, maxRootKey = 20, 200

func serve() *cobra.Command {
	c := &cobra.Command{Use: "serve", Short: "run the server", Args: cobra.NoArgs}
	listen := c.Flags().String("listen", or(os.Getenv("TOLLKEY_LISTEN"), "127.0.0.1:8080"), "address and port (TOLLKEY_LISTEN)")
	data := c.Flags().String("data", or(os.Getenv("TOLLKEY_DATA"), "tollkey-data"), "data directory (TOLLKEY_DATA)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		config := app.Config{
			Listen: *listen, Data: *data, DatabaseURL: os.Getenv("TOLLKEY_DATABASE_URL"), RootKey: os.Getenv("TOLLKEY_ROOT_KEY"),
		}
		if n := len(config.RootKey); n > 0 && (n < minRootKey || n > maxRootKey) {
			return fmt.Errorf("TOLLKEY_ROOT_KEY must have %d to %d characters", minRootKey, maxRootKey)
		}
		a, err := app.New(c.Context(), config, slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil)))
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(c.OutOrStdout(), "Tollkey listens on http://%s\n", a.Address)
		if a.FirstKey != "" && config.RootKey == "" {
			if err := show(c.OutOrStdout(), a, *data); err != nil {
				return err
			}
		}
		return a.Run(c.Context())
	}
	return c
}

// show tells the first root key once. Where standard output is kept as a log, the key goes to a file that only its owner reads.
func show(out io.Writer, a *app.App, data string) error {
	key := a.FirstKey
	if f, ok := out.(*os.File); !ok || !terminal(f) {
		path := filepath.Join(data, "root-key")
		if err := os.MkdirAll(data, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(out, "The first root key is in %s.\n", path)
		key = "$(cat " + path + ")"
	} else {
		_, _ = fmt.Fprintf(out, "The first root key, shown this once:\n\n  %s\n", key)
	}
	_, _ = fmt.Fprintf(out, "\nTry it:\n\n  curl -s http://%s/v2/apis.createApi -H \"Authorization: Bearer %s\" -H 'Content-Type: application/json' -d '{\"name\":\"my first API\"}'\n\n", a.Address, key)
	return nil
}

func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func or(value, fallback string) string {
	if value != "" {
		return value
	}
	return fallback
}
