package httpapi

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// noText is the fault of a body that fits its schema and holds what is no text. PostgreSQL cannot keep it, and the decoder would
// quietly make other text of some of it.
type noText struct {
	at   int
	what string
}

func (n *noText) Error() string {
	return fmt.Sprintf("The body holds %s at byte %d", n.what, n.at)
}

// textFault looks through a body that was decoded: every backslash in it begins an escape. It returns nil where all is text.
func textFault(body []byte) *noText {
	if !utf8.Valid(body) {
		return &noText{invalidAt(body), "what is not UTF-8"}
	}
	for at := 0; ; {
		i := bytes.IndexByte(body[at:], '\\')
		if i < 0 {
			return nil
		}
		at += i
		first, ok := escaped(body[at:])
		if !ok {
			at = min(at+2, len(body)) // one letter, which may be a backslash
			continue
		}
		if first == 0 {
			return &noText{at, `the character NUL (\u0000)`}
		}
		length := 6
		if utf16.IsSurrogate(first) {
			second, _ := escaped(body[at+length:])
			if utf16.DecodeRune(first, second) == utf8.RuneError {
				return &noText{at, "half of a surrogate pair without the other"}
			}
			length *= 2
		}
		at += length
	}
}

// escaped returns what is written as \uXXXX at the beginning of a text.
func escaped(text []byte) (rune, bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(text[2:6]), 16, 32)
	return rune(n), err == nil //nolint:gosec // it has 16 bits
}

func invalidAt(body []byte) int {
	for at := 0; at < len(body); {
		r, size := utf8.DecodeRune(body[at:])
		if r == utf8.RuneError && size == 1 {
			return at
		}
		at += size
	}
	return len(body)
}
