package httpapi

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"

	"github.com/tollkey/tollkey/api"
)

//go:embed pages.gohtml
var pagesText string

var pages = template.Must(template.New("pages").Parse(pagesText))

// apiSpec is what the reference shows of openapi.yaml.
type apiSpec struct {
	Info struct {
		Version     string `yaml:"version"`
		Description string `yaml:"description"`
	} `yaml:"info"`
	Tags []struct {
		Name        string `yaml:"name"`
		Description string `yaml:"description"`
	} `yaml:"tags"`
	Paths      ordered[map[string]specOperation] `yaml:"paths"`
	Components struct {
		Schemas map[string]*specSchema `yaml:"schemas"`
	} `yaml:"components"`
}

type specOperation struct {
	ID          string                 `yaml:"operationId"`
	Tags        []string               `yaml:"tags"`
	Summary     string                 `yaml:"summary"`
	Description string                 `yaml:"description"`
	Permission  []string               `yaml:"x-permission"`
	RequestBody specContent            `yaml:"requestBody"`
	Responses   map[string]specContent `yaml:"responses"`
}

type specContent struct {
	Content map[string]struct {
		Schema  *specSchema `yaml:"schema"`
		Example any         `yaml:"example"`
	} `yaml:"content"`
}

type specSchema struct {
	Ref         string               `yaml:"$ref"`
	Type        any                  `yaml:"type"`
	Description string               `yaml:"description"`
	Properties  ordered[*specSchema] `yaml:"properties"`
	Required    []string             `yaml:"required"`
	Items       *specSchema          `yaml:"items"`
	OneOf       []*specSchema        `yaml:"oneOf"`
	Enum        []string             `yaml:"enum"`
	Default     any                  `yaml:"default"`
	MinLength   *int                 `yaml:"minLength"`
	MaxLength   *int                 `yaml:"maxLength"`
	Minimum     *int64               `yaml:"minimum"`
	Maximum     *int64               `yaml:"maximum"`
	Pattern     string               `yaml:"pattern"`
	Secret      bool                 `yaml:"x-secret"`
}

// ordered is a mapping whose keys keep the order of the file.
type ordered[T any] struct {
	keys []string
	of   map[string]T
}

// UnmarshalYAML implements yaml.InterfaceUnmarshaler.
func (o *ordered[T]) UnmarshalYAML(unmarshal func(any) error) error {
	var order yaml.MapSlice
	if err := unmarshal(&order); err != nil {
		return err
	}
	for _, item := range order {
		o.keys = append(o.keys, fmt.Sprint(item.Key))
	}
	return unmarshal(&o.of)
}

// What the template sees.
type (
	referencePage struct {
		Version, Description string
		Tags                 []referenceTag
	}
	referenceTag struct {
		Name, Description string
		Operations        []referenceOperation
	}
	referenceOperation struct {
		ID, Method, Path, Summary, Description string
		Permission                             []string
		Request, Answer                        []referenceField
		RequestExample, AnswerExample          string
	}
	referenceField struct {
		Name, Type, Rules, Text string
		Required                bool
	}
)

// reference serves the API reference, which needs nothing but this server.
func (s *server) reference(w http.ResponseWriter, _ *http.Request) {
	page, err := referenceHTML()
	if err != nil {
		s.Log.Error("the API reference cannot be shown", "error", err)
		http.Error(w, "the API reference cannot be shown", http.StatusInternalServerError)
		return
	}
	s.page(w, page)
}

func (s *server) page(w http.ResponseWriter, html []byte) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if _, err := w.Write(html); err != nil {
		s.Log.Debug("a page could not be sent", "error", err)
	}
}

var referenceHTML = sync.OnceValues(func() ([]byte, error) {
	var spec apiSpec
	if err := yaml.Unmarshal(api.OpenAPI, &spec); err != nil {
		return nil, err
	}
	page := referencePage{Version: spec.Info.Version, Description: spec.Info.Description}
	for _, tag := range spec.Tags {
		t := referenceTag{Name: tag.Name, Description: tag.Description}
		for _, path := range spec.Paths.keys {
			for method, op := range spec.Paths.of[path] {
				if slices.Contains(op.Tags, tag.Name) {
					t.Operations = append(t.Operations, spec.operation(method, path, &op))
				}
			}
		}
		page.Tags = append(page.Tags, t)
	}
	var out bytes.Buffer
	err := pages.ExecuteTemplate(&out, "reference", page)
	return out.Bytes(), err
})

func (s *apiSpec) operation(method, path string, op *specOperation) referenceOperation {
	request, answer := op.RequestBody.Content["application/json"], op.Responses["200"].Content["application/json"]
	return referenceOperation{
		ID: op.ID, Method: strings.ToUpper(method), Path: path, Summary: op.Summary, Description: op.Description, Permission: op.Permission,
		Request: s.fields(nil, "", request.Schema), Answer: s.fields(nil, "", answer.Schema),
		RequestExample: pretty(request.Example), AnswerExample: pretty(answer.Example),
	}
}

func pretty(example any) string {
	if example == nil {
		return ""
	}
	text, err := json.MarshalIndent(example, "", "  ")
	if err != nil {
		return fmt.Sprint(example)
	}
	return string(text)
}

func (s *apiSpec) resolve(schema *specSchema) *specSchema {
	for schema != nil && schema.Ref != "" {
		schema = s.Components.Schemas[strings.TrimPrefix(schema.Ref, "#/components/schemas/")]
	}
	return schema
}

// fields lists the fields of an object, those of objects within it by dotted names.
func (s *apiSpec) fields(list []referenceField, prefix string, schema *specSchema) []referenceField {
	schema = s.resolve(schema)
	if schema == nil {
		return list
	}
	for _, name := range schema.Properties.keys {
		f := s.resolve(schema.Properties.of[name])
		if f == nil {
			continue
		}
		list = append(list, referenceField{
			Name: prefix + name, Type: s.typeOf(f), Rules: rules(f), Text: f.Description, Required: slices.Contains(schema.Required, name),
		})
		inner, suffix := f, "."
		if f.Items != nil {
			inner, suffix = s.resolve(f.Items), "[]."
		}
		for _, branch := range append([]*specSchema{inner}, inner.OneOf...) {
			list = s.fields(list, prefix+name+suffix, branch)
		}
	}
	return list
}

func (s *apiSpec) typeOf(f *specSchema) string {
	f = s.resolve(f)
	switch t := f.Type.(type) {
	case string:
		if t == "array" && f.Items != nil {
			return s.typeOf(f.Items) + "[]"
		}
		return t
	case []any:
		names := make([]string, len(t))
		for i := range t {
			names[i] = fmt.Sprint(t[i])
		}
		return strings.Join(names, " or ")
	}
	names := make([]string, len(f.OneOf))
	for i := range f.OneOf {
		names[i] = s.typeOf(f.OneOf[i])
	}
	return strings.Join(names, " or ")
}

func rules(f *specSchema) string {
	var out []string
	if len(f.Enum) > 0 {
		out = append(out, strings.Join(f.Enum, " | "))
	}
	out = append(out, between(f.MinLength, f.MaxLength, " characters")...)
	out = append(out, between(f.Minimum, f.Maximum, "")...)
	if f.Pattern != "" {
		out = append(out, "matches "+f.Pattern)
	}
	if f.Default != nil {
		out = append(out, fmt.Sprintf("default %v", f.Default))
	}
	if f.Secret {
		out = append(out, "secret: never logged")
	}
	return strings.Join(out, "; ")
}

func between[T int | int64](low, high *T, unit string) []string {
	switch {
	case low != nil && high != nil:
		return []string{fmt.Sprintf("%d to %d%s", *low, *high, unit)}
	case low != nil:
		return []string{fmt.Sprintf("at least %d%s", *low, unit)}
	case high != nil:
		return []string{fmt.Sprintf("at most %d%s", *high, unit)}
	}
	return nil
}

// errorEntry is one line of api/errors.yaml.
type errorEntry struct {
	Type   string `yaml:"type"`
	Status int    `yaml:"status"`
	Title  string `yaml:"title"`
	Means  string `yaml:"means"`
	Do     string `yaml:"do"`
}

var errorRegistry = sync.OnceValues(func() (list []errorEntry, err error) {
	return list, yaml.UnmarshalWithOptions(api.Errors, &list, yaml.Strict())
})

// errorPage serves the page of one error type, and at /docs/errors/ the list of all.
func (s *server) errorPage(w http.ResponseWriter, r *http.Request) {
	list, err := errorRegistry()
	var out bytes.Buffer
	name := strings.Trim(strings.TrimPrefix(r.URL.Path, "/docs/errors"), "/")
	i := slices.IndexFunc(list, func(e errorEntry) bool { return e.Type == name })
	switch {
	case err != nil:
	case name == "":
		err = pages.ExecuteTemplate(&out, "errors", list)
	case i < 0:
		http.NotFound(w, r)
		return
	default:
		err = pages.ExecuteTemplate(&out, "error", list[i])
	}
	if err != nil {
		s.Log.Error("a page of the manual cannot be shown", "page", r.URL.Path, "error", err)
		http.Error(w, "the page cannot be shown", http.StatusInternalServerError)
		return
	}
	s.page(w, out.Bytes())
}
