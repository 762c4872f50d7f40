package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// print shows an answer: an object as a line for each field, a list as a table.
func (k *call) print(c *cobra.Command, a *reply, raw bool) error {
	if p := a.Meta.Propagation; p != nil && !p.Confirmed {
		_, _ = fmt.Fprintln(c.ErrOrStderr(), "Done, but not confirmed yet by", strings.Join(p.Silent, ", "))
	}
	if a.Pagination.HasMore {
		_, _ = fmt.Fprintln(c.ErrOrStderr(), "There are more: --cursor", printable(a.Pagination.Cursor))
	}
	var err error
	switch {
	case raw:
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n", a.Data)
	case k.columns != nil:
		err = k.printTable(c, a.Data)
	default:
		err = printObject(c, a.Data)
	}
	if err != nil {
		return err
	}
	var verdict struct {
		Valid *bool
		Code  string
	}
	if k.procedure == "keys.verifyKey" {
		if err := json.Unmarshal(a.Data, &verdict); err != nil {
			return err
		}
		if verdict.Valid == nil || !*verdict.Valid {
			return fmt.Errorf("the key is not valid: %s", printable(verdict.Code))
		}
	}
	return nil
}

func (k *call) printTable(c *cobra.Command, data json.RawMessage) error {
	var rows []map[string]json.RawMessage
	if err := json.Unmarshal(data, &rows); err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, strings.ToUpper(strings.Join(k.columns, "\t")))
	for _, row := range rows {
		cells := make([]string, len(k.columns))
		for i, name := range k.columns {
			cells[i] = "-"
			if value, ok := row[name]; ok {
				cells[i] = cell(name, value)
			}
		}
		_, _ = fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

func printObject(c *cobra.Command, data json.RawMessage) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	if len(fields) == 0 {
		_, err := fmt.Fprintln(c.OutOrStdout(), "Done.")
		return err
	}
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		_, _ = fmt.Fprintf(w, "%s\t%s\n", printable(name), cell(name, fields[name]))
	}
	return w.Flush()
}

// cell shows texts without quotes and moments as people read them; the rest stays JSON.
func cell(name string, value json.RawMessage) string {
	switch name {
	case "expires", "createdAt", "updatedAt", "lastUsedAt":
		var ms int64
		if json.Unmarshal(value, &ms) == nil {
			return time.UnixMilli(ms).UTC().Format(time.RFC3339)
		}
	}
	var s string
	if json.Unmarshal(value, &s) == nil {
		return printable(s)
	}
	return printable(string(value))
}

// printable keeps a name that somebody chose from steering the terminal or the table.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}
