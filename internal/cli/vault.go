package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tollkey/tollkey/internal/app"
	"github.com/tollkey/tollkey/internal/config"
	"github.com/tollkey/tollkey/internal/vault"
)

// vaultCommands look after the master keys of recoverable keys.
func vaultCommands(environ []string) *cobra.Command {
	parent := &cobra.Command{Use: "vault", Short: "look after the master keys of recoverable keys"}
	discard := &cobra.Command{Use: "discard", Short: "delete, for ever, the stored secrets that no master key opens"}
	sure := discard.Flags().Bool("yes", false, "do it")
	parent.AddCommand(
		&cobra.Command{
			Use: "new-key", Short: "print a new master key, as vault.keys and vault.keyFile take it", Args: cobra.NoArgs,
			Run: func(c *cobra.Command, _ []string) {
				_, _ = fmt.Fprintln(c.OutOrStdout(), vault.NewMasterKey(time.Now()).Entry())
			},
		},
		configured(environ, &cobra.Command{Use: "rotate", Short: "wrap all data keys with the first master key"}, rotate),
		configured(environ, discard, func(c *cobra.Command, settings *config.Config) error {
			if !*sure {
				return errors.New("the secrets could never be read again; say --yes if the master key is lost for good")
			}
			dataKeys, secrets, err := app.DiscardSecrets(c.Context(), appConfig(settings))
			_, _ = fmt.Fprintf(c.OutOrStdout(), "Deleted %d data keys that could not be opened, and %d secrets. The keys themselves work on.\n", dataKeys, secrets)
			return err
		}),
	)
	return parent
}

func rotate(c *cobra.Command, settings *config.Config) error {
	done, err := app.RewrapDataKeys(c.Context(), appConfig(settings))
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(c.OutOrStdout(), "%d data keys are wrapped with the master key %s now, %d were before. No other master key is needed any more.\n",
		done.Done, settings.MasterKeys[0].ID, done.Already)
	return nil
}
