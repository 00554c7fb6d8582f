package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is one that was started, as it is remembered in State/pids. A pid alone could
// have passed on to another; together with its start it is one process.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // in clock ticks since boot (proc_pid_stat, field 22)
}

// inside returns the command line that runs args in the network namespace. Not
// "ip netns exec": that mounts a new /sys, without the cgroups that containers need.
func inside(args ...string) []string {
	return append([]string{"nsenter", "--net=" + namespacePath(), "--"}, args...)
}

func namespacePath() string { return "/run/netns/" + namespace }

// start starts a daemon in the namespace, in a session of its own, its output in
// State/logs, and remembers it.
func (c *Cluster) start(name string, args ...string) error {
	logfile, err := os.OpenFile(c.path("logs", name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer logfile.Close()
	line := inside(args...)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Stdout, cmd.Stderr = logfile, logfile
	cmd.Dir = c.state
	cmd.Env = append(os.Environ(), "PATH="+strings.Join(paths(c.cache), ":"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	go cmd.Wait() //nolint:errcheck // reaped; how it ended is in its log, and await sees it
	_, begun, err := stat(cmd.Process.Pid)
	if err != nil {
		return fmt.Errorf("%s ended at once; see %s", name, logfile.Name())
	}
	text, err := json.Marshal(process{PID: cmd.Process.Pid, Start: begun})
	if err != nil {
		return err
	}
	return os.WriteFile(c.path("pids", name), text, 0o600)
}

// remembered returns the process called name; false if none was started.
func (c *Cluster) remembered(name string) (process, bool) {
	text, err := os.ReadFile(c.path("pids", name))
	if err != nil {
		return process{}, false
	}
	var p process
	if json.Unmarshal(text, &p) != nil || p.PID <= 1 {
		return process{}, false
	}
	return p, true
}

// alive reports whether p runs still. A zombie does not, whoever is to reap it.
func (p process) alive() bool {
	state, begun, err := stat(p.PID)
	return err == nil && state != 'Z' && state != 'X' && begun == p.Start
}

// stat returns the state letter of a process and when it started.
func stat(pid int) (state byte, begun uint64, err error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, 0, err
	}
	return parseStat(string(text))
}

// parseStat reads proc_pid_stat: the name in parentheses may hold anything.
func parseStat(text string) (state byte, begun uint64, err error) {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return 0, 0, errors.New("not what proc_pid_stat describes")
	}
	begun, err = strconv.ParseUint(fields[19], 10, 64)
	return fields[0][0], begun, err
}

// stop ends the process called name: politely, and if it does not go within grace, at
// once. It does nothing if there is none.
func (c *Cluster) stop(name string, polite bool, grace time.Duration) {
	p, found := c.remembered(name)
	if !found {
		return
	}
	if polite && p.alive() {
		_ = syscall.Kill(p.PID, syscall.SIGTERM)
		waitUntil(grace, func() bool { return !p.alive() })
	}
	if p.alive() {
		_ = syscall.Kill(p.PID, syscall.SIGKILL)
		waitUntil(grace, func() bool { return !p.alive() })
	}
	os.Remove(c.path("pids", name))
}

// waitUntil looks until done says so, at most for d.
func waitUntil(d time.Duration, done func() bool) bool {
	for end := time.Now().Add(d); ; {
		if done() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// await looks until done succeeds; the error tells what was waited for, the last reason,
// and the end of the log of the process that it depends on, which is also looked at: what
// has ended answers no more.
func (c *Cluster) await(ctx context.Context, what, daemon string, done func(context.Context) error) error {
	const patience, poll = 150 * time.Second, 100 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		reason := done(ctx)
		if reason == nil {
			c.say("%s", what)
			return nil
		}
		p, started := c.remembered(daemon)
		if started && !p.alive() {
			return fmt.Errorf("%s: %s has ended: %s", what, daemon, c.tail(daemon))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w; %s says: %s", what, context.Cause(ctx), reason, daemon, c.tail(daemon))
		case <-time.After(poll):
		}
	}
}

// tail returns the end of a daemon's log.
func (c *Cluster) tail(daemon string) string {
	text, err := os.ReadFile(c.path("logs", daemon+".log"))
	if err != nil {
		return err.Error()
	}
	const most = 1500
	return strings.TrimSpace(string(text[max(0, len(text)-most):]))
}

// run runs a command to its end; the error holds what it said.
func run(ctx context.Context, args ...string) error {
	_, err := output(ctx, args...)
	return err
}

// output returns what a command prints; the error holds what else it said.
func output(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return string(out), nil
}
