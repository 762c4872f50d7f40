package limit

import (
	"testing"

	"github.com/tollkey/tollkey"
)

func TestOverridesMatch(t *testing.T) {
	named := func(identifiers ...string) *Overrides {
		var list []tollkey.Override
		for _, i := range identifiers {
			list = append(list, tollkey.Override{Identifier: i})
		}
		return NewOverrides(list)
	}
	for _, test := range []struct {
		overrides        *Overrides
		identifier, want string
	}{
		{named("a", "*"), "a", "a"},
		{named("*", "a"), "b", "*"},
		{named("*"), "", "*"},
		{named("a*", "ab*", "*b"), "ab", "ab*"},
		{named("*b", "a*"), "ab", "*b"}, // equally long: `*` comes before letters
		{named("x*y*z"), "xz", ""},
		{named("x*y*z"), "xyz", "x*y*z"},
		{named("x*y*z"), "x.y.y.z", "x*y*z"},
		{named("x*"), "X1", ""},
		{named("x*"), "ax", ""},
		{named("x.*", "x+*"), "xx", ""},
		{named("x.*"), "x.(", "x.*"},
		{named("*é*"), "café!", "*é*"},
		{named("a*b"), "a\nb", ""},
		{named("a*"), "a\n", ""},
		{named("a\n*"), "a\nb", "a\n*"},
		{named(), "a", ""},
	} {
		got := ""
		if o := test.overrides.Match(test.identifier); o != nil {
			got = o.Identifier
		}
		if got != test.want {
			t.Errorf("%q: %q, want %q", test.identifier, got, test.want)
		}
	}
}
