// Package limit counts what was admitted per bucket and window and says whether more may be.
//
// The promise: all decisions on a bucket follow one another in one order and each satisfies the predicate of window.go,
// hence no aligned window ever admits more than the limit. An interval of one duration that straddles two windows can hold
// more, up to twice. A refused request costs nothing.
package limit

import (
	"context"
	"time"

	"github.com/tollkey/tollkey"
)

// Request asks one bucket for Cost, under a rule of at most Limit per Duration. Cost 0 looks without taking.
type Request struct {
	Bucket   tollkey.BucketID
	Limit    int64
	Duration time.Duration
	Cost     int64
}

// Decision is the answer to one Request.
type Decision struct {
	Exceeded  bool
	Remaining int64     // after this request; of a refused call, what it would be without it; 0 when Exceeded
	Reset     time.Time // the end of the bucket's current window
}

// Limiter takes from buckets.
type Limiter interface {
	// Take decides on all requests at now, all or nothing, and writes one Decision per request, in order, into decisions (which has
	// the length of requests). Requests that name the same bucket accumulate in order. When ok is false, nothing was taken. When
	// ok is true, the caller must call Keep or Refund on the Taken exactly once. An error means that a bucket's state could
	// not be read back; then nothing was taken.
	Take(ctx context.Context, now time.Time, requests []Request, decisions []Decision) (taken Taken, ok bool, err error)
}
