package cli

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tollkey/tollkey/internal/app"
	"github.com/tollkey/tollkey/internal/config"
)

// audit is the command about the audit log.
func audit(environ []string) *cobra.Command {
	var known string
	verify := configured(environ, &cobra.Command{
		Use: "verify", Short: "prove that no entry of the audit log was changed or removed; a server may run meanwhile",
	}, func(c *cobra.Command, settings *config.Config) error {
		mark, err := parseMark(known)
		if err != nil {
			return err
		}
		last, err := app.VerifyAudit(c.Context(), appConfig(settings), mark)
		if err == nil {
			_, _ = fmt.Fprintf(c.OutOrStdout(), "The audit log is whole: %d entries, the last is %d:%x\n", last.Seq, last.Seq, last.Hash)
		}
		return err
	})
	verify.Flags().StringVar(&known, "known", "", "an entry as an earlier run printed it, `SEQ:HASH`: it must be there unchanged")
	parent := &cobra.Command{Use: "audit", Short: "the audit log"}
	parent.AddCommand(verify)
	return parent
}

func parseMark(text string) (m app.AuditMark, err error) {
	if text == "" {
		return m, nil
	}
	seq, hash, _ := strings.Cut(text, ":")
	n, failed := hex.Decode(m.Hash[:], []byte(hash[:min(len(hash), hex.EncodedLen(len(m.Hash)))]))
	m.Seq, err = strconv.ParseInt(seq, 10, 64)
	if err != nil || failed != nil || m.Seq < 1 || n != len(m.Hash) || len(hash) != hex.EncodedLen(n) {
		return m, errors.New("--known must be a number, a colon and 64 hexadecimal digits, as an earlier run printed them")
	}
	return m, nil
}
