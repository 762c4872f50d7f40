package foreignhash

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tollkey/tollkey"
)

// The hashes of their algorithms' own test vectors.
const (
	bcryptHash = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW" // of U*U
	argonHash  = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	scryptHash = "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E"
)

func TestDigest(t *testing.T) {
	sum, long := sha256.Sum256([]byte("a key")), sha512.Sum512([]byte("a key"))
	for _, c := range []struct {
		algorithm tollkey.Algorithm
		hash      string
		want      tollkey.Digest
	}{
		{tollkey.SHA256, base64.StdEncoding.EncodeToString(sum[:]), sum},
		{tollkey.SHA256, base64.RawURLEncoding.EncodeToString(sum[:]), sum},
		{tollkey.SHA256Hex, hex.EncodeToString(sum[:]), sum},
		{tollkey.SHA256Hex, strings.ToUpper(hex.EncodeToString(sum[:])), sum},
		{tollkey.SHA512Base64, base64.StdEncoding.EncodeToString(long[:]), standIn("sha512-base64", string(long[:]))},
		{tollkey.PrefixedAPIKey, hex.EncodeToString(sum[:]), standIn("github.com/seamapi/prefixed-api-key", string(sum[:]))},
		{tollkey.Bcrypt, bcryptHash, standIn("bcrypt", bcryptHash)},
	} {
		if got, err := Digest(c.algorithm, c.hash); err != nil || got != c.want {
			t.Errorf("%s %s: %x, %v", c.algorithm, c.hash, got, err)
		}
	}
}

func TestDigestRefuses(t *testing.T) {
	for _, c := range []struct {
		algorithm  tollkey.Algorithm
		hash, want string
	}{
		{tollkey.SHA256, "abc", "32 bytes in base64"},
		{tollkey.SHA256, strings.Repeat("a", 64), "32 bytes in base64"},
		{tollkey.SHA256, "AAAA\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "32 bytes in base64"},
		{tollkey.SHA256Hex, strings.Repeat("g", 64), "hexadecimal"},
		{tollkey.PrefixedAPIKey, "ab", "hexadecimal"},
		{tollkey.SHA512Base64, strings.Repeat("A", 44), "64 bytes in base64"},
		{tollkey.Bcrypt, "$2b$15$" + bcryptHash[7:], "cost from 4 to 14"},
		{tollkey.Bcrypt, "$2b$03$" + bcryptHash[7:], "cost from 4 to 14"},
		{tollkey.Bcrypt, bcryptHash + "x", "must have the form"},
		{tollkey.Argon2id, strings.Replace(argonHash, "m=65536", "m=1048576", 1), "at most"},
		{tollkey.Argon2id, strings.Replace(argonHash, "t=2", "t=9999999999", 1), "at most"},
		{tollkey.Argon2id, strings.Replace(argonHash, "t=2", "t=0", 1), "one pass"},
		{tollkey.Argon2id, strings.Replace(argonHash, "p=1", "p=17", 1), "lanes"},
		{tollkey.Argon2id, strings.Replace(argonHash, "v=19", "v=16", 1), "must have the form"},
		{tollkey.Argon2id, strings.Replace(argonHash, "argon2id", "argon2i", 1), "must have the form"},
		{tollkey.Scrypt, strings.Replace(scryptHash, "ln=16", "ln=18", 1), "at most"},
		{tollkey.Scrypt, strings.Replace(scryptHash, "p=1", "p=9", 1), "at most"},
		{tollkey.Scrypt, strings.Replace(scryptHash, "r=8", "r=9999999999", 1), "at most"},
		{tollkey.Scrypt, strings.Replace(scryptHash, "r=8", "r=0", 1), "at least 1"},
		{tollkey.Scrypt, scryptHash[:60], "hash of 16 to 128"},
		{"md5", "abc", "unknown algorithm"},
	} {
		if _, err := Digest(c.algorithm, c.hash); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v, want %s", c.algorithm, c.hash, err, c.want)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		algorithm    tollkey.Algorithm
		hash, secret string
	}{
		{tollkey.Bcrypt, bcryptHash, "U*U"},
		{tollkey.Argon2id, argonHash, "password"},
		{tollkey.Scrypt, scryptHash, "password"},
	} {
		if !Matches(c.algorithm, c.hash, c.secret) {
			t.Errorf("%s does not know its secret", c.algorithm)
		}
		if Matches(c.algorithm, c.hash, c.secret+"x") || Matches(c.algorithm, c.hash, "") {
			t.Errorf("%s takes another secret", c.algorithm)
		}
	}
}

func TestLocate(t *testing.T) {
	slow := &tollkey.Migration{ID: "mig_1", Algorithm: tollkey.Bcrypt, Lookup: tollkey.Lookup{Separator: ".", Part: 1}}
	hash := func(s string) string { sum := sha256.Sum256([]byte(s)); return string(sum[:]) }
	for _, c := range []struct {
		name, secret string
		migration    *tollkey.Migration
		want         tollkey.Digest
		ok           bool
		malformed    bool
	}{
		{name: "native", secret: "x", migration: &tollkey.Migration{Algorithm: tollkey.SHA256}},
		{
			name: "prefixed", secret: "my_app_short_long", migration: &tollkey.Migration{Algorithm: tollkey.PrefixedAPIKey}, ok: true,
			want: standIn(string(tollkey.PrefixedAPIKey), hash("long")),
		},
		{name: "two parts", secret: "short_long", migration: &tollkey.Migration{Algorithm: tollkey.PrefixedAPIKey}, malformed: true},
		{name: "one part", secret: "long", migration: &tollkey.Migration{Algorithm: tollkey.PrefixedAPIKey}, malformed: true},
		{name: "lookup", secret: "sk.id.secret.more", migration: slow, ok: true, want: standIn("lookup", "mig_1", "id")},
		{name: "lookup at the end", secret: "sk.id", migration: slow, ok: true, want: standIn("lookup", "mig_1", "id")},
		{name: "no such part", secret: "sk", migration: slow},
		{name: "empty part", secret: "sk..x", migration: slow},
	} {
		got, ok, err := Locate(c.migration, c.secret)
		if ok != c.ok || (err != nil) != c.malformed || ok && got != c.want {
			t.Errorf("%s: %x, %v, %v", c.name, got, ok, err)
		}
	}
}

func TestStart(t *testing.T) {
	for _, c := range []struct {
		algorithm    tollkey.Algorithm
		secret, want string
	}{
		{tollkey.PrefixedAPIKey, "mycompany_BRTRKFsL_51FwqftsmMDHHbJAMEXXHCgG", "mycompany_BRTR"},
		{tollkey.PrefixedAPIKey, "my_app_a_b", "my_app_a_b"},
		{tollkey.PrefixedAPIKey, "my_app_ab_cdef", "my_app_ab_c"},
		{tollkey.SHA512Base64, "sk_0123456789", "sk_0123"[:6]},
		{tollkey.SHA512Base64, "sk_01234567890123456789", "sk_0123"},
		{tollkey.SHA512Base64, "0123456789012345_678901234567", "0123"},
		{tollkey.Bcrypt, "abc", "a"},
		{tollkey.Bcrypt, "", ""},
	} {
		if got := Start(c.algorithm, c.secret); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.algorithm, c.secret, got, c.want)
		}
	}
}

// FuzzForeignHash holds that nothing that is submitted or presented makes trouble, and that what is accepted is within the bounds.
func FuzzForeignHash(f *testing.F) {
	for _, h := range []string{bcryptHash, argonHash, scryptHash, "a_b_c", strings.Repeat("A", 43) + "="} {
		f.Add(h, "sk_id_secret", "_", 1)
	}
	all := []tollkey.Algorithm{
		tollkey.SHA256, tollkey.SHA256Hex, tollkey.SHA512Base64, tollkey.PrefixedAPIKey, tollkey.Bcrypt, tollkey.Argon2id, tollkey.Scrypt,
	}
	f.Fuzz(func(t *testing.T, hash, secret, separator string, part int) {
		for _, a := range all {
			d, err := Digest(a, hash)
			if again, err2 := Digest(a, hash); again != d || (err == nil) != (err2 == nil) {
				t.Error("a hash has two digests")
			}
			m := &tollkey.Migration{ID: "mig_1", Algorithm: a, Lookup: tollkey.Lookup{Separator: separator, Part: min(max(part, 0), 15)}}
			if found, ok, _ := Locate(m, secret); ok && found == sha256.Sum256([]byte(secret)) {
				t.Error("a stand-in is a secret's digest")
			}
			if s := Start(a, secret); utf8.ValidString(secret) && !utf8.ValidString(s) {
				t.Errorf("%q is cut within a letter", s)
			}
		}
	})
}
