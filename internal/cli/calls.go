package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/tollkey/tollkey/internal/config"
)

// call is a command that calls one procedure. All that it knows of the procedure is how fields are spelled on the command line.
type call struct {
	use, short, procedure string
	argument              string // the field of the one argument, or ""
	stdin                 string // the field that is read from standard input, or ""
	fields                []field
	clears                bool     // an empty value means null
	columns               []string // of the table, where the answer is a list
}

// field is a flag for one field of the body; path leads to it through objects.
type field struct {
	flag, path string
	kind       kind
	usage      string
	required   bool
}

var (
	apiField  = field{"api", "apiId", text, "`ID` of the API", true}
	pageLimit = field{"limit", "limit", whole, "how many, a `NUMBER` from 1 to 100", false}
	pageFrom  = field{"cursor", "cursor", text, "where the `PAGE` begins, as the page before has said", false}
	// keyFields are what a key is made with and what can be changed.
	keyFields = []field{
		{"name", "name", text, "`NAME` for people", false},
		{"external-id", "externalId", text, "`ID` of the customer", false},
		{"meta", "meta", object, "any data, a `JSON` object", false},
		{"expires-in", "expires", fromNow, "`TIME` from now, as in 90m or 720h", false},
		{"enabled", "enabled", yesNo, "whether it can be used", false},
		{"credits", "credits.remaining", whole, "`NUMBER` of credits", false},
		{"refill", "credits.refill", refills, "`AMOUNT/daily` or AMOUNT/monthly/DAY", false},
		{"ratelimit", "ratelimits", rateLimits, "`NAME:LIMIT/TIME`, as in requests:100/1m; may be repeated", false},
		{"permission", "permissions", list, "`SLUG` of a permission; may be repeated", false},
		{"role", "roles", list, "`NAME` of a role; may be repeated", false},
	}
)

var keyCalls = []call{
	{
		use: "create", short: "create a key and print its secret, which is shown this once", procedure: "keys.createKey",
		fields: append([]field{apiField, {"prefix", "prefix", text, "`WORD` that the secret begins with", false}}, keyFields...),
	},
	{use: "get KEY_ID", short: "print a key", procedure: "keys.getKey", argument: "keyId"},
	{
		use: "list", short: "list the keys of an API", procedure: "apis.listKeys",
		fields:  []field{apiField, {"external-id", "externalId", text, "only those of this customer's `ID`", false}, pageLimit, pageFrom},
		columns: []string{"keyId", "start", "name", "enabled", "expires", "createdAt", "lastUsedAt"},
	},
	{
		use: "verify", short: "verify the key on standard input; exit 1 if it is not valid", procedure: "keys.verifyKey", stdin: "key",
		fields: []field{
			{"cost", "credits.cost", whole, "`NUMBER` of credits to spend", false},
			{"permissions", "permissions", text, "`QUERY`, as in 'documents.read AND documents.write'", false},
		},
	},
	{
		use: "update KEY_ID", short: "change a key; an empty value clears", procedure: "keys.updateKey", argument: "keyId",
		fields: keyFields, clears: true,
	},
	{
		use: "reroll KEY_ID", short: "make another secret for a key, and print it this once", procedure: "keys.rerollKey", argument: "keyId",
		fields: []field{{"old-expires-in", "expiration", duration, "`TIME` for which the old secret goes on to work, as in 24h, or 0s", true}},
	},
	{
		use: "delete KEY_ID", short: "delete a key", procedure: "keys.deleteKey", argument: "keyId",
		fields: []field{{"permanent", "permanent", yesNo, "leave nothing of it in the store", false}},
	},
}

var apiCalls = []call{
	{use: "create NAME", short: "create an API", procedure: "apis.createApi", argument: "name"},
	{use: "get API_ID", short: "print an API", procedure: "apis.getApi", argument: "apiId"},
	{use: "list", short: "list the APIs", procedure: "apis.listApis", fields: []field{pageLimit, pageFrom}, columns: []string{"id", "name", "keyCount"}},
	{use: "delete API_ID", short: "delete an API, and with it all its keys", procedure: "apis.deleteApi", argument: "apiId"},
}

// calling lists the commands that call a server.
func calling(environ []string) []*cobra.Command {
	group := func(use, short string, calls []call) *cobra.Command {
		parent := &cobra.Command{
			Use: use, Short: short, Args: cobra.NoArgs,
			Long: short + "\n\nThe root key is TOLLKEY_ROOT_KEY, or else what the first start has left in the file root-key of the data directory.",
			RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
		}
		for i := range calls {
			parent.AddCommand(calls[i].command(environ))
		}
		return parent
	}
	return []*cobra.Command{
		group("keys", "create, look at, verify and change keys on a server", keyCalls),
		group("apis", "create and look at APIs on a server", apiCalls),
	}
}

func (k *call) command(environ []string) *cobra.Command {
	c := &cobra.Command{Use: k.use, Short: k.short, Args: cobra.NoArgs}
	if k.argument != "" {
		c.Args = cobra.ExactArgs(1)
	}
	server := c.Flags().String("server", defaultServer, "`URL` of the server")
	raw := c.Flags().Bool("json", false, "print the data as the server has sent it")
	given := make([]*[]string, len(k.fields))
	for i, f := range k.fields {
		given[i] = c.Flags().StringArray(f.flag, nil, f.usage)
		if f.required {
			_ = c.MarkFlagRequired(f.flag) // the flag exists
		}
		if f.kind.onItsOwn != "" {
			c.Flags().Lookup(f.flag).NoOptDefVal = f.kind.onItsOwn
		}
	}
	return configured(environ, c, func(c *cobra.Command, settings *config.Config) error {
		body, err := k.body(c, given)
		if err != nil {
			return err
		}
		to, err := newClient(*server, settings)
		if err != nil {
			return err
		}
		a, err := to.call(c.Context(), k.procedure, body)
		if err != nil {
			return err
		}
		return k.print(c, a, *raw)
	})
}

// body is the request: the argument, standard input, and the flags that were given.
func (k *call) body(c *cobra.Command, given []*[]string) (map[string]any, error) {
	body := map[string]any{}
	if k.argument != "" {
		body[k.argument] = c.Flags().Arg(0)
	}
	for i, f := range k.fields {
		if !c.Flags().Changed(f.flag) {
			continue
		}
		values := *given[i]
		var value any
		if empty := len(values) == 1 && values[0] == ""; !empty || !k.clears || f.kind.many {
			var err error
			if value, err = f.kind.parse(values); err != nil {
				return nil, fmt.Errorf("--%s %w", f.flag, err)
			}
		}
		into, path := body, strings.Split(f.path, ".")
		for _, name := range path[:len(path)-1] {
			inner, ok := into[name].(map[string]any)
			if !ok {
				inner = map[string]any{}
				into[name] = inner
			}
			into = inner
		}
		into[path[len(path)-1]] = value
	}
	if k.stdin == "" {
		return body, nil
	}
	secret, err := readSecret(c)
	body[k.stdin] = secret
	return body, err
}

// readSecret takes all of standard input but the space around it.
func readSecret(c *cobra.Command) (string, error) {
	const longest = 1 << 16
	if f, ok := c.InOrStdin().(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		_, _ = fmt.Fprintln(c.ErrOrStderr(), "Enter the key, and then end the input (Ctrl-D):")
	}
	content, err := io.ReadAll(io.LimitReader(c.InOrStdin(), longest))
	if err != nil {
		return "", err
	}
	secret := strings.TrimSpace(string(content))
	if secret == "" {
		return "", errors.New("standard input holds no key")
	}
	return secret, nil
}
