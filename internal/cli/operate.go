package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tollkey/tollkey/internal/app"
	"github.com/tollkey/tollkey/internal/config"
)

// operating lists the commands that look after a store.
func operating(environ []string) []*cobra.Command {
	restoring := &cobra.Command{
		Use: "restore [FILE]", Args: cobra.MaximumNArgs(1),
		Short: "put a backup into the data directory of a stopped server",
		Long: `Put a backup into the data directory of a stopped server. Everything is again as it was at the moment of the backup: keys that were deleted
since exist again, credits spent since are there again. If it fails or is killed, the store is what it was before.

With --epoch-only and no FILE nothing is copied: it makes servers drop what they have cached, as is needed after pg_restore and before they start.`,
	}
	restoring.Flags().Bool("force", false, "replace the store that is there")
	restoring.Flags().Bool("epoch-only", false, "only make every cache of the store invalid")
	return []*cobra.Command{
		configured(environ, &cobra.Command{
			Use: "backup FILE", Args: cobra.ExactArgs(1),
			Short: "copy the store, as it is at one moment, into one file; a server may run meanwhile",
		}, backup),
		configured(environ, restoring, restore),
		configured(environ, &cobra.Command{Use: "doctor", Short: "look at all that a server needs, beside a running one or without; exit 1 if something fails"}, doctor),
	}
}

func backup(c *cobra.Command, settings *config.Config) error {
	path := c.Flags().Arg(0)
	size, err := app.Backup(c.Context(), appConfig(settings), path)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(c.OutOrStdout(), "The store is in %s, %d bytes.\n", path, size)
	return nil
}

func restore(c *cobra.Command, settings *config.Config) error {
	force, _ := c.Flags().GetBool("force")
	epochOnly, _ := c.Flags().GetBool("epoch-only")
	path := c.Flags().Arg(0)
	switch {
	case epochOnly && (path != "" || force):
		return errors.New("--epoch-only copies nothing: it takes neither FILE nor --force")
	case epochOnly:
		if err := app.NewEpoch(c.Context(), appConfig(settings)); err != nil {
			return err
		}
		_, _ = fmt.Fprintln(c.OutOrStdout(), "The store has a new epoch; nothing that was cached of it is used any more.")
		return nil
	case path == "":
		return errors.New("FILE is missing: what `tollkey backup` has written")
	}
	err := app.Restore(c.Context(), appConfig(settings), path, force)
	if errors.Is(err, app.ErrStoreExists) {
		return fmt.Errorf("%w in %s; --force replaces it", err, settings.Data)
	}
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(c.OutOrStdout(), "%s is restored into %s.\n", path, settings.Data)
	return nil
}

func doctor(c *cobra.Command, settings *config.Config) error {
	failed := 0
	_, _ = fmt.Fprintf(c.OutOrStdout(), "%-4s  %s\n", app.OK, "configuration: is valid; `tollkey config` shows it")
	for _, check := range app.Doctor(c.Context(), appConfig(settings)) {
		_, _ = fmt.Fprintf(c.OutOrStdout(), "%-4s  %s: %s\n", check.Level, check.Name, check.Says)
		if check.Level == app.Fail {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d checks failed", failed)
	}
	return nil
}
