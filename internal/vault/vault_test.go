package vault

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tollkey/tollkey"
)

var now = time.UnixMilli(1_790_000_000_000)

const secret = "sk_hiddenhiddenhidden"

// sealed returns a vault of one master key, with a data key and a secret in it.
func sealed(t *testing.T) (MasterKey, *Vault, *tollkey.DataKey, *tollkey.SealedSecret) {
	t.Helper()
	m := NewMasterKey(now)
	v := New([]MasterKey{m})
	k, err := v.NewDataKey("ws_1", now)
	if err != nil {
		t.Fatal(err)
	}
	s, err := v.Seal(k, "key_1", secret)
	if err != nil {
		t.Fatal(err)
	}
	return m, v, k, s
}

func TestRoundTrip(t *testing.T) {
	_, v, k, s := sealed(t)
	if got, err := v.Open(k, s); got != secret || err != nil {
		t.Errorf("%q %v", got, err)
	}
	if s.DataKey != k.ID || bytes.Contains(s.Ciphertext, []byte("hidden")) {
		t.Errorf("%+v", s)
	}
	again, err := v.Seal(k, "key_1", secret)
	if err != nil || bytes.Equal(again.Ciphertext, s.Ciphertext) {
		t.Error("one secret gives one ciphertext twice", err)
	}
	rapid.Check(t, func(t *rapid.T) {
		plain, id := rapid.String().Draw(t, "secret"), tollkey.KeyID(rapid.String().Draw(t, "id"))
		s, err := v.Seal(k, id, plain)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := v.Open(k, s); got != plain || err != nil {
			t.Fatal(got, err)
		}
	})
}

// TestMovedAndChanged opens nothing that is not byte for byte what and where it was sealed, and says nothing about what it holds.
func TestMovedAndChanged(t *testing.T) {
	_, v, k, s := sealed(t)
	other, err := v.NewDataKey("ws_2", now)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*tollkey.DataKey, *tollkey.SealedSecret){
		"to another key":          func(_ *tollkey.DataKey, s *tollkey.SealedSecret) { s.Key = "key_2" },
		"to another workspace":    func(k *tollkey.DataKey, _ *tollkey.SealedSecret) { k.Workspace = "ws_2" },
		"data key of another id":  func(k *tollkey.DataKey, _ *tollkey.SealedSecret) { k.ID = other.ID },
		"another data key":        func(k *tollkey.DataKey, _ *tollkey.SealedSecret) { *k = *other },
		"another wrapped key":     func(k *tollkey.DataKey, _ *tollkey.SealedSecret) { k.Wrapped = other.Wrapped },
		"another master key's id": func(k *tollkey.DataKey, _ *tollkey.SealedSecret) { k.Master = "mk_other" },
		"nothing wrapped":         func(k *tollkey.DataKey, _ *tollkey.SealedSecret) { k.Wrapped = nil },
		"nothing sealed":          func(_ *tollkey.DataKey, s *tollkey.SealedSecret) { s.Ciphertext = nil },
		"cut":                     func(_ *tollkey.DataKey, s *tollkey.SealedSecret) { s.Ciphertext = s.Ciphertext[:len(s.Ciphertext)-1] },
		"longer":                  func(_ *tollkey.DataKey, s *tollkey.SealedSecret) { s.Ciphertext = append(s.Ciphertext, 0) },
	} {
		t.Run(name, func(t *testing.T) { mustNotOpen(t, v, k, s, change) })
	}
	for i := range s.Ciphertext {
		mustNotOpen(t, v, k, s, func(_ *tollkey.DataKey, s *tollkey.SealedSecret) { s.Ciphertext[i] ^= 1 })
	}
	for i := range k.Wrapped {
		mustNotOpen(t, v, k, s, func(k *tollkey.DataKey, _ *tollkey.SealedSecret) { k.Wrapped[i] ^= 1 })
	}
}

func mustNotOpen(t *testing.T, v *Vault, k *tollkey.DataKey, s *tollkey.SealedSecret, change func(*tollkey.DataKey, *tollkey.SealedSecret)) {
	t.Helper()
	dk, sealed := *k, *s
	dk.Wrapped, sealed.Ciphertext = bytes.Clone(k.Wrapped), bytes.Clone(s.Ciphertext)
	change(&dk, &sealed)
	if got, err := v.Open(&dk, &sealed); err == nil || got != "" || strings.Contains(err.Error(), "hidden") {
		t.Errorf("%q %v", got, err)
	}
}

func TestRotation(t *testing.T) {
	first, before, k, s := sealed(t)
	second := NewMasterKey(now)
	during, after := New([]MasterKey{second, first}), New([]MasterKey{second})
	if got, err := during.Open(k, s); got != secret || err != nil {
		t.Errorf("while both are there: %q %v", got, err)
	}
	if err := after.Check(k); err == nil || !strings.Contains(err.Error(), first.ID) {
		t.Errorf("the old key is removed too early: %v", err)
	}
	if _, err := after.Rewrap(k); err == nil {
		t.Error("rewrapped without the old key")
	}
	fresh, err := during.Rewrap(k)
	if err != nil || fresh.Master != second.ID || k.Master != first.ID {
		t.Fatal(fresh, err)
	}
	if got, err := after.Open(fresh, s); got != secret || err != nil {
		t.Errorf("after: %q %v", got, err)
	}
	if before.Check(fresh) == nil {
		t.Error("the old key opens what it does not wrap any more")
	}
	impostor, err := ParseMasterKeys(second.ID + ":" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	if err := New(impostor).Check(fresh); err == nil || !strings.Contains(err.Error(), "not the one") {
		t.Errorf("another key of the same id: %v", err)
	}
}

func TestOff(t *testing.T) {
	_, _, k, s := sealed(t)
	off := New(nil)
	if _, err := off.NewDataKey("ws_1", now); err == nil || !off.Off() {
		t.Error("a data key without a master key")
	}
	if _, err := off.Open(k, s); err == nil {
		t.Error("opened without a master key")
	}
}

func TestMasterKeysShowNothing(t *testing.T) {
	m := NewMasterKey(now)
	encoded := m.Entry()[len(m.ID)+1:]
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", m)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		log.WriteString(fmt.Sprintf(verb, m) + fmt.Sprintf(verb, []MasterKey{m}) + fmt.Sprintf(verb, struct{ K MasterKey }{m}))
	}
	raw := fmt.Sprint(m.key)
	for _, part := range []string{encoded, fmt.Sprintf("%x", m.key), raw[1 : len(raw)-1]} {
		if strings.Contains(log.String(), part) {
			t.Errorf("%s is in %s", part, log.String())
		}
	}
}

func TestParseMasterKeys(t *testing.T) {
	a, b := NewMasterKey(now), NewMasterKey(now)
	for _, between := range []string{",", ", ", "\n", " ", "\r\n"} {
		keys, err := ParseMasterKeys(a.Entry() + between + b.Entry() + between)
		if err != nil || len(keys) != 2 || keys[0] != a || keys[1] != b {
			t.Errorf("%q: %v %v", between, keys, err)
		}
	}
	if keys, err := ParseMasterKeys(" \n"); len(keys) != 0 || err != nil {
		t.Error(keys, err)
	}
	encoded := a.Entry()[len(a.ID)+1:]
	for name, text := range map[string]string{
		"no id":            encoded,
		"empty id":         ":" + encoded,
		"id's letters":     "a.b:" + encoded,
		"long id":          strings.Repeat("a", 65) + ":" + encoded,
		"no key":           "a:",
		"short key":        "a:" + base64.StdEncoding.EncodeToString(make([]byte, 31)),
		"long key":         "a:" + base64.StdEncoding.EncodeToString(make([]byte, 33)),
		"hexadecimal":      "a:" + fmt.Sprintf("%x", a.key),
		"without padding":  "a:" + strings.TrimRight(encoded, "="),
		"zeros":            "a:" + base64.StdEncoding.EncodeToString(make([]byte, 32)),
		"one id twice":     "a:" + encoded + ",a:" + b.Entry()[len(b.ID)+1:],
		"one key twice":    "a:" + encoded + ",b:" + encoded,
		"the second wrong": a.Entry() + ",x",
	} {
		if keys, err := ParseMasterKeys(text); err == nil || keys != nil || strings.Contains(err.Error(), encoded[:8]) {
			t.Errorf("%s: %v %v", name, keys, err)
		}
	}
}
