// Package cli is the command line of Tollkey: it turns flags, environment and file into the server's configuration, and shows what the
// server has to say to whom starts it.
//
// It promises that a secret is printed to a terminal at most, never to what is kept as a log, and that a wrong setting ends every command
// with exit code 1 before anything is opened. It decides nothing about how the server works.
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
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/tollkey/tollkey/internal/app"
	"github.com/tollkey/tollkey/internal/config"
)

// Version is what `tollkey version` prints; releases set it at link time.
var Version = "development"

// Run executes the command line and returns the exit code.
func Run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return run(ctx, args, os.Environ(), stdout, stderr)
}

func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{Use: "tollkey", Short: "API keys, limits, usage and permissions", SilenceUsage: true}
	root.AddCommand(
		configured(environ, &cobra.Command{Use: "serve", Short: "run the server"}, serve),
		configured(environ, &cobra.Command{Use: "config", Short: "print every setting, its value, and where that is from"}, printConfig),
		configured(environ, &cobra.Command{Use: "migrate", Short: "bring the store to this version, without serving"}, migrate),
		&cobra.Command{
			Use: "version", Short: "print the version", Args: cobra.NoArgs,
			Run: func(c *cobra.Command, _ []string) { _, _ = fmt.Fprintln(c.OutOrStdout(), Version) },
		},
	)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		return 1
	}
	return 0
}

// configured gives a command the flags of settings, and calls do with the configuration.
func configured(environ []string, c *cobra.Command, do func(*cobra.Command, *config.Config) error) *cobra.Command {
	flags := map[string]*string{
		"listen": c.Flags().String("listen", "", "address and port (TOLLKEY_LISTEN)"),
		"data":   c.Flags().String("data", "", "data directory (TOLLKEY_DATA)"),
	}
	file := c.Flags().String("config", "", "configuration file, in YAML (TOLLKEY_CONFIG)")
	c.Args = cobra.NoArgs
	c.RunE = func(c *cobra.Command, _ []string) error {
		in := config.Input{Flags: map[string]string{}, Environ: environ, File: *file}
		for name, value := range flags {
			if c.Flags().Changed(name) {
				in.Flags[name] = *value
			}
		}
		settings, err := config.Load(in)
		if err != nil {
			return err
		}
		return do(c, settings)
	}
	return c
}

// appConfig tells the server what it needs of the settings.
func appConfig(c *config.Config) app.Config {
	return app.Config{
		Listen: c.Listen, Data: c.Data, DatabaseURL: c.DatabaseURL, RootKey: c.RootKey,
		Buffered: c.Buffered, DiskSync: c.DiskSync, LiveCounters: c.LiveCounters,
		ErrorBase: c.ErrorBase, TrustedProxies: c.TrustedProxies, LogSample: int64(c.LogSample),
	}
}

func serve(c *cobra.Command, settings *config.Config) error {
	var handler slog.Handler = slog.NewTextHandler(c.ErrOrStderr(), nil)
	if settings.LogJSON {
		handler = slog.NewJSONHandler(c.ErrOrStderr(), nil)
	}
	a, err := app.New(c.Context(), appConfig(settings), slog.New(handler))
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(c.OutOrStdout(), "Tollkey listens on http://%s\n", a.Address)
	if a.FirstKey != "" && settings.RootKey == "" {
		if err := show(c.OutOrStdout(), a, settings.Data); err != nil {
			return fmt.Errorf("the first root key was made, but could not be kept: %w", err)
		}
	}
	return a.Run(c.Context())
}

func printConfig(c *cobra.Command, settings *config.Config) error {
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "SETTING\tVALUE\tSOURCE")
	for _, s := range settings.Settings() {
		value := s.Value
		if value == "" {
			value = "(not set)"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, value, s.Source)
	}
	return w.Flush()
}

func migrate(c *cobra.Command, settings *config.Config) error {
	if err := app.Migrate(c.Context(), appConfig(settings)); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(c.OutOrStdout(), "The store is at this version.")
	return nil
}

// show tells the first root key once. Where standard output is kept as a log, the key goes to a file that only its owner reads. The
// directory is made here, since a server on PostgreSQL has not made it.
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
