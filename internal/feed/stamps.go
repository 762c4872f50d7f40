package feed

import (
	"hash/maphash"
	"sync/atomic"
)

// cellCount is how many cells share the marks. Two names that fall on one cell cost a needless reload, never a stale answer.
const cellCount = 1 << 16

// Cell is the place of a changeable thing among the marks.
type Cell uint16

// Stamps is this node's logical clock of applied changes: every applied change advances it by one and marks the cells
// that it touched with the new reading. Something that was read from the store after the clock showed asOf is out of date if, and
// only if, one of the cells that it depends on was marked later.
//
// A reader notes Now, reads the store, and keeps what it read together with that reading. It need not look again before it
// publishes: who uses the value asks Valid at every use. All methods may be called concurrently; marking is the Follower's alone.
type Stamps struct {
	seed  maphash.Seed
	clock atomic.Uint64
	floor atomic.Uint64 // everything read before this reading is out of date
	cells [cellCount]atomic.Uint64
}

// NewStamps returns a clock at zero.
func NewStamps() *Stamps { return &Stamps{seed: maphash.MakeSeed()} }

// Cell returns the cell of the thing called name (an id, or a digest's bytes).
func (s *Stamps) Cell(name string) Cell { return Cell(maphash.String(s.seed, name)) } //nolint:gosec // the low bits serve

// DigestCell is Cell for the bytes of a digest.
func (s *Stamps) DigestCell(digest []byte) Cell { return Cell(maphash.Bytes(s.seed, digest)) } //nolint:gosec // the low bits serve

// Now returns the clock's reading. Note it before the store is read.
func (s *Stamps) Now() uint64 { return s.clock.Load() }

// Valid reports whether what was read when the clock showed asOf still holds, given what it depends on.
func (s *Stamps) Valid(asOf uint64, cells []Cell) bool {
	if asOf < s.floor.Load() {
		return false
	}
	for _, c := range cells {
		if s.cells[c].Load() > asOf {
			return false
		}
	}
	return true
}

// mark advances the clock and marks cells with its new reading. The cells come first: a reader that notes the new reading then
// surely reads the store after the change was committed there.
func (s *Stamps) mark(cells []Cell) {
	next := s.clock.Load() + 1
	for _, c := range cells {
		s.cells[c].Store(next)
	}
	s.clock.Store(next)
}

// flush makes everything that was read until now out of date.
func (s *Stamps) flush() {
	next := s.clock.Load() + 1
	s.floor.Store(next)
	s.clock.Store(next)
}
