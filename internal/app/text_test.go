package app

import (
	"net/http"
	"strings"
	"testing"
)

// TestBytesThatAreNoText sends what a transcript cannot hold: bytes that are not UTF-8 are refused in a body, and made text in a header.
func TestBytesThatAreNoText(t *testing.T) {
	for name, config := range engines {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			c.Listen, c.RootKey = "127.0.0.1:0", rootKey
			s, stop := start(t, c)
			defer stop()
			for body, want := range map[string]int{`{"name":"payments"}`: http.StatusOK, "{\"name\":\"pay\xffments\"}": http.StatusBadRequest} {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+string(s)+"/v2/apis.createApi", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Content-Type", "application/json")
				r.Header.Set("Authorization", "Bearer "+rootKey)
				r.Header.Set("User-Agent", "agent \xff\xc3")
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				if resp.StatusCode != want {
					t.Errorf("%q: %d, want %d", body, resp.StatusCode, want)
				}
			}
		})
	}
}
