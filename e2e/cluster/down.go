package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Down ends every process of the cluster and removes what it was made of; what cannot be
// removed is told, and does not keep the rest from being removed. It may be called on
// what is left of a cluster, and again.
func (c *Cluster) Down(ctx context.Context) error {
	const grace = 3 * time.Second
	c.stop("kubelet", true, grace) // first: it would start again what ends
	for _, name := range []string{"names", "kube-proxy", "kube-controller-manager", "kube-scheduler", "kube-apiserver", "etcd"} {
		c.stop(name, false, grace)
	}
	c.endContainers(ctx)
	c.stop("containerd", true, grace)
	faults := []error{unmount(c.state), removeNetwork(ctx), c.restoreSettings()}
	removeStrays()
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if err := os.RemoveAll(c.state); err != nil {
		return fmt.Errorf("state of the cluster: %w", err)
	}
	c.say("the cluster is gone")
	return nil
}

// endContainers kills what runs in containers of our containerd, and its shims: each is
// found by this containerd's own socket, so that nobody else's is hit.
func (c *Cluster) endContainers(ctx context.Context) {
	if p, found := c.remembered("containerd"); found && p.alive() {
		c.endTasks(ctx)
	}
	shims := c.shims()
	for _, p := range shims {
		_ = syscall.Kill(p.PID, syscall.SIGTERM)
	}
	waitUntil(3*time.Second, func() bool { return !anyAlive(shims) })
	for _, p := range shims {
		if p.alive() {
			_ = syscall.Kill(p.PID, syscall.SIGKILL)
		}
	}
}

// endTasks kills and removes the containers.
func (c *Cluster) endTasks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	list, err := output(ctx, c.ctr("tasks", "ls")...)
	if err != nil {
		return // the shims are ended anyway
	}
	var ended []process
	for _, pid := range taskPIDs(list) {
		if _, begun, err := stat(pid); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			ended = append(ended, process{PID: pid, Start: begun})
		}
	}
	waitUntil(3*time.Second, func() bool { return !anyAlive(ended) })
	names, err := output(ctx, c.ctr("containers", "ls", "-q")...)
	if err != nil {
		return
	}
	for _, name := range strings.Fields(names) {
		_ = run(ctx, c.ctr("tasks", "rm", "-f", name)...)
	}
}

// taskPIDs reads the second column of `ctr tasks ls`.
func taskPIDs(list string) []int {
	var pids []int
	for line := range strings.Lines(list) {
		if fields := strings.Fields(line); len(fields) == 3 {
			if pid, err := strconv.Atoi(fields[1]); err == nil && pid > 1 {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// shims returns the shims of our containerd.
func (c *Cluster) shims() []process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile("/proc/" + entry.Name() + "/cmdline")
		if err != nil || !ourShim(string(line), c.path("ctrd.sock")) {
			continue
		}
		if _, begun, err := stat(pid); err == nil {
			found = append(found, process{PID: pid, Start: begun})
		}
	}
	return found
}

// ourShim tells by a command line whether it is a shim of the containerd at socket.
func ourShim(cmdline, socket string) bool {
	args := strings.Split(strings.TrimRight(cmdline, "\x00"), "\x00")
	if !strings.HasSuffix(args[0], "containerd-shim-runc-v2") {
		return false
	}
	for i, arg := range args {
		if arg == "-address" && i+1 < len(args) && args[i+1] == socket {
			return true
		}
	}
	return false
}

func anyAlive(list []process) bool {
	for _, p := range list {
		if p.alive() {
			return true
		}
	}
	return false
}
