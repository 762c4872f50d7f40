// Package cli is the command line of Tollkey: it turns flags, environment and file into the server's configuration, and shows what the
// server has to say to whom starts it.
//
// It promises that no secret is taken from the command line, which any list of processes shows; that the server prints a secret to a terminal at most,
// never to what is kept as a log; and that a wrong setting ends every command with exit code 1 before anything is opened. It decides nothing about how
// the server works: what the commands for keys do is said by the HTTP API.
package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"text/tabwriter"

	"github.com/mattn/go-isatty"
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
	return run(ctx, args, os.Environ(), os.Stdin, stdout, stderr)
}

func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := &cobra.Command{Use: "tollkey", Short: "API keys, limits, usage and permissions", SilenceUsage: true}
	root.AddCommand(
		listening(configured(environ, &cobra.Command{Use: "serve", Short: "run the server"}, serve)),
		listening(configured(environ, &cobra.Command{Use: "config", Short: "print every setting, its value, and where that is from"}, printConfig)),
		audit(environ),
		importing(environ),
		configured(environ, &cobra.Command{Use: "migrate", Short: "bring the store to this version, without serving"}, migrate),
		vaultCommands(environ),
		&cobra.Command{
			Use: "version", Short: "print the version", Args: cobra.NoArgs,
			Run: func(c *cobra.Command, _ []string) { _, _ = fmt.Fprintln(c.OutOrStdout(), Version) },
		},
	)
	root.AddCommand(operating(environ)...)
	root.AddCommand(calling(environ)...)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		return 1
	}
	return 0
}

// listening gives a command the flag of the address.
func listening(c *cobra.Command) *cobra.Command {
	c.Flags().String("listen", "", "address and port (TOLLKEY_LISTEN)")
	return c
}

// configured gives a command the flags of settings, and calls do with the configuration.
func configured(environ []string, c *cobra.Command, do func(*cobra.Command, *config.Config) error) *cobra.Command {
	c.Flags().String("data", "", "data directory (TOLLKEY_DATA)")
	file := c.Flags().String("config", "", "configuration file, in YAML (TOLLKEY_CONFIG)")
	if c.Args == nil {
		c.Args = cobra.NoArgs
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		in := config.Input{Flags: map[string]string{}, Environ: environ, File: *file}
		for _, name := range []string{"listen", "data"} {
			if f := c.Flags().Lookup(name); f != nil && f.Changed {
				in.Flags[name] = f.Value.String()
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
		ErrorBase: c.ErrorBase, PortalURL: c.PortalURL, TrustedProxies: c.TrustedProxies, MasterKeys: c.MasterKeys, LogSample: int64(c.LogSample),
	}
}

// gcPercent lets the heap grow to four times what is live before it is collected: what is live is small, and it saves a tenth of a busy server's work.
const gcPercent = 300

func serve(c *cobra.Command, settings *config.Config) error {
	var handler slog.Handler = slog.NewTextHandler(c.ErrOrStderr(), nil)
	if settings.LogJSON {
		handler = slog.NewJSONHandler(c.ErrOrStderr(), nil)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	file, err := keyFile(c.OutOrStdout(), settings)
	if err != nil {
		return fmt.Errorf("the file for the first root key: %w", err)
	}
	a, err := app.New(c.Context(), appConfig(settings), slog.New(handler))
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(c.OutOrStdout(), "Tollkey listens on http://%s\n", a.Address)
	if settings.RootKey == "" {
		if err := show(c.OutOrStdout(), a, file); err != nil {
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

func rootKeyFile(settings *config.Config) string { return filepath.Join(settings.Data, "root-key") }

// keyFile is where the first root key is kept when standard output is none that a person looks at. It is opened before the store is, so that no key is
// made that cannot be kept. Nil means that the key may be printed.
func keyFile(out io.Writer, settings *config.Config) (*os.File, error) {
	f, isFile := out.(*os.File)
	if settings.RootKey != "" || isFile && isatty.IsTerminal(f.Fd()) {
		return nil, nil
	}
	if err := os.MkdirAll(settings.Data, 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(rootKeyFile(settings), os.O_CREATE|os.O_RDWR, 0o600)
}

// show tells the first root key once, if there is one, and how to use it.
func show(out io.Writer, a *app.App, file *os.File) error {
	key := a.FirstKey
	if file != nil {
		defer func() { _ = file.Close() }()
		if key == "" {
			if info, err := file.Stat(); err == nil && info.Size() == 0 {
				return os.Remove(file.Name())
			}
			return nil
		}
		if _, err := file.WriteAt([]byte(key+"\n"), 0); err != nil {
			return err
		}
		if err := file.Sync(); err != nil {
			return err
		}
		key = "$(cat " + file.Name() + ")"
		_, _ = fmt.Fprintf(out, "The first root key is in %s.\n", file.Name())
	} else if key != "" {
		_, _ = fmt.Fprintf(out, "The first root key, shown this once:\n\n  %s\n", key)
	}
	if key != "" {
		_, _ = fmt.Fprintf(out, firstSteps, key, a.Address)
	}
	return nil
}

// firstSteps works in any POSIX shell as it is.
const firstSteps = `
Paste this to create an API and a key in it, and to verify the key:

  call() { curl -s "http://%[2]s/v2/$1" -H "Authorization: Bearer %[1]s" -H 'Content-Type: application/json' -d "$2"; }
  api=$(call apis.createApi '{"name":"my first API"}' | grep -o 'api_[0-9a-z]*')
  key=$(call keys.createKey '{"apiId":"'$api'","prefix":"demo"}' | grep -o 'demo_[0-9A-Za-z]*')
  call keys.verifyKey '{"key":"'$key'"}'

The API reference is at http://%[2]s/reference.

`
