package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/tollkey/tollkey/internal/config"
)

const defaultServer = "http://127.0.0.1:8080"

// client calls a server's HTTP API.
type client struct{ server, rootKey string }

// reply is what any procedure answers.
type reply struct {
	Meta struct {
		Propagation *struct {
			Confirmed bool
			Silent    []string
		}
	}
	Data       json.RawMessage
	Pagination struct {
		Cursor  string
		HasMore bool
	}
	Error *struct {
		Title, Detail string
		Errors        []struct{ Location, Message string }
	}
}

// newClient takes the root key from the settings, or from where the first start has left it.
func newClient(server string, settings *config.Config) (*client, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("--server must be an http or https URL without user, query and fragment, as in " + defaultServer)
	}
	key := settings.RootKey
	if key == "" {
		content, err := os.ReadFile(rootKeyFile(settings))
		if err != nil {
			return nil, fmt.Errorf("no root key: TOLLKEY_ROOT_KEY is not set, and %w", err)
		}
		if key = strings.TrimSpace(string(content)); key == "" {
			return nil, fmt.Errorf("no root key: TOLLKEY_ROOT_KEY is not set, and %s is empty", rootKeyFile(settings))
		}
	}
	return &client{server: strings.TrimRight(server, "/"), rootKey: key}, nil
}

// call posts a body. Any answer but a success is an error that says what the server said.
func (c *client) call(ctx context.Context, procedure string, body any) (*reply, error) {
	const patience, longest = 70 * time.Second, 64 << 20
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	sent, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.server+"/v2/"+procedure, bytes.NewReader(sent))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+c.rootKey)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "tollkey/"+Version)
	// A redirect would take the root key elsewhere.
	h := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := h.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	content, err := io.ReadAll(io.LimitReader(resp.Body, longest))
	if err != nil {
		return nil, err
	}
	var a reply
	if err := json.Unmarshal(content, &a); err != nil || resp.StatusCode != http.StatusOK && a.Error == nil {
		return nil, fmt.Errorf("%s answered %s with %s, as no Tollkey of this version does", c.server, procedure, resp.Status)
	}
	if a.Error == nil {
		return &a, nil
	}
	text := printable(a.Error.Title + ": " + a.Error.Detail)
	for _, e := range a.Error.Errors {
		text += "\n  " + printable(e.Location+": "+e.Message)
	}
	return nil, &refusal{resp.StatusCode, text}
}

// refusal is an error that the server has answered.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }
