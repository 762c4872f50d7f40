package limit

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/tollkey/tollkey"
)

// Overrides finds the override that applies to an identifier. It is immutable.
type Overrides struct {
	exact    map[string]*tollkey.Override
	patterns []pattern
}

type pattern struct {
	override *tollkey.Override
	matches  *regexp.Regexp
}

// NewOverrides prepares the overrides of one namespace.
func NewOverrides(list []tollkey.Override) *Overrides {
	o := &Overrides{exact: make(map[string]*tollkey.Override, len(list))}
	for i := range list {
		v := &list[i]
		o.exact[v.Identifier] = v
		if strings.Contains(v.Identifier, "*") {
			parts := strings.Split(v.Identifier, "*")
			for i := range parts {
				parts[i] = regexp.QuoteMeta(parts[i])
			}
			o.patterns = append(o.patterns, pattern{v, regexp.MustCompile(`\A` + strings.Join(parts, `[^\n]*`) + `\z`)})
		}
	}
	slices.SortFunc(o.patterns, func(a, b pattern) int {
		return cmp.Or(cmp.Compare(literal(b), literal(a)), strings.Compare(a.override.Identifier, b.override.Identifier))
	})
	return o
}

// literal is how many bytes of the identifier a pattern fixes.
func literal(p pattern) int {
	return len(p.override.Identifier) - strings.Count(p.override.Identifier, "*")
}

// Match returns the override of exactly this identifier; else, of the patterns that match the whole of it, the one that fixes the most bytes, and of
// equally long ones the first in byte order; else nil. `*` stands for any run of characters but line feeds, also for none.
func (o *Overrides) Match(identifier string) *tollkey.Override {
	if v := o.exact[identifier]; v != nil {
		return v
	}
	for i := range o.patterns {
		if o.patterns[i].matches.MatchString(identifier) {
			return o.patterns[i].override
		}
	}
	return nil
}
