//go:build long

package app

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// worst is the 99th percentile that verification keeps beside any other work, on a machine that has nothing else to do.
const worst = 25 * time.Millisecond

// noise is how much of a latency the machine must answer for, since a server has it too when nothing but a processor is used beside.
func noise(l latencies) time.Duration { return max(0, l.p99-worst/5) }

type latencies struct {
	n             int
	p50, p99, max time.Duration
}

func (l latencies) String() string {
	return fmt.Sprintf("%d samples, p50 %v, p99 %v, max %v", l.n, l.p50.Round(10*time.Microsecond), l.p99.Round(10*time.Microsecond), l.max.Round(10*time.Microsecond))
}

// measure asks for valid keys 500 times a second from 8 connections, which ask is told apart, until work is done, and takes each time from when the
// question should have been sent, whatever the answers before it took.
func measure(t *testing.T, ask func(client *http.Client, connection int) error, work func()) latencies {
	done := make(chan struct{})
	go func() {
		defer close(done)
		work()
	}()
	var mu sync.Mutex
	var all []time.Duration
	var clients sync.WaitGroup
	const connections, every = 8, 16 * time.Millisecond
	client := newClient(t)
	for i := range connections {
		clients.Go(func() {
			next := time.Now().Add(time.Duration(i) * every / connections)
			for {
				select {
				case <-done:
					return
				case <-time.After(time.Until(next)):
				}
				if err := ask(client, i); err != nil {
					t.Error(err)
					<-done
					return
				}
				mu.Lock()
				all = append(all, time.Since(next))
				mu.Unlock()
				next = next.Add(every)
			}
		})
	}
	clients.Wait()
	client.CloseIdleConnections()
	slices.Sort(all)
	if len(all) == 0 {
		t.Fatal("the work was over before anything was asked")
	}
	return latencies{len(all), all[len(all)/2], all[len(all)*99/100], all[len(all)-1]}
}

func askValid(client *http.Client, address, secret string) error {
	r, err := http.NewRequest(http.MethodPost, "http://"+address+"/v2/keys.verifyKey", strings.NewReader(`{"key":"`+secret+`"}`))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+rootKey)
	r.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && !strings.Contains(string(body), `"VALID"`) {
		err = fmt.Errorf("%s", body)
	}
	return err
}
