package app

import (
	"testing"

	"github.com/tollkey/tollkey/internal/secret"
)

// TestKeyFormat checks the secrets that the server gives out, which transcripts cannot show.
func TestKeyFormat(t *testing.T) {
	c := engines["sqlite"](t)
	c.Listen, c.RootKey = "127.0.0.1:0", rootKey
	s, stop := start(t, c)
	defer stop()
	_, data := s.call(t, "apis.createApi", `{"name":"payments"}`)
	api := data["apiId"].(string)
	for _, step := range []struct {
		settings, create string
		checksummed      bool
		length           int
	}{
		{`"defaultPrefix":"sk_live","keyFormat":"checksummed"`, ``, true, len("sk_live_") + 22 + 6},
		{`"defaultByteLength":32`, ``, true, len("sk_live_") + 43 + 6},
		{`"defaultPrefix":null`, `,"byteLength":16`, true, 22 + 6},
		{`"keyFormat":"base58"`, `,"prefix":"own"`, false, 0},
	} {
		s.call(t, "apis.updateApi", `{"apiId":"`+api+`",`+step.settings+`}`)
		_, made := s.call(t, "keys.createKey", `{"apiId":"`+api+`"`+step.create+`}`)
		key := made["key"].(string)
		if secret.Checksummed(key) != step.checksummed || step.checksummed && len(key) != step.length {
			t.Errorf("%s: a secret of %d characters", step.settings, len(key))
		}
		if _, v := s.call(t, "keys.verifyKey", `{"key":"`+key+`"}`); v["code"] != "VALID" {
			t.Errorf("%s: %v", step.settings, v)
		}
	}
}
