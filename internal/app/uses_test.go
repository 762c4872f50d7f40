package app

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// slowUses writes two at a time, and fails on demand.
type slowUses struct {
	fail    bool
	written map[tollkey.KeyID]time.Time
	calls   int
}

func (s *slowUses) PutLastUsed(_ context.Context, uses []store.Use, _ time.Duration) (int, error) {
	if s.calls++; s.fail && s.calls > 1 {
		return 0, errors.New("no")
	}
	done := min(2, len(uses))
	for _, u := range uses[:done] {
		s.written[u.Key] = u.At
	}
	return done, nil
}

func TestUsesAreWrittenOnceAndNotForgotten(t *testing.T) {
	s := &slowUses{fail: true, written: map[tollkey.KeyID]time.Time{}}
	u, at := newUses(s), time.UnixMilli(1_790_000_000_000)
	for second := range 100 {
		for key := range 5 {
			u.key(tollkey.KeyID(fmt.Sprint("key_", key)), at.Add(time.Duration(second)*time.Second))
		}
	}
	u.rootKey("key_0", at) // an older time
	if err := u.flush(t.Context()); err == nil || len(u.pending) != 3 {
		t.Errorf("%d are remembered after a failure: %v", len(u.pending), err)
	}
	s.fail, s.calls = false, 0
	if err := u.flush(t.Context()); err != nil || len(u.pending) != 0 || s.calls != 2 || len(s.written) != 5 {
		t.Errorf("%d left, %d writes: %v", len(u.pending), s.calls, err)
	}
	for key, got := range s.written {
		if !got.Equal(at.Add(99 * time.Second)) {
			t.Errorf("%s: %v", key, got)
		}
	}
	for i := range usesMemory {
		if u.crowded() {
			t.Fatal("crowded at", i)
		}
		u.key(tollkey.KeyID(fmt.Sprint("key_", i)), at)
	}
	if !u.crowded() {
		t.Error("never crowded")
	}
}
