package verify

import (
	"testing"
	"time"

	"github.com/tollkey/tollkey"
)

// TestCallersAreNotedNowAndThen makes a thousand calls in 25 seconds.
func TestCallersAreNotedNowAndThen(t *testing.T) {
	at := time.UnixMilli(1_790_000_000_000)
	var noted []time.Time
	e := &Engine{now: func() time.Time { return at }, used: func(id tollkey.KeyID, at time.Time) {
		if id != "key_1" {
			t.Error(id)
		}
		noted = append(noted, at)
	}}
	c := &caller{principal: tollkey.Principal{RootKey: "key_1"}}
	for range 1000 {
		e.noteUse(c)
		at = at.Add(25 * time.Millisecond)
	}
	if len(noted) != 3 || noted[1].Sub(noted[0]) != noteEvery*time.Second {
		t.Error(noted)
	}
}
