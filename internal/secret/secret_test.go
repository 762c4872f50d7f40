package secret

import (
	"encoding/hex"
	"errors"
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
