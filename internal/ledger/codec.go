package ledger

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/tollkey/tollkey"
)

// codecVersion begins every batch. A reader refuses one that it does not know.
const codecVersion = 1

// ErrCorrupt is returned for a batch that Encode did not write.
var ErrCorrupt = errors.New("ledger: a stored batch cannot be read")

// Encode appends the events to buf in the form in which a batch is stored. A text that occurred among the last few is written as a reference to it, since
// the events of a batch name the same workspace, API and often key.
func Encode(buf []byte, events []*tollkey.Event) []byte {
	buf = append(buf, codecVersion)
	buf = binary.AppendUvarint(buf, uint64(len(events)))
	var texts recent
	for _, e := range events {
		buf = append(buf, byte(e.Kind))
		buf = binary.AppendVarint(buf, e.Time.UnixMilli())
		buf = texts.append(buf, string(e.Workspace))
		if e.Kind == tollkey.EventVerification {
			buf = texts.appendVerification(buf, e)
		}
		buf = binary.AppendUvarint(buf, uint64(len(e.Takes)))
		for i := range e.Takes {
			t := &e.Takes[i]
			buf = append(buf, t.Bucket[:]...)
			buf = binary.AppendVarint(buf, t.Duration.Milliseconds())
			buf = binary.AppendVarint(buf, t.Window)
			buf = binary.AppendVarint(buf, t.Cost)
		}
	}
	return buf
}

func (r *recent) appendVerification(buf []byte, e *tollkey.Event) []byte {
	for _, s := range [...]string{string(e.API), string(e.Key), string(e.Identity)} {
		buf = r.append(buf, s)
	}
	buf = append(buf, byte(e.Outcome))
	buf = binary.AppendVarint(buf, e.Credits)
	buf = binary.AppendVarint(buf, e.Count)
	buf = binary.AppendUvarint(buf, uint64(len(e.Tags)))
	for _, tag := range e.Tags {
		buf = r.append(buf, tag)
	}
	return buf
}

// recent holds the last texts that were written in full, in the order of a ring. Writer and reader keep the same one.
type recent struct {
	texts [8]string
	next  int
}

// append writes 0 and the text in full, or the place of the text in the ring, from 1.
func (r *recent) append(buf []byte, s string) []byte {
	for i := range r.texts {
		if r.texts[i] == s {
			return append(buf, byte(i+1))
		}
	}
	r.add(s)
	buf = append(buf, 0)
	return append(binary.AppendUvarint(buf, uint64(len(s))), s...)
}

func (r *recent) add(s string) {
	r.texts[r.next] = s
	r.next = (r.next + 1) % len(r.texts)
}

// Decode is the inverse of Encode. It returns ErrCorrupt for anything else and never panics.
func Decode(data []byte) ([]tollkey.Event, error) {
	d := decoder{rest: data}
	if d.byte() != codecVersion {
		return nil, ErrCorrupt
	}
	events := make([]tollkey.Event, d.length(1))
	for i := range events {
		d.event(&events[i])
		if d.broken {
			return nil, ErrCorrupt
		}
	}
	if d.broken || len(d.rest) != 0 {
		return nil, ErrCorrupt
	}
	return events, nil
}

// decoder reads forward; once broken it returns zeros.
type decoder struct {
	rest   []byte
	texts  recent
	broken bool
}

func (d *decoder) event(e *tollkey.Event) {
	e.Kind = tollkey.EventKind(d.byte())
	e.Time, e.Workspace = time.UnixMilli(d.varint()), tollkey.WorkspaceID(d.string())
	switch e.Kind {
	case tollkey.EventVerification:
		d.verification(e)
	case tollkey.EventLimit:
	default:
		d.broken, d.rest = true, nil
	}
	if n := d.length(len(tollkey.BucketID{})); n > 0 {
		e.Takes = make([]tollkey.Take, n)
		for i := range e.Takes {
			t := &e.Takes[i]
			copy(t.Bucket[:], d.bytes(len(t.Bucket)))
			t.Duration = time.Duration(d.varint()) * time.Millisecond
			t.Window, t.Cost = d.varint(), d.varint()
		}
	}
}

func (d *decoder) verification(e *tollkey.Event) {
	e.API = tollkey.APIID(d.string())
	e.Key, e.Identity = tollkey.KeyID(d.string()), tollkey.IdentityID(d.string())
	e.Outcome = tollkey.Outcome(d.byte())
	e.Credits, e.Count = d.varint(), d.varint()
	if n := d.length(1); n > 0 {
		e.Tags = make([]string, n)
		for i := range e.Tags {
			e.Tags[i] = d.string()
		}
	}
}

func (d *decoder) bytes(n int) []byte {
	if n < 0 || n > len(d.rest) {
		d.broken, d.rest = true, nil
		return nil
	}
	out := d.rest[:n]
	d.rest = d.rest[n:]
	return out
}

func (d *decoder) byte() byte {
	if b := d.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.broken, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// length reads a count of things that take at least size bytes each, so that a broken count cannot ask for more memory
// than the data could fill.
func (d *decoder) length(size int) int {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 || v > uint64(len(d.rest)/size) { //nolint:gosec // a length is not negative
		d.broken, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return int(v) //nolint:gosec // at most a length
}

func (d *decoder) string() string {
	if place := int(d.byte()); place > len(d.texts.texts) {
		d.broken, d.rest = true, nil
		return ""
	} else if place > 0 {
		return d.texts.texts[place-1]
	}
	s := string(d.bytes(d.length(1)))
	d.texts.add(s)
	return s
}
