package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tollkey/tollkey/internal/config"
)

// importing is the command that brings keys from elsewhere to a server.
func importing(environ []string) *cobra.Command {
	c := &cobra.Command{
		Use: "import FILE", Short: "import keys from elsewhere by their hashes", Args: cobra.ExactArgs(1),
		Long: `Import keys from elsewhere by their hashes. FILE is CSV with the names of the columns in its first line, or has a JSON object on each line.

An import that was interrupted goes on where it was when it is started again; to repeat it does no harm. Lines that are rejected are told
with their number and the reason on standard error, and make the exit code 1. The root key is TOLLKEY_ROOT_KEY, or else what the first start
has left in the file root-key of the data directory.`,
	}
	j := importJob{into: map[string]any{}}
	flags := c.Flags()
	server := flags.String("server", defaultServer, "`URL` of the server")
	api := flags.String("api", "", "`ID` of the API that the keys are for")
	migration := flags.String("migration", "", "`ID` of the migration that says how they are hashed")
	flags.StringVar(&j.format, "format", "", "csv or jsonl; otherwise what the end of FILE's name says")
	flags.StringVar(&j.preset, "preset", "table", "whose export it is: "+strings.Join(slices.Sorted(maps.Keys(presets)), ", "))
	flags.IntVar(&j.batch, "batch", 1000, "how many keys go in one call, a `NUMBER` from 1 to 10000")
	_ = c.MarkFlagRequired("api") // the flags exist
	_ = c.MarkFlagRequired("migration")
	return configured(environ, c, func(c *cobra.Command, settings *config.Config) error {
		var err error
		if len(*api) < 3 || len(*migration) < 3 {
			return errors.New("--api and --migration must be ids")
		}
		j.into["apiId"], j.into["migrationId"] = *api, *migration
		if j.client, err = newClient(*server, settings); err != nil {
			return err
		}
		j.file, j.log = c.Flags().Arg(0), c.ErrOrStderr()
		err = j.run(c.Context())
		_, _ = fmt.Fprintf(c.OutOrStdout(), "%d keys imported, %d were there already, %d lines rejected.\n", j.state.Imported, j.state.Known, j.state.Rejected)
		if err == nil && j.state.Rejected > 0 {
			err = errors.New("some lines were rejected")
		}
		return err
	})
}

// importJob is one run of the command.
type importJob struct {
	client         *client
	file           string
	format, preset string
	batch          int
	into           map[string]any // the API and the migration, as the request names them
	log            io.Writer
	state          importState
	told           time.Time
}

// importState is what a run leaves beside the file for one that goes on.
type importState struct {
	Target                    string // what is imported to where; another target begins anew
	Line                      int    // all up to it is done
	Imported, Known, Rejected int
}

// item is a key on its way, with its line.
type item struct {
	line int
	key  json.RawMessage
}

func (j *importJob) statePath() string { return j.file + ".import-state" }

func (j *importJob) run(ctx context.Context) error {
	if j.format == "" {
		j.format = strings.TrimPrefix(strings.ReplaceAll(filepath.Ext(j.file), "ndjson", "jsonl"), ".")
	}
	convert, known := presets[j.preset]
	switch {
	case j.format != "csv" && j.format != "jsonl":
		return errors.New("--format must be csv or jsonl")
	case !known:
		return errors.New("--preset must be one of " + strings.Join(slices.Sorted(maps.Keys(presets)), ", "))
	case j.batch < 1 || j.batch > 10_000:
		return errors.New("--batch must be a number from 1 to 10000")
	}
	in, err := os.Open(j.file)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	if err := j.resume(in); err != nil {
		return err
	}
	all, err := newRecords(j.format, in)
	if err != nil {
		return err
	}
	if err := j.readAll(ctx, all, convert); err != nil {
		return err
	}
	if err := os.Remove(j.statePath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// resume reads how far an earlier run of the same import came.
func (j *importJob) resume(in *os.File) error {
	info, err := in.Stat()
	if err != nil {
		return err
	}
	target := fmt.Sprintf("%v %s %s %s %d %d", j.into, j.client.server, j.preset, j.format, info.Size(), info.ModTime().UnixNano())
	content, err := os.ReadFile(j.statePath())
	if err == nil && json.Unmarshal(content, &j.state) == nil && j.state.Target == target {
		_, _ = fmt.Fprintf(j.log, "An earlier run came to line %d; this one goes on behind it.\n", j.state.Line)
		return nil
	}
	j.state = importState{Target: target}
	return nil
}

// readAll sends the records in batches, whose bodies stay below the server's 10 MiB.
func (j *importJob) readAll(ctx context.Context, all records, convert preset) error {
	const maxBody = 8 << 20
	var batch []item
	size, last := 0, 0
	flush := func() error {
		if err := j.send(ctx, batch); err != nil {
			return err
		}
		batch, size = batch[:0], 0
		return j.done(last)
	}
	for done := j.state.Line; ; {
		line, r, err := all.next()
		if errors.Is(err, io.EOF) {
			return flush()
		}
		var wrong *badLine
		if err != nil && !errors.As(err, &wrong) {
			return err
		}
		if line <= done {
			continue
		}
		var key json.RawMessage
		if err == nil {
			key, err = encode(convert, r)
		}
		if err != nil {
			j.reject(line, err.Error())
			last = line
			continue
		}
		if len(batch) == j.batch || len(batch) > 0 && size+len(key) > maxBody {
			if err := flush(); err != nil {
				return err
			}
		}
		batch, size, last = append(batch, item{line, key}), size+len(key)+1, line
	}
}

func encode(convert preset, r record) (json.RawMessage, error) {
	key, err := convert(r)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	err = e.Encode(key)
	return bytes.TrimSpace(text.Bytes()), err
}

func (j *importJob) reject(line int, reason string) {
	j.state.Rejected++
	_, _ = fmt.Fprintf(j.log, "line %d: %s\n", line, reason)
}

// send imports a batch. Where the server refuses a whole batch for the sake of some, it is sent in halves, down to those that are at fault.
func (j *importJob) send(ctx context.Context, batch []item) error {
	if len(batch) == 0 {
		return nil
	}
	keys := make([]json.RawMessage, len(batch))
	for i := range batch {
		keys[i] = batch[i].key
	}
	body := map[string]any{"keys": keys}
	maps.Copy(body, j.into)
	a, err := j.client.call(ctx, "keys.migrateKeys", body)
	var refused *refusal
	switch {
	case errors.As(err, &refused) && (refused.status == http.StatusBadRequest || refused.status == http.StatusRequestEntityTooLarge):
		if len(batch) == 1 {
			j.reject(batch[0].line, refused.text)
			return nil
		}
		half := len(batch) / 2
		if err := j.send(ctx, batch[:half]); err != nil {
			return err
		}
		return j.send(ctx, batch[half:])
	case err != nil:
		return fmt.Errorf("%w\nWhat was imported stays. Start the same command again to go on", err)
	}
	var data struct {
		Migrated []json.RawMessage
		Failed   []string
	}
	if err := json.Unmarshal(a.Data, &data); err != nil {
		return err
	}
	j.state.Imported += len(data.Migrated)
	j.state.Known += len(batch) - len(data.Migrated) // there before, or twice in this batch
	return nil
}

// done writes down that all up to line is done, and tells of it now and then.
func (j *importJob) done(line int) error {
	j.state.Line = max(j.state.Line, line)
	if time.Since(j.told) > time.Second {
		j.told = time.Now()
		_, _ = fmt.Fprintf(j.log, "line %d: %d imported, %d were there already, %d rejected\n", j.state.Line, j.state.Imported, j.state.Known, j.state.Rejected)
	}
	content, err := json.Marshal(j.state)
	if err != nil {
		return err
	}
	next := j.statePath() + ".new"
	if err := os.WriteFile(next, content, 0o600); err != nil {
		return err
	}
	return os.Rename(next, j.statePath())
}
