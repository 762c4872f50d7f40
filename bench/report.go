package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
)

// The goals: how many times the CPU of the bare handler a verification may take, with one connection and with 16 or more. One
// connection alone leaves nothing to share a commit with.
const (
	goalAlone    = 2.2
	goalTogether = 1.6
	goalLimit    = 1.7 // of a standalone limit, with 16 connections or more
)

// Report is everything that a run found.
type Report struct {
	Machine       Machine `json:"machine"`
	WindowSeconds float64 `json:"windowSeconds"` // how long each row was measured
	WarmupSeconds float64 `json:"warmupSeconds"` // how long the same load ran before that
	Rows          []Row   `json:"rows"`
}

// Row is one scenario at one number of connections. Latencies and CPU are in microseconds; CPU is user and system time of all server
// processes divided by the answers in the window.
type Row struct {
	Engine      string `json:"engine"`
	Scenario    string `json:"scenario"`
	Connections int    `json:"connections"`
	// RequestsPerSecond, P50 and P99 are as the load sees them, which competes with the servers for the same cores.
	RequestsPerSecond     float64 `json:"requestsPerSecond"`
	P50                   float64 `json:"p50Micros"`
	P99                   float64 `json:"p99Micros"`
	CPU                   float64 `json:"cpuMicrosPerRequest"`
	BareRequestsPerSecond float64 `json:"bareRequestsPerSecond"`
	BareP50               float64 `json:"bareP50Micros"`
	BareP99               float64 `json:"bareP99Micros"`
	BareCPU               float64 `json:"bareCpuMicrosPerRequest"`
	// BareCPUBefore and BareCPUAfter are the two halves of BareCPU; that they differ tells how noisy the machine is.
	BareCPUBefore float64 `json:"bareCpuBeforeMicrosPerRequest"`
	BareCPUAfter  float64 `json:"bareCpuAfterMicrosPerRequest"`
	// CPUAllIn counts CPU from before the warm-up until the server has rested for half that time, over all answers: work that the
	// server has put off shows here.
	CPUAllIn float64 `json:"cpuAllInMicrosPerRequest"`
	Ratio    float64 `json:"ratio"` // CPU / BareCPU
	Goal     float64 `json:"goal"`  // the most that Ratio may be; 0 = no goal
	Met      bool    `json:"met"`
	Wrong    int64   `json:"wrongAnswers"` // other than 200 and VALID, warm-up included
}

func newRow(connections int, ours, plain *sample) *Row {
	r := &Row{Connections: connections, CPU: ours.cpuMicros(), BareCPU: plain.cpuMicros(), Goal: goalTogether, Wrong: ours.wrong}
	r.RequestsPerSecond, r.P50, r.P99 = ours.pace()
	r.BareRequestsPerSecond, r.BareP50, r.BareP99 = plain.pace()
	if connections == 1 {
		r.Goal = goalAlone
	}
	if r.BareCPU > 0 { // a window of a few milliseconds may hold no tick
		r.Ratio = r.CPU / r.BareCPU
	}
	r.aim(r.Goal)
	return r
}

func (r *Row) aim(goal float64) {
	r.Goal, r.Met = goal, r.BareCPU > 0 && r.Ratio <= goal
}

// pace is requests per second and the latencies p50 and p99 in microseconds.
func (s *sample) pace() (perSecond, p50, p99 float64) {
	micros := func(quantile float64) float64 { return float64(s.latencies.ValueAtQuantile(quantile)) / 1000 }
	return float64(s.answers) / s.took.Seconds(), micros(50), micros(99)
}

func (r *Report) printHead(w io.Writer) {
	m := r.Machine
	_, _ = fmt.Fprintf(w, "%d cores (%s), Linux %s, %s, load average %s. Each row: %g s after %g s of warm-up; load and servers share the cores.\n",
		m.Cores, m.CPU, m.Kernel, m.Go, m.LoadAverage, r.WindowSeconds, r.WarmupSeconds)
}

// print shows progress.
func (r *Row) print(w io.Writer) {
	_, _ = fmt.Fprintf(w, "%s, %s, connections %d: %.0f requests/s, %.2fx\n", r.Engine, r.Scenario, r.Connections, r.RequestsPerSecond, r.Ratio)
}

func printTable(w io.Writer, e engine, rows []Row) {
	_, _ = fmt.Fprintf(w, "\n%s (%s)\n", e.name, e.description)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(t, "scenario            \tconnections\treq/s\tp50 µs\tp99 µs\tCPU µs/req\tall-in\tbare req/s\tbare CPU µs/req\tratio\tgoal\t")
	for i := range rows {
		r := &rows[i]
		goal := fmt.Sprintf("%.1f", r.Goal)
		switch {
		case r.Goal == 0:
			goal = "-"
		case !r.Met:
			goal += " missed"
		}
		_, _ = fmt.Fprintf(t, "%-20s\t%d\t%.0f\t%.0f\t%.0f\t%.1f\t%.1f\t%.0f\t%.1f\t%.2f\t%s\t\n", r.Scenario, r.Connections, r.RequestsPerSecond,
			r.P50, r.P99, r.CPU, r.CPUAllIn, r.BareRequestsPerSecond, r.BareCPU, r.Ratio, goal)
	}
	_ = t.Flush()
}

func (r *Report) printGoals(w io.Writer) {
	met, goals := 0, 0
	for i := range r.Rows {
		if r.Rows[i].Goal == 0 {
			continue
		}
		goals++
		if r.Rows[i].Met {
			met++
		}
	}
	_, _ = fmt.Fprintf(w, "\nGoals: CPU per request at most %.1fx the bare handler's with 16 connections or more (a standalone limit %.1fx), %.1fx with one. Met: %d of %d.\n",
		goalTogether, goalLimit, goalAlone, met, goals)
	for i := range r.Rows {
		if row := &r.Rows[i]; !row.Met {
			_, _ = fmt.Fprintf(w, "Missed: %s, %s, connections %d: %.2fx, at most %.1fx\n", row.Engine, row.Scenario, row.Connections, row.Ratio, row.Goal)
		}
	}
}

func (r *Report) write(file string) error {
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(content, '\n'), 0o644)
}
