package app

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// TestCreditsAddUp adds credits and takes them away beside verifications that spend them: what was added is what was spent and what is left.
func TestCreditsAddUp(t *testing.T) {
	for name, config := range engines {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			c.Listen, c.RootKey = "127.0.0.1:0", rootKey
			s, stop := start(t, c)
			defer stop()
			_, data := s.call(t, "apis.createApi", `{"name":"payments"}`)
			_, made := s.call(t, "keys.createKey", `{"apiId":"`+data["apiId"].(string)+`","credits":{"remaining":200}}`)
			key, id := made["key"].(string), made["keyId"].(string)
			var spent atomic.Int64
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					for range 20 {
						if i%2 == 0 {
							operation, value := "increment", 3
							if i == 0 {
								operation, value = "decrement", 2 // there are always so many: 80 verifications cost 160
							}
							if status, e := s.call(t, "keys.updateCredits", fmt.Sprintf(`{"keyId":%q,"operation":%q,"value":%d}`, id, operation, value)); status != 200 {
								t.Error(status, e)
							}
						} else if _, v := s.call(t, "keys.verifyKey", `{"key":"`+key+`","credits":{"cost":2}}`); v["code"] == "VALID" {
							spent.Add(2)
						}
					}
				})
			}
			wg.Wait()
			want := 200 + 3*20*3 - 20*2 - float64(spent.Load())
			if _, k := s.call(t, "keys.getKey", `{"keyId":"`+id+`"}`); k["credits"].(map[string]any)["remaining"] != want || spent.Load() != 160 {
				t.Errorf("%v left, want %v; %d spent", k["credits"], want, spent.Load())
			}
		})
	}
}
