package verify

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"github.com/tollkey/tollkey"
)

// filter is a Bloom filter over the digests of all keys: it answers "surely not" without a look at the store, which makes an
// invented key free. Digests are uniform already, so their own bytes serve as hashes. It grows by adding layers, and never forgets: a
// deleted key costs a needless read of the store until the next start. All methods may be called concurrently.
type filter struct {
	ready  atomic.Bool
	layers atomic.Pointer[[]*layer]
	grow   sync.Mutex
}

// layer is sized for its capacity at 12 bits and 6 probes a digest: about 0.4 % false positives when full.
type layer struct {
	words    []atomic.Uint64
	capacity int64
	count    atomic.Int64
}

const (
	bitsPerDigest = 12
	probes        = 6
	firstCapacity = 1 << 16
)

func newFilter() *filter {
	f := &filter{}
	f.layers.Store(&[]*layer{newLayer(firstCapacity)})
	return f
}

func newLayer(capacity int64) *layer {
	words := int64(64) // a power of two, so that a mask finds the word
	for words*64 < capacity*bitsPerDigest {
		words *= 2
	}
	return &layer{words: make([]atomic.Uint64, words), capacity: capacity}
}

// add makes d known.
func (f *filter) add(d *tollkey.Digest) {
	layers := *f.layers.Load()
	last := layers[len(layers)-1]
	if last.count.Add(1) > last.capacity {
		last = f.extend(last)
	}
	last.add(d)
}

func (f *filter) extend(full *layer) *layer {
	f.grow.Lock()
	defer f.grow.Unlock()
	layers := *f.layers.Load()
	if last := layers[len(layers)-1]; last != full {
		return last
	}
	next := newLayer(full.capacity * 4)
	grown := append(append([]*layer{}, layers...), next)
	f.layers.Store(&grown)
	return next
}

// has reports false only if d was never added.
func (f *filter) has(d *tollkey.Digest) bool {
	for _, l := range *f.layers.Load() {
		if l.has(d) {
			return true
		}
	}
	return false
}

// probe returns the word and the bit of the i-th probe, from two independent parts of the digest.
//
//nolint:gosec // neither i nor a length is negative
func (l *layer) probe(d *tollkey.Digest, i int) (word uint64, bit uint64) {
	h := binary.LittleEndian.Uint64(d[0:8]) + uint64(i)*(binary.LittleEndian.Uint64(d[8:16])|1)
	return (h >> 6) & uint64(len(l.words)-1), 1 << (h & 63)
}

func (l *layer) add(d *tollkey.Digest) {
	for i := range probes {
		word, bit := l.probe(d, i)
		l.words[word].Or(bit)
	}
}

func (l *layer) has(d *tollkey.Digest) bool {
	for i := range probes {
		word, bit := l.probe(d, i)
		if l.words[word].Load()&bit == 0 {
			return false
		}
	}
	return true
}
