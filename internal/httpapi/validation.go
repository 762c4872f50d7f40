package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/api"
)

// undecodable answers a request whose body could not be decoded, naming everything that is wrong with it at once. The decoder stops at the first
// fault, so that on this path alone the body is checked again against the schema itself. What fits the schema and still cannot be decoded is refused
// after the caller is known.
func (s *server) undecodable(ctx context.Context, w http.ResponseWriter, r *http.Request, cause error) {
	faults := []fault{{
		Location: "requestBody", Message: "The body or its content type cannot be used.", Fix: "Send a JSON object with Content-Type: application/json.",
	}}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	body, err2 := io.ReadAll(r.Body) // the decoder puts back what it has read
	if errors.Join(err, err2) == nil && media == plain && len(body) > 0 {
		faults = violations(r.URL.Path, body, cause)
	}
	if len(faults) > 0 {
		s.invalid(w, r, r.Method+" "+r.URL.Path+" failed to validate schema.", faults...)
	} else if err := s.admit(ctx, eventOf(ctx)); err != nil {
		s.fail(ctx, w, r, err)
	} else {
		s.fail(ctx, w, r, tollkey.Invalid("", "The body could not be decoded. Integers have neither fraction nor exponent, and fit 64 bits."))
	}
}

// invalid answers a request that does not fit the schema: whatever Accept says, in the type by which the official clients know it.
func (s *server) invalid(w http.ResponseWriter, r *http.Request, detail string, faults ...fault) {
	e := tollkey.Invalid("", detail)
	s.write(w, r, e, faults, knownType(r, e))
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

// violations lists everything that is wrong with a body: the location is the path of the violated keyword in the schema of the request.
// Of a large body only the decoder's fault, cause, is named: the caller is not known yet, and a list can cost a million times what its body cost to send.
func violations(path string, body []byte, cause error) []fault {
	all, err := schemas()
	if err != nil || all[path] == nil {
		return nil
	}
	first := []fault{{Location: "requestBody", Message: "Only the first fault of this body is named: " + cause.Error()}}
	if len(body) > maxListed {
		return first
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return []fault{{Location: "requestBody", Message: "The body is not one JSON value.", Fix: "Send a JSON object."}}
	}
	if left := maxValues; !modest(value, &left) {
		return first
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

// Bodies up to here have all their faults listed: bytes, and JSON values.
const (
	maxListed = 256 << 10
	maxValues = 4000
)

// modest reports whether a value holds at most left others, and no number that is costly to compare.
func modest(value any, left *int) bool {
	if *left--; *left < 0 {
		return false
	}
	switch value := value.(type) {
	case json.Number:
		exponent := strings.IndexAny(string(value), "eE")
		return len(value) < 400 && (exponent < 0 || len(value)-exponent < 6)
	case []any:
		for _, child := range value {
			if !modest(child, left) {
				return false
			}
		}
	case map[string]any:
		for _, child := range value {
			if !modest(child, left) {
				return false
			}
		}
	}
	return true
}

func collect(e *jsonschema.ValidationError, out *[]fault) {
	if len(e.Causes) > 0 {
		_, choice := e.ErrorKind.(*kind.OneOf)
		for _, cause := range e.Causes {
			if t, ok := cause.ErrorKind.(*kind.Type); !choice || !ok || !slices.Equal(t.Want, []string{"null"}) { // a value is meant to be a value
				collect(cause, out)
			}
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
	*out = append(*out, fault{Location: location.String(), Message: messageOf(e.ErrorKind)})
}

// english of this kind does not group digits.
var english = message.NewPrinter(language.MustParse("en-US-u-va-posix"))

func messageOf(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.AdditionalProperties:
		slices.Sort(k.Properties)
	case *kind.Minimum:
		return "minimum: got " + decimal(k.Got) + ", want " + decimal(k.Want)
	case *kind.Maximum:
		return "maximum: got " + decimal(k.Got) + ", want " + decimal(k.Want)
	}
	return k.LocalizedString(english)
}

func decimal(r *big.Rat) string {
	f, _ := r.Float64()
	return strconv.FormatFloat(f, 'f', -1, 64)
}
