package app

import (
	"context"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/tollkey/tollkey/internal/conformance"
)

// BenchmarkCreateKey creates keys from 16 callers at once, without the network.
func BenchmarkCreateKey(b *testing.B) {
	for name, config := range map[string]func() Config{
		"sqlite":   func() Config { return Config{Data: b.TempDir()} },
		"postgres": func() Config { return Config{DatabaseURL: conformance.Postgres(b)} },
	} {
		b.Run(name, func(b *testing.B) {
			c := config()
			c.Listen, c.RootKey = "127.0.0.1:0", rootKey
			a, err := New(b.Context(), c, slog.New(slog.NewTextHandler(io.Discard, nil)))
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			var running sync.WaitGroup
			running.Go(func() { _ = a.Run(ctx) })
			defer func() { cancel(); running.Wait() }()
			ask := func(procedure, body string) (int, string) {
				r := httptest.NewRequest("POST", "/v2/"+procedure, strings.NewReader(body))
				r.Header.Set("Authorization", "Bearer "+rootKey)
				r.Header.Set("Content-Type", "application/json")
				w := httptest.NewRecorder()
				a.server.Handler.ServeHTTP(w, r)
				return w.Code, w.Body.String()
			}
			_, text := ask("apis.createApi", `{"name":"bench"}`)
			_, rest, _ := strings.Cut(text, `"apiId":"`)
			body := `{"apiId":"` + rest[:len("api_")+20] + `"}`
			b.ReportAllocs()
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if code, text := ask("keys.createKey", body); code != 200 {
						b.Errorf("%d %s", code, text)
						return
					}
				}
			})
		})
	}
}
