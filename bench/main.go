// Command bench measures Tollkey's verifications over HTTP against a bare net/http handler that reads the same request and writes an
// answer of the same size. What counts is the ratio of CPU per request; requests per second and latencies include the load, which
// runs on the same machine. It needs Linux, since it reads /proc.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// slack is what building excluded, setup and checks may take besides the measurements, so that the whole run stays under five minutes.
const slack = 70 * time.Second

type options struct {
	root        string
	window      time.Duration
	warmup      time.Duration
	jsonFile    string
	only        string // the one scenario to run; "" = all
	postgresURL string
	postgresPID int
}

func main() {
	// Servers die with the thread that started them (see process.go), so that thread must be the one that lasts.
	runtime.LockOSThread()
	var err error
	if len(os.Args) > 1 && os.Args[1] == "bare" {
		err = bare(os.Args[2:], os.Stdout)
	} else {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		err = run(ctx, parse())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse() options {
	var o options
	seconds := flag.Float64("seconds", 3, "how long each scenario is measured at each number of connections, in seconds")
	warmup := flag.Float64("warmup", 1, "how long the same load runs before that, in seconds")
	flag.StringVar(&o.root, "root", ".", "the root of the repository")
	flag.StringVar(&o.only, "only", "", "run this scenario only, by its name in the table")
	flag.StringVar(&o.jsonFile, "json", "", "also write the figures to this file")
	flag.IntVar(&o.postgresPID, "postgres-pid", 0, "the process id of the postmaster behind TOLLKEY_BENCH_POSTGRES_URL")
	flag.Parse()
	o.window, o.warmup = time.Duration(*seconds*float64(time.Second)), time.Duration(*warmup*float64(time.Second))
	o.postgresURL = os.Getenv("TOLLKEY_BENCH_POSTGRES_URL")
	return o
}

func (o options) check() error {
	switch {
	case flag.NArg() > 0:
		return fmt.Errorf("unknown argument %q", flag.Arg(0))
	case o.window <= 0 || o.warmup < 0:
		return errors.New("-seconds must be more than 0, -warmup not less")
	case o.postgresURL != "" && o.postgresPID == 0:
		return errors.New("TOLLKEY_BENCH_POSTGRES_URL is set, so -postgres-pid is needed to count the CPU of PostgreSQL")
	}
	return nil
}

// engine is a store that Tollkey runs on.
type engine struct {
	name        string
	env         []string // for the server
	postmaster  int      // 0 = the store has no process of its own
	description string
}

func (o options) engines() []engine {
	list := []engine{{name: "SQLite", description: "CPU of tollkey"}}
	if o.postgresURL != "" {
		list = append(list, engine{
			name: "PostgreSQL", env: []string{"TOLLKEY_DATABASE_URL=" + o.postgresURL}, postmaster: o.postgresPID,
			description: "CPU of tollkey and of all processes of PostgreSQL",
		})
	}
	return list
}

func run(ctx context.Context, o options) error {
	if err := o.check(); err != nil {
		return err
	}
	temp, err := os.MkdirTemp("", "tollkey-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(temp) }()
	binary, err := build(ctx, o.root, temp)
	if err != nil {
		return err
	}
	engines := o.engines()
	planned := time.Duration(len(engines)*(len(scenarios)*len(connectionCounts)+1)) * 2 * (o.warmup + o.window)
	ctx, cancel := context.WithTimeoutCause(ctx, planned+slack, errors.New("the run took too long"))
	defer cancel()
	report := Report{Machine: machine(), WindowSeconds: o.window.Seconds(), WarmupSeconds: o.warmup.Seconds()}
	report.printHead(os.Stdout)
	var failed error
	for _, e := range engines {
		b := &bench{options: o, engine: e, binary: binary, temp: temp}
		err := b.run(ctx)
		report.Rows = append(report.Rows, b.rows...)
		printTable(os.Stdout, e, b.rows)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", e.name, err))
		}
		if ctx.Err() != nil {
			return errors.Join(failed, context.Cause(ctx))
		}
	}
	if o.postgresURL == "" {
		fmt.Print("\nPostgreSQL: skipped, since TOLLKEY_BENCH_POSTGRES_URL is not set.\n")
	}
	report.printGoals(os.Stdout)
	if o.jsonFile != "" {
		failed = errors.Join(failed, report.write(o.jsonFile))
	}
	return failed
}

// build makes the server as a release is made.
func build(ctx context.Context, root, temp string) (string, error) {
	binary := filepath.Join(temp, "tollkey")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, "./cmd/tollkey")
	cmd.Dir, cmd.Env, cmd.Stderr = root, append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("building ./cmd/tollkey in %s: %w", root, err)
	}
	return binary, nil
}
