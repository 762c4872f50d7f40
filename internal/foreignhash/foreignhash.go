// Package foreignhash reads the hashes of keys that were made elsewhere, and finds a presented key among them. Everything here is pure and safe for
// concurrent use; Matches takes long by intent, and whoever calls it bounds how often.
//
// A key whose foreign hash is no digest of ours gets a stand-in digest until its first use. No presented secret leads to a stand-in, not even one made from
// a hash that has leaked: it is an SHA-512/256, and to find a secret with that SHA-256 is as hard as to invert SHA-256.
package foreignhash

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/tollkey/tollkey"
)

// ErrMalformed is returned for a key that has not the parts that the migration's algorithm needs.
var ErrMalformed = errors.New("foreignhash: the key must have the form prefix_short_long")

// Digest checks a hash as it is submitted and returns the digest under which it is kept: the native one where the algorithm's hashes are, or a stand-in that
// is the same for every spelling of the hash. Its errors are for the caller.
func Digest(a tollkey.Algorithm, hash string) (tollkey.Digest, error) {
	switch a {
	case tollkey.SHA256:
		raw, err := anyBase64(hash, sha256.Size)
		if err != nil {
			return tollkey.Digest{}, err
		}
		return tollkey.Digest(raw), nil
	case tollkey.SHA256Hex, tollkey.PrefixedAPIKey:
		raw, err := hex.DecodeString(hash)
		if err != nil || len(raw) != sha256.Size {
			return tollkey.Digest{}, fmt.Errorf("must be %d bytes in hexadecimal", sha256.Size)
		}
		if a.Native() {
			return tollkey.Digest(raw), nil
		}
		return standIn(string(a), string(raw)), nil
	case tollkey.SHA512Base64:
		raw, err := anyBase64(hash, sha512.Size)
		if err != nil {
			return tollkey.Digest{}, err
		}
		return standIn(string(a), string(raw)), nil
	}
	if _, err := parse(a, hash); err != nil {
		return tollkey.Digest{}, err
	}
	return standIn(string(a), hash), nil
}

// OfLookup is the stand-in of the key of a migration that is found by that part.
func OfLookup(m *tollkey.Migration, part string) tollkey.Digest {
	return standIn("lookup", string(m.ID), part)
}

// Locate returns the stand-in under which a presented secret was imported through m, if it was. It reports false where there can be none.
func Locate(m *tollkey.Migration, secret string) (d tollkey.Digest, ok bool, err error) {
	switch {
	case m.Algorithm.Native():
		return d, false, nil
	case m.Algorithm == tollkey.PrefixedAPIKey:
		_, _, long, err := parts(secret)
		if err != nil {
			return d, false, err
		}
		sum := sha256.Sum256([]byte(long))
		return standIn(string(m.Algorithm), string(sum[:])), true, nil
	case m.Algorithm == tollkey.SHA512Base64:
		sum := sha512.Sum512([]byte(secret))
		return standIn(string(m.Algorithm), string(sum[:])), true, nil
	}
	part, ok := Part(m.Lookup, secret)
	return OfLookup(m, part), ok, nil
}

// Part cuts the public part from a secret.
func Part(l tollkey.Lookup, secret string) (string, bool) {
	if l.Separator == "" {
		return "", false
	}
	all := strings.SplitN(secret, l.Separator, l.Part+2)
	if len(all) <= l.Part || all[l.Part] == "" {
		return "", false
	}
	return all[l.Part], true
}

// startLength is how many characters behind a prefix people may see, and longestPrefix what still is one.
const startLength, longestPrefix = 4, 12

// Start returns what of a secret may be shown. Where a key is not known to have a prefix, what stands before its first underscore is one if it is short, and
// never more than half of the key is shown.
func Start(a tollkey.Algorithm, secret string) string {
	if a == tollkey.PrefixedAPIKey {
		if prefix, short, long, err := parts(secret); err == nil {
			rest := short + "_" + long
			return prefix + "_" + rest[:min(startLength, len(rest))]
		}
	}
	at := strings.IndexByte(secret, '_') + 1
	if at > longestPrefix {
		at = 0
	}
	return strings.ToValidUTF8(secret[:min(at+startLength, len(secret)/2)], "")
}

// parts splits a key of prefixed-api-key; the prefix may hold underscores.
func parts(secret string) (prefix, short, long string, err error) {
	at := strings.LastIndexByte(secret, '_')
	if at < 0 {
		return "", "", "", ErrMalformed
	}
	before := strings.LastIndexByte(secret[:at], '_')
	if before < 0 {
		return "", "", "", ErrMalformed
	}
	return secret[:before], secret[before+1 : at], secret[at+1:], nil
}

func standIn(texts ...string) tollkey.Digest {
	h := sha512.New512_256()
	for _, t := range texts {
		_, _ = fmt.Fprintf(h, "%d:%s", len(t), t) // a hash takes everything
	}
	return tollkey.Digest(h.Sum(nil))
}

// anyBase64 reads both alphabets, padded or not.
func anyBase64(text string, size int) ([]byte, error) {
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	raw, err := base64.RawStdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != size || strings.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("must be %d bytes in base64", size)
	}
	return raw, nil
}
