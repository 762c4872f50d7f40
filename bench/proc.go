package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc/PID/stat. The kernel shows 1/100 s on every architecture that Go runs on.
const tick = 10 * time.Millisecond

// stat holds the fields of /proc/PID/stat that are used here.
type stat struct {
	parent int
	own    time.Duration // user and system time of its threads, ended ones included
	ended  time.Duration // user and system time of the children that it has waited for
}

func readStat(pid int) (stat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	// The second field is a name in parentheses, which may hold spaces and parentheses itself. After it come state, parent, …
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 15 {
		return stat{}, fmt.Errorf("/proc/%d/stat has %d fields after the name", pid, len(fields))
	}
	var n [5]int64
	for i, at := range [...]int{1, 11, 12, 13, 14} {
		if n[i], err = strconv.ParseInt(fields[at], 10, 64); err != nil {
			return stat{}, err
		}
	}
	return stat{int(n[0]), time.Duration(n[1]+n[2]) * tick, time.Duration(n[3]+n[4]) * tick}, nil
}

// cpuOf is the CPU time that a process has used.
func cpuOf(pid int) (time.Duration, error) {
	s, err := readStat(pid)
	return s.own, err
}

// cpuOfTree is the CPU time that a process and all its children have used, also those children that have ended.
func cpuOfTree(pid int) (time.Duration, error) {
	const attempts = 20
	for range attempts {
		before, err := children(pid)
		if err != nil {
			return 0, err
		}
		parent, err := readStat(pid)
		if err != nil {
			return 0, err
		}
		sum := parent.own + parent.ended
		for _, c := range before {
			s, err := readStat(c)
			if err != nil {
				break // it has ended, which the comparison finds
			}
			sum += s.own + s.ended
		}
		// A child that ends between the two readings would be counted twice or not at all.
		after, err := children(pid)
		if err != nil {
			return 0, err
		}
		if slices.Equal(before, after) {
			return sum, nil
		}
	}
	return 0, fmt.Errorf("the children of process %d keep changing", pid)
}

func children(pid int) ([]int, error) {
	paths, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var list []int
	for _, p := range paths {
		child, err := strconv.Atoi(filepath.Base(p))
		if err != nil {
			continue
		}
		if s, err := readStat(child); err == nil && s.parent == pid {
			list = append(list, child)
		}
	}
	return list, nil
}

// Machine tells where figures are from.
type Machine struct {
	Cores       int    `json:"cores"` // that Go may use
	CPU         string `json:"cpu"`
	Kernel      string `json:"kernel"`
	Go          string `json:"go"`
	LoadAverage string `json:"loadAverage"` // when the run began: processes that ran or waited, over 1, 5 and 15 minutes
}

func machine() Machine {
	m := Machine{Cores: runtime.GOMAXPROCS(0), Go: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH}
	for line := range strings.Lines(content("/proc/cpuinfo")) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	m.Kernel = strings.TrimSpace(content("/proc/sys/kernel/osrelease"))
	if f := strings.Fields(content("/proc/loadavg")); len(f) > 3 {
		m.LoadAverage = strings.Join(f[:3], " ")
	}
	return m
}

// content is what a file holds, or "": a missing fact about the machine is no reason to fail.
func content(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}
