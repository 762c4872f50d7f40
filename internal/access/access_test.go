package access

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestQuery(t *testing.T) {
	held := NewGrants([]string{"a", "b", "api.*", "ANDROID", "a.AND", "x/y"})
	for query, want := range map[string]bool{
		"a": true, "c": false, "a AND b": true, "a and c": false, "c or a": true, "c OR d": false,
		"a OR c AND d": true, "(a OR c) AND d": false, "c AND d OR a": true,
		"api.*": true, "api.read": false, "ANDROID": true, "a.AND And b": true, "((a))": true, "x/y": true, "\ta\r\nOR\nc ": true, "A": false,
	} {
		q, err := Parse(query)
		if err != nil {
			t.Errorf("Parse(%q): %v", query, err)
		} else if got := q.Satisfied(held.Has); got != want {
			t.Errorf("%q satisfied: %v, want %v", query, got, want)
		}
	}
}

func TestQuerySyntaxErrors(t *testing.T) {
	for query, at := range map[string]int{
		"": 0, "   ": 3, "AND a": 0, "a AND": 5, "a b": 2, "a(b)": 1, "(a)(b)": 3, "()": 1, "permission_1 AND ()": 18,
		"(permission_1 AND permission_2": 30, "a)": 1, "a\x00 AND b": 1, "@a": 0, "é": 0, "a AND AND b": 6, "a,b": 1, "(a OR": 5,
	} {
		_, err := Parse(query)
		var syntax *SyntaxError
		if !errors.As(err, &syntax) {
			t.Errorf("Parse(%q): %v, want a syntax error", query, err)
		} else if syntax.Position != at {
			t.Errorf("Parse(%q) at %d, want %d", query, syntax.Position, at)
		}
	}
	if _, err := Parse(strings.Repeat("(", 1000)); err == nil {
		t.Error("a thousand open parentheses are no query")
	}
}

// reference evaluates the grammar by recursive descent over tokens: slow, and written another way than Parse.
type reference struct {
	tokens []string
	has    func(string) bool
}

func (r *reference) or() bool {
	v := r.and()
	for len(r.tokens) > 0 && strings.EqualFold(r.tokens[0], "or") {
		r.tokens = r.tokens[1:]
		w := r.and()
		v = v || w
	}
	return v
}

func (r *reference) and() bool {
	v := r.primary()
	for len(r.tokens) > 0 && strings.EqualFold(r.tokens[0], "and") {
		r.tokens = r.tokens[1:]
		w := r.primary()
		v = v && w
	}
	return v
}

func (r *reference) primary() bool {
	token := r.tokens[0]
	r.tokens = r.tokens[1:]
	if token != "(" {
		return r.has(token)
	}
	v := r.or()
	r.tokens = r.tokens[1:]
	return v
}

func generate(t *rapid.T, depth int) []string {
	if depth == 0 || rapid.Bool().Draw(t, "leaf") {
		return []string{rapid.SampledFrom([]string{"a", "b.c", "d:*", "e/f", "andy"}).Draw(t, "slug")}
	}
	left, right := generate(t, depth-1), generate(t, depth-1)
	operator := rapid.SampledFrom([]string{"AND", "or", "And", "OR"}).Draw(t, "operator")
	out := slices.Concat(left, []string{operator}, right)
	if rapid.Bool().Draw(t, "parentheses") {
		out = slices.Concat([]string{"("}, out, []string{")"})
	}
	return out
}

func TestQueryAgreesWithReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tokens := generate(t, 4)
		held := NewGrants(rapid.SliceOf(rapid.SampledFrom([]string{"a", "b.c", "d:*", "e/f", "andy"})).Draw(t, "held"))
		q, err := Parse(strings.Join(tokens, " "))
		if err != nil {
			t.Fatalf("Parse(%q): %v", tokens, err)
		}
		want := (&reference{tokens, held.Has}).or()
		if got := q.Satisfied(held.Has); got != want {
			t.Fatalf("%q: %v, want %v", tokens, got, want)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a", "a AND b", "(a OR b) AND c", "a\x00b", "((((", "µ", ")"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q, err := Parse(s)
		var syntax *SyntaxError
		if errors.As(err, &syntax) && (syntax.Position < 0 || syntax.Position > len(s)) {
			t.Fatalf("position %d outside %q", syntax.Position, s)
		}
		if err == nil {
			q.Satisfied(func(string) bool { return true })
		}
	})
}

func TestRootPermissions(t *testing.T) {
	all := All()
	for _, p := range all {
		if !Known(p) {
			t.Errorf("%s is not known", p)
		}
	}
	for _, p := range []string{"*", "api.*", "api.*.fly", "x.*.read_api", "api..read_api", "api.a.b.read_api", ""} {
		if Known(p) {
			t.Errorf("%q is known", p)
		}
	}
	held := NewGrants([]string{"api.*.read_api", "api.api_1.create_key"})
	for p, want := range map[string]bool{
		"api.*.read_api": true, "api.api_2.read_api": true, "api.api_1.create_key": true, "api.api_2.create_key": false, "api.*.create_key": false,
	} {
		if got := Covers(held, p); got != want {
			t.Errorf("Covers(%s) = %v, want %v", p, got, want)
		}
	}
}

func BenchmarkQuery(b *testing.B) {
	held := NewGrants([]string{"documents.read", "documents.write"})
	b.ReportAllocs()
	for b.Loop() {
		q, _ := Parse("documents.read AND documents.write")
		if !q.Satisfied(held.Has) {
			b.Fatal("not satisfied")
		}
	}
}
