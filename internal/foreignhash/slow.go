package foreignhash

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/scrypt"

	"github.com/tollkey/tollkey"
)

// The bounds of what one check may cost: about a second of a core and 128 MiB.
const (
	maxBcryptCost = 14
	maxMemory     = 128 << 20 // bytes
	maxWork       = 512 << 20 // bytes of memory, times how often they are gone through
	maxLanes      = 16
	minSum        = 16 // bytes of a hash
	maxSum        = 128
)

// slow is a parsed hash: check computes it anew for a secret.
type slow func(secret []byte) bool

// Matches computes a hash that Digest has accepted for a secret, and reports whether they agree.
func Matches(a tollkey.Algorithm, hash, secret string) bool {
	check, err := parse(a, hash)
	return err == nil && check([]byte(secret))
}

var (
	bcryptForm = regexp.MustCompile(`^\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}$`)
	argonForm  = regexp.MustCompile(`^\$argon2id\$v=19\$m=(\d{1,10}),t=(\d{1,10}),p=(\d{1,10})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$`)
	scryptForm = regexp.MustCompile(`^\$scrypt\$ln=(\d{1,2}),r=(\d{1,10}),p=(\d{1,10})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$`)
)

func parse(a tollkey.Algorithm, hash string) (slow, error) {
	switch a {
	case tollkey.Bcrypt:
		return parseBcrypt(hash)
	case tollkey.Argon2id:
		return parseArgon2id(hash)
	case tollkey.Scrypt:
		return parseScrypt(hash)
	}
	return nil, fmt.Errorf("has an unknown algorithm %q", a)
}

func parseBcrypt(hash string) (slow, error) {
	m := bcryptForm.FindStringSubmatch(hash)
	if m == nil {
		return nil, errors.New("must have the form $2b$<cost>$<53 characters>")
	}
	if cost, _ := strconv.Atoi(m[1]); cost < bcrypt.MinCost || cost > maxBcryptCost {
		return nil, fmt.Errorf("must have a cost from %d to %d", bcrypt.MinCost, maxBcryptCost)
	}
	return func(secret []byte) bool { return bcrypt.CompareHashAndPassword([]byte(hash), secret) == nil }, nil
}

func parseArgon2id(hash string) (slow, error) {
	m := argonForm.FindStringSubmatch(hash)
	if m == nil {
		return nil, errors.New("must have the form $argon2id$v=19$m=<KiB>,t=<passes>,p=<lanes>$<salt>$<hash>")
	}
	n := numbers(m[1:4])
	memory, passes, lanes := n[0], n[1], n[2]
	switch {
	case memory<<10 > maxMemory || memory*passes<<10 > maxWork:
		return nil, fmt.Errorf("must take at most %d KiB, and at most %d KiB times passes", maxMemory>>10, maxWork>>10)
	case passes < 1 || lanes < 1 || lanes > maxLanes || memory < 8*lanes:
		return nil, fmt.Errorf("must have at least one pass, 1 to %d lanes, and 8 KiB for each", maxLanes)
	}
	salt, sum, err := saltAndSum(m[4], m[5])
	if err != nil {
		return nil, err
	}
	return func(secret []byte) bool {
		//nolint:gosec // all are bounded above
		return same(sum, argon2.IDKey(secret, salt, uint32(passes), uint32(memory), uint8(lanes), uint32(len(sum))))
	}, nil
}

func parseScrypt(hash string) (slow, error) {
	m := scryptForm.FindStringSubmatch(hash)
	if m == nil {
		return nil, errors.New("must have the form $scrypt$ln=<log2 N>,r=<block>,p=<parallel>$<salt>$<hash>")
	}
	n := numbers(m[1:4])
	ln, r, p := n[0], n[1], n[2]
	switch {
	case ln < 1 || r < 1 || p < 1:
		return nil, errors.New("must have ln, r and p of at least 1")
	case ln > 20 || r > 1024 || p > 1024 || 128*r<<ln > maxMemory || 128*r*p<<ln > maxWork:
		return nil, fmt.Errorf("must take at most %d bytes (128·N·r), and at most %d bytes times p", maxMemory, maxWork)
	}
	salt, sum, err := saltAndSum(m[4], m[5])
	if err != nil {
		return nil, err
	}
	return func(secret []byte) bool {
		got, err := scrypt.Key(secret, salt, 1<<ln, int(r), int(p), len(sum))
		return err == nil && same(sum, got)
	}, nil
}

// numbers parses what a pattern has bounded.
func numbers(texts []string) []int64 {
	out := make([]int64, len(texts))
	for i, t := range texts {
		out[i], _ = strconv.ParseInt(t, 10, 64)
	}
	return out
}

func saltAndSum(a, b string) (salt, sum []byte, err error) {
	salt, err = base64.RawStdEncoding.DecodeString(a)
	sum, err2 := base64.RawStdEncoding.DecodeString(b)
	if err != nil || err2 != nil || len(salt) > maxSum || len(sum) < minSum || len(sum) > maxSum {
		return nil, nil, fmt.Errorf("must have a salt of at most %d bytes and a hash of %d to %d, in base64 without padding", maxSum, minSum, maxSum)
	}
	return salt, sum, nil
}

func same(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }
