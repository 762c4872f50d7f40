package meter

import (
	"testing"
	"time"
)

// TestPassesAreMeasured: passes grow while they hold the ledger for less than they may, and shrink at once when it is more.
func TestPassesAreMeasured(t *testing.T) {
	each := 10 * time.Microsecond // what one batch or counter takes
	r := &Roller{work: firstWork}
	settle := func() time.Duration {
		for range 50 {
			r.adapt(time.Duration(r.work) * each)
		}
		return time.Duration(r.work) * each
	}
	if held := settle(); held < passFor/3 || held > passFor {
		t.Errorf("passes settle at %v, want less than %v and not much less", held, passFor)
	}
	each *= 100
	if settle(); r.work != leastWork {
		t.Errorf("on a slow disk passes take on %d, want %d", r.work, leastWork)
	}
	each = 0
	if settle(); r.work != mostWork {
		t.Errorf("where nobody waits passes take on %d, want %d", r.work, mostWork)
	}
}
