package limit

import "math/bits"

// Window is the state of one bucket: what was admitted in its present aligned window, and in the one before. Windows are
// numbered from the Unix epoch: window w of a duration of d milliseconds is [w·d, (w+1)·d). A Window only moves forward.
type Window struct {
	Number   int64
	Current  int64
	Previous int64
}

// Advance returns the state as seen at nowMillis. A time before the present window leaves the state as it is: a late request is
// charged to the window that is already open, so that no window is ever reopened.
func (w Window) Advance(nowMillis, durationMillis int64) Window {
	switch n := nowMillis / durationMillis; {
	case n <= w.Number:
		return w
	case n == w.Number+1:
		return Window{Number: n, Previous: w.Current}
	default:
		return Window{Number: n}
	}
}

// Effective returns what counts against the limit at nowMillis before any cost: all of the present window, and of the previous one the
// share of it that a window ending now would still overlap, rounded down. w must be advanced.
func (w Window) Effective(nowMillis, durationMillis int64) int64 {
	elapsed := min(max(nowMillis-w.Number*durationMillis, 0), durationMillis)
	return w.Current + scale(w.Previous, durationMillis-elapsed, durationMillis)
}

// Admits reports whether cost more fits under limit on top of effective. Without overflow, whatever the arguments.
func Admits(effective, cost, limit int64) bool { return effective <= limit && cost <= limit-effective }

// ResetMillis is the end of the present window.
func (w Window) ResetMillis(durationMillis int64) int64 { return (w.Number + 1) * durationMillis }

// scale returns value·part/whole rounded down; part is at most whole, so that the result fits.
//
//nolint:gosec // none of them is negative
func scale(value, part, whole int64) int64 {
	if value == 0 || part == 0 {
		return 0
	}
	hi, lo := bits.Mul64(uint64(value), uint64(part))
	quotient, _ := bits.Div64(hi, lo, uint64(whole))
	return int64(quotient)
}
