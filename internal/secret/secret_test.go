package secret

import (
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
	"testing"
)

func TestBase58KnownVectors(t *testing.T) {
	for in, want := range map[string]string{
		"":                     "",
		"61":                   "2g",
		"626262":               "a3gV",
		"00000000000000000000": "1111111111",
		"516b6fcd0f":           "ABnLTmg",
		"00eb15231dfceb60925886b67d065299925915aeb172c06647": "1NS17iag9jJgTHD1VXjvLCEnZuQ3rJDE9L",
	} {
		raw, _ := hex.DecodeString(in)
		if got := Base58(raw); got != want {
			t.Errorf("Base58(%s) = %q, want %q", in, got, want)
		}
	}
}

func TestNew(t *testing.T) {
	secret, start, err := New("my_app", 16)
	if err != nil {
		t.Fatal(err)
	}
	body, ok := strings.CutPrefix(secret, "my_app_")
	if !ok || len(body) < 20 || len(body) > 22 || start != "my_app_"+body[:4] {
		t.Errorf("secret %d characters long, start %q", len(secret), start)
	}
	if bare, _, _ := New("", 32); strings.Contains(bare, "_") {
		t.Error("a secret without a prefix has an underscore")
	}
	if other, _, _ := New("my_app", 16); other == secret {
		t.Error("two secrets are equal")
	}
	for _, n := range []int{0, 15, 256} {
		if _, _, err := New("", n); !errors.Is(err, ErrLength) {
			t.Errorf("New with %d bytes: %v, want ErrLength", n, err)
		}
	}
}

func TestChecksummed(t *testing.T) {
	// docs/keys.md shows this one.
	if !Checksummed("pay_live_00000000000000000000003viNOH") || Checksummed("pay_live_00000000000000000000003viNOI") {
		t.Error("the known secret")
	}
	for n := MinBytes; n <= MaxBytes; n++ {
		largest := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), uint(8*n)), big.NewInt(1))
		if w := base62Width(n); len(largest.Text(62)) != w {
			t.Errorf("%d bytes need %d digits, not %d", n, len(largest.Text(62)), w)
		}
	}
	for _, prefix := range []string{"", "sk", "my_app"} {
		secret, start, err := NewChecksummed(prefix, 16)
		if err != nil || !Checksummed(secret) || len(secret) != len(start)-startLength+22+6 || !strings.HasPrefix(secret, start) {
			t.Fatalf("%d characters, start %q, %v", len(secret), start, err)
		}
		for i := range secret { // any one mistyped character shows
			wrong := []byte(secret)
			wrong[i] = base62[(strings.IndexByte(base62, wrong[i])+1)%62]
			if Checksummed(string(wrong)) {
				t.Errorf("%s with character %d changed passes", prefix, i)
			}
		}
	}
	for _, text := range []string{"", "000000", "abcdef", strings.Repeat("z", 100)} {
		if Checksummed(text) {
			t.Errorf("%q passes", text)
		}
	}
	for _, n := range []int{0, 15, 256} {
		if _, _, err := NewChecksummed("", n); !errors.Is(err, ErrLength) {
			t.Errorf("%d bytes: %v, want ErrLength", n, err)
		}
	}
}

func FuzzChecksummed(f *testing.F) {
	f.Add("sk_abc")
	f.Fuzz(func(t *testing.T, text string) {
		_ = Checksummed(text)
		if text != "" && !Checksummed(text+checksum(text)) {
			t.Errorf("%q with its checksum does not pass", text)
		}
	})
}

func TestHash(t *testing.T) {
	h := Hash("abc")
	if got := hex.EncodeToString(h[:]); got != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Errorf("Hash(abc) = %s", got)
	}
}

func TestStart(t *testing.T) {
	for in, want := range map[string]string{"tk_abcdefgh": "tk_abcd", "abcdefgh": "abcd", "a_b": "a_b", "": ""} {
		if got := Start(in); got != want {
			t.Errorf("Start(%q) = %q, want %q", in, got, want)
		}
	}
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		_, _, _ = New("sk", 16)
	}
}
