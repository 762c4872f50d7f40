package app

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/tools/txtar"
)

// description is api/openapi.yaml as what it is for the answers: closed, so that a field that it does not name is a fault.
type description struct {
	compiler *jsonschema.Compiler
	paths    map[string]map[string]struct {
		Responses map[string]struct {
			Content map[string]any `json:"content"`
		} `json:"responses"`
	}
}

var described = sync.OnceValues(func() (*description, error) {
	source, err := os.ReadFile("../../api/openapi.yaml")
	if err != nil {
		return nil, err
	}
	asJSON, err := yaml.YAMLToJSON(source)
	if err != nil {
		return nil, err
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		return nil, err
	}
	closeObjects(document)
	d := &description{compiler: jsonschema.NewCompiler()}
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	if err := d.compiler.AddResource("openapi.json", document); err != nil {
		return nil, err
	}
	return d, json.Unmarshal(asJSON, &struct{ Paths any }{&d.paths})
})

// closeObjects refuses, in every object whose properties are named, all others.
func closeObjects(node any) {
	switch node := node.(type) {
	case []any:
		for _, child := range node {
			closeObjects(child)
		}
	case map[string]any:
		for _, child := range node {
			closeObjects(child)
		}
		if _, named := node["properties"].(map[string]any); named && node["additionalProperties"] == nil {
			node["additionalProperties"] = false
		}
	}
}

var compiling sync.Mutex // a compiler is for one goroutine

func (d *description) compile(pointer string) (*jsonschema.Schema, error) {
	compiling.Lock()
	defer compiling.Unlock()
	return d.compiler.Compile("openapi.json#" + pointer)
}

// fits checks that an answer is one that the description gives for its path and status.
func fits(t *testing.T, r *http.Request, resp *http.Response, body []byte) {
	t.Helper()
	d, err := described()
	if err != nil {
		t.Fatal(err)
	}
	media := resp.Header.Get("Content-Type")
	responses := d.paths[r.URL.Path][strings.ToLower(r.Method)].Responses
	if responses == nil || r.Method == http.MethodHead {
		if strings.Contains(media, "json") && r.Method != http.MethodHead {
			t.Errorf("%s %s is not described and answers %d %s", r.Method, r.URL.Path, resp.StatusCode, media)
		}
		return
	}
	pointer := "/components/schemas/ErrorResponse"
	if resp.StatusCode == http.StatusOK {
		pointer = "/paths/" + strings.ReplaceAll(r.URL.Path, "/", "~1") + "/" + strings.ToLower(r.Method) + "/responses/200/content/application~1json/schema"
	}
	schema, err := d.compile(pointer)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err == nil {
		err = schema.Validate(answer)
	}
	if err != nil {
		t.Errorf("%s answers %d with what api/openapi.yaml does not say: %v\n%s", r.URL.Path, resp.StatusCode, err, body)
	}
	if resp.StatusCode == http.StatusOK && media != "application/json" || media != "application/json" && media != "application/problem+json" {
		t.Errorf("%s answers %d as %s", r.URL.Path, resp.StatusCode, media)
	}
	if resp.StatusCode != http.StatusOK {
		fitsError(t, resp.StatusCode, body)
	}
}

// fitsError checks what the contract says of errors and a schema cannot.
func fitsError(t *testing.T, status int, body []byte) {
	t.Helper()
	var answer struct {
		Error struct {
			Status int
			Errors *[]any
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Error(err)
	}
	listed := slices.Contains([]int{400, 408, 413, 499}, status)
	if answer.Error.Status != status || (answer.Error.Errors != nil) != listed {
		t.Errorf("status %d, error %s", status, body)
	}
}

// TestTranscriptsAreComplete holds the transcripts to every endpoint that is described: each is asked, and once at least with success.
func TestTranscriptsAreComplete(t *testing.T) {
	d, err := described()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../../testdata/http/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	succeeded := map[string]bool{}
	for _, file := range files {
		recorded, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, section := range recorded.Files {
			if i > 0 && strings.HasPrefix(section.Name, "200 ") {
				succeeded[recorded.Files[i-1].Name] = true
			}
		}
	}
	for path, methods := range d.paths {
		for method := range methods {
			if !succeeded[strings.ToUpper(method)+" "+path] {
				t.Errorf("no transcript has %s %s answered with 200", strings.ToUpper(method), path)
			}
		}
	}
}
