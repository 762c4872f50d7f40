package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"
	"github.com/ogen-go/ogen/validate"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/api"
)

// invalid answers a request that does not fit the schema, naming everything that is wrong with it at once. The decoder stops at the first
// fault, so that on this path alone the body is checked again against the schema itself.
func (s *server) invalid(w http.ResponseWriter, r *http.Request, cause error) {
	e := tollkey.NewError(tollkey.CodeInvalid, tollkey.ReasonInvalidInput, r.Method+" "+r.URL.Path+" failed to validate schema.")
	var contentType *validate.InvalidContentTypeError
	if body, err := io.ReadAll(r.Body); err == nil && len(body) > 0 && !errors.As(cause, &contentType) { // the decoder puts back what it has read
		s.write(w, r, e, violations(r.URL.Path, body))
		return
	}
	s.write(w, r, e, []fault{{
		Location: "requestBody", Message: "The body or its content type cannot be used.", Fix: "Send a JSON object with Content-Type: application/json.",
	}})
}

// schemas compiles the request schema of every path, at the first need.
var schemas = sync.OnceValues(func() (map[string]*jsonschema.Schema, error) {
	asJSON, err := yaml.YAMLToJSON(api.OpenAPI)
	if err != nil {
		return nil, err
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		return nil, err
	}
	var spec struct {
		Paths map[string]struct {
			Post struct {
				RequestBody struct {
					Content map[string]struct {
						Schema struct {
							Ref string `json:"$ref"`
						} `json:"schema"`
					} `json:"content"`
				} `json:"requestBody"`
			} `json:"post"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(asJSON, &spec); err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	if err := compiler.AddResource("openapi.json", document); err != nil {
		return nil, err
	}
	out := map[string]*jsonschema.Schema{}
	for path, item := range spec.Paths {
		if ref := item.Post.RequestBody.Content["application/json"].Schema.Ref; ref != "" {
			if out[path], err = compiler.Compile("openapi.json" + ref); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
})

// violations lists everything that is wrong with a body: the location is the path of the violated keyword in the schema of the request. A body that fits
// the schema and still could not be decoded (1.0 for an integer) gives an empty list.
func violations(path string, body []byte) []fault {
	all, err := schemas()
	if err != nil || all[path] == nil {
		return nil
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return []fault{{Location: "requestBody", Message: "The body is not one JSON value.", Fix: "Send a JSON object."}}
	}
	var invalid *jsonschema.ValidationError
	if !errors.As(all[path].Validate(value), &invalid) {
		return nil
	}
	var out []fault
	collect(invalid, &out)
	slices.SortFunc(out, func(a, b fault) int { return strings.Compare(a.Location+a.Message, b.Location+b.Message) })
	return out
}

var english = message.NewPrinter(language.English)

func collect(e *jsonschema.ValidationError, out *[]fault) {
	if len(e.Causes) > 0 {
		for _, cause := range e.Causes {
			collect(cause, out)
		}
		return
	}
	var location strings.Builder
	for _, step := range e.InstanceLocation {
		if _, err := strconv.Atoi(step); err == nil {
			location.WriteString("/items")
		} else {
			location.WriteString("/properties/" + step)
		}
	}
	for _, step := range e.ErrorKind.KeywordPath() {
		location.WriteString("/" + step)
	}
	*out = append(*out, fault{Location: location.String(), Message: e.ErrorKind.LocalizedString(english)})
}
