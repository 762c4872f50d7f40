package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// load is a closed loop: every connection sends its next request as soon as it has the answer to the last.
type load struct {
	address     string
	requests    [][]byte // sent in turn, by all connections together
	connections int
	warmup      time.Duration
	window      time.Duration
	cpu         func() (time.Duration, error) // CPU time that all server processes have used so far
	want        []byte                        // what a right answer holds
}

// sample is what a load found. Only valid, wrong and firstWrong include the warm-up.
type sample struct {
	answers    int64         // within the window
	took       time.Duration // the window as it was
	cpu        time.Duration // of all server processes within the window
	latencies  *hdrhistogram.Histogram
	valid      int64 // answers with status 200 that hold what is wanted
	wrong      int64 // all others
	firstWrong string
}

// newLatencies holds nanoseconds from 1 µs to a minute, exact to 1 %.
func newLatencies() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(time.Microsecond), int64(time.Minute), 2)
}

func (s *sample) add(o *sample) {
	s.answers += o.answers
	s.took += o.took
	s.cpu += o.cpu
	s.valid += o.valid
	s.wrong += o.wrong
	if s.firstWrong == "" {
		s.firstWrong = o.firstWrong
	}
	s.latencies.Merge(o.latencies)
}

func (s *sample) cpuMicros() float64 {
	return float64(s.cpu.Nanoseconds()) / 1000 / float64(max(1, s.answers))
}

// phases of a load, in an atomic that every worker reads after every answer.
const (
	warming int32 = iota
	measuring
	over
)

// run makes the load and measures it. An answer that is wrong is counted; a connection that breaks ends the load with an error.
func (l *load) run(ctx context.Context) (*sample, error) {
	const grace = 20 * time.Second
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var phase atomic.Int32
	var next atomic.Int64
	var workers sync.WaitGroup
	samples := make([]sample, l.connections)
	for i := range samples {
		c, err := dial(ctx, l.address, l.warmup+l.window+grace)
		if err != nil {
			cancel(err)
			break
		}
		workers.Go(func() {
			if err := l.worker(c, &phase, &next, &samples[i]); err != nil {
				cancel(err) // the cause is the first error; closing all connections makes others
			}
		})
	}
	total := &sample{latencies: newLatencies()}
	err := l.watch(ctx, &phase, total)
	phase.Store(over)
	workers.Wait()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if err != nil {
		return nil, fmt.Errorf("the load with %d connections: %w", l.connections, err)
	}
	for i := range samples {
		total.add(&samples[i])
	}
	if total.answers == 0 {
		return nil, errors.New("there was no answer within the window")
	}
	return total, nil
}

// watch moves the phases on and reads clock and CPU at both ends of the window.
func (l *load) watch(ctx context.Context, phase *atomic.Int32, s *sample) error {
	pause(ctx, l.warmup)
	from, err := l.cpu()
	if err != nil {
		return err
	}
	begin := time.Now()
	phase.Store(measuring)
	pause(ctx, l.window)
	phase.Store(over)
	s.took = time.Since(begin)
	to, err := l.cpu()
	s.cpu = to - from
	return err
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// What right answers hold.
var (
	validCode = []byte(`"code":"VALID"`)
	passed    = []byte(`"success":true`)
	newKey    = []byte(`"keyId":"key_`)
)

func (l *load) worker(c *conn, phase *atomic.Int32, next *atomic.Int64, s *sample) error {
	defer func() { _ = c.Close() }()
	s.latencies = newLatencies()
	for p := phase.Load(); p != over; {
		r := l.requests[int(next.Add(1)-1)%len(l.requests)]
		sent := time.Now()
		status, body, err := c.do(r)
		took := time.Since(sent)
		if err != nil {
			return err
		}
		if status == http.StatusOK && bytes.Contains(body, l.want) {
			s.valid++
		} else if s.wrong++; s.firstWrong == "" {
			s.firstWrong = fmt.Sprintf("status %d: %s", status, body)
		}
		if p = phase.Load(); p == measuring {
			s.answers++
			if err := s.latencies.RecordValue(took.Nanoseconds()); err != nil {
				return err
			}
		}
	}
	return nil
}
