package app

import (
	"context"
	"time"

	"github.com/tollkey/tollkey/internal/refill"
)

// refill does every refill soon after it is due, and at a start those that were missed, while this node holds the lease.
func (a *App) refill(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if err := a.refillDue(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("refills could not be done; it will be tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// refillDue works until nothing is due, or another node holds the lease. After each step it rests for twice as long as that took, so that two of
// three verifications find the store's writer free.
func (a *App) refillDue(ctx context.Context) error {
	const lease = 30 * time.Second
	var total int64
	var renewed time.Time
	defer func() {
		if !renewed.IsZero() {
			a.release(ctx, "refill")
		}
	}()
	for ctx.Err() == nil && refill.DayOf(time.Now()) > refill.Day(a.refilled.Load()) {
		began := time.Now()
		if began.Sub(renewed) > lease/3 {
			if held, err := a.db.Lease(ctx, "refill", a.node, lease); err != nil || !held {
				return err
			}
			renewed = began
		}
		done, refilled, err := refill.Step(ctx, a.db, began)
		if err != nil {
			return err
		}
		total += refilled
		if a.refilled.Swap(int64(done)) != int64(done) && total > 0 {
			a.log.Info("credits are refilled", "upTo", done.Start().Format(time.DateOnly), "keys", total)
			total = 0
		}
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Since(began)):
		}
	}
	return nil
}
