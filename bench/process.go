package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	startWithin = 30 * time.Second
	stopWithin  = 10 * time.Second
)

// process is a server that was started here.
type process struct {
	address string // host:port
	pid     int
	cancel  context.CancelFunc
	cmd     *exec.Cmd
	log     string // the file of its standard error
}

// start runs a server and returns when it has printed where it listens. It must be called from the main goroutine.
func start(ctx context.Context, temp string, env []string, binary string, args ...string) (*process, error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(foreign(os.Environ()), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopWithin // then it is killed
	// A group of its own keeps the terminal's interrupt from it, so that it is stopped in order; the death signal stops it when this
	// process is killed and can stop nothing.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	log, err := os.CreateTemp(temp, "*.log")
	if err != nil {
		cancel()
		return nil, err
	}
	defer func() { _ = log.Close() }()
	p := &process{cancel: cancel, cmd: cmd, log: log.Name()}
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, err
	}
	p.pid = cmd.Process.Pid
	addresses := make(chan string, 1)
	go listening(out, addresses)
	select {
	case p.address = <-addresses:
	case <-time.After(startWithin):
	}
	if p.address == "" {
		p.stop()
		return nil, fmt.Errorf("%s %s did not start: %s", filepath.Base(binary), args[0], p.lastWords())
	}
	return p, nil
}

// foreign leaves out Tollkey's own variables, so that nothing but this program configures the server.
func foreign(environ []string) []string {
	var out []string
	for _, v := range environ {
		if !strings.HasPrefix(v, "TOLLKEY_") {
			out = append(out, v)
		}
	}
	return out
}

// listening sends the address that a server prints, or "" when it ends without, and reads on so that the server never waits.
func listening(out io.Reader, address chan<- string) {
	defer close(address)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if _, a, ok := strings.Cut(lines.Text(), "listens on http://"); ok {
			address <- a
			_, _ = io.Copy(io.Discard, out)
			return
		}
	}
}

// stop ends the server and waits for it.
func (p *process) stop() {
	p.cancel()
	_ = p.cmd.Wait() // it was told to end, so how it ended says nothing
}

// lastWords is the end of what the server wrote to standard error.
func (p *process) lastWords() string {
	const enough = 2000
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-enough):])
}
