package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// shared are the settings of the whole machine that a cluster changes, or kubelet does;
// what is not "" is set at once. They are restored at the end. (What belongs to a network
// namespace goes with it.)
func shared() map[string]string {
	return map[string]string{
		"vm/overcommit_memory":          "",
		"kernel/panic":                  "",
		"kernel/panic_on_oops":          "",
		"fs/inotify/max_user_instances": "8192",
	}
}

func sysctl(name string) string { return filepath.Join("/proc/sys", name) }

// saveSettings remembers the machine's settings, and changes those that must be.
func (c *Cluster) saveSettings() error {
	old := map[string]string{}
	for name, want := range shared() {
		text, err := os.ReadFile(sysctl(name))
		if err != nil {
			return err
		}
		old[name] = strings.TrimSpace(string(text))
		if want == "" {
			continue
		}
		if err := os.WriteFile(sysctl(name), []byte(want), 0o644); err != nil {
			return err
		}
	}
	text, err := json.Marshal(old)
	if err != nil {
		return err
	}
	return os.WriteFile(c.path("settings.json"), text, 0o600)
}

// restoreSettings puts the machine's settings back.
func (c *Cluster) restoreSettings() error {
	text, err := os.ReadFile(c.path("settings.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var old map[string]string
	if err := errors.Join(err, json.Unmarshal(text, &old)); err != nil {
		return fmt.Errorf("settings to restore: %w", err)
	}
	var faults []error
	for name := range shared() {
		if value, found := old[name]; found {
			faults = append(faults, os.WriteFile(sysctl(name), []byte(value), 0o644))
		}
	}
	return errors.Join(faults...)
}

// network makes the namespace, the node's address and the bridge of the pods. The bridge
// is there before the first pod, and the services have a route to it: a service without a
// rule would else go wherever the default route leads.
func network(ctx context.Context) error {
	if err := run(ctx, "ip", "netns", "add", namespace); err != nil {
		return err
	}
	for _, line := range []string{
		"ip link set lo up",
		"ip addr add " + NodeIP + "/32 dev lo",
		"ip link add " + bridge + " type bridge",
		"ip addr add " + podGateway + "/24 dev " + bridge,
		"ip link set " + bridge + " up",
		"ip route add " + serviceCIDR + " dev " + bridge,
	} {
		if err := run(ctx, inside(strings.Fields(line)...)...); err != nil {
			return err
		}
	}
	// These belong to the namespace: written by a process inside, so without a shell's help.
	for _, name := range []string{"net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables"} {
		if err := run(ctx, inside("sysctl", "-q", "-w", name+"=1")...); err != nil {
			return err
		}
	}
	return nil
}

// removeNetwork ends the namespace and all that is in it.
func removeNetwork(ctx context.Context) error {
	if _, err := os.Stat(namespacePath()); err != nil {
		return nil //nolint:nilerr // it is not there
	}
	if err := run(ctx, "ip", "netns", "del", namespace); err != nil {
		return err
	}
	// ip mounts the directory on itself for the first namespace, and never takes that back.
	dir := filepath.Dir(namespacePath())
	if entries, err := os.ReadDir(dir); err == nil && len(entries) == 0 {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		os.Remove(dir)
	}
	return nil
}

// mountKubelet makes kubelet's directory a shared mount, so that the volumes that it
// mounts are seen in containers.
func (c *Cluster) mountKubelet() error {
	dir := c.path("kubelet")
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s on itself: %w", dir, err)
	}
	if err := unix.Mount("", dir, "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("share the mount %s: %w", dir, err)
	}
	return nil
}

// unmount ends every mount below dir, the last first.
func unmount(dir string) error {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	var faults []error
	points := mountPoints(string(text), dir)
	for i := len(points) - 1; i >= 0; i-- {
		if err := unix.Unmount(points[i], unix.MNT_DETACH); err != nil {
			faults = append(faults, fmt.Errorf("unmount %s: %w", points[i], err))
		}
	}
	return errors.Join(faults...)
}

// mountPoints returns those of a mounts file (fstab(5) form) that lie in dir.
func mountPoints(mounts, dir string) []string {
	var found []string
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		if len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			found = append(found, strings.NewReplacer(`\040`, " ", `\011`, "\t", `\134`, `\`).Replace(fields[1]))
		}
	}
	return found
}

// strays are what kubelet, containerd and the CNI plugins leave outside of State.
func strays() []string {
	return []string{
		"/var/lib/cni/results/podnet-*", "/var/lib/cni/results/cni-loopback-*", "/var/lib/kubelet/device-plugins/*",
	}
}

// removeStrays removes them, and directories that are empty then.
func removeStrays() {
	for _, pattern := range strays() {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			os.Remove(file)
		}
		for dir := filepath.Dir(pattern); dir != "/var/lib"; dir = filepath.Dir(dir) {
			os.Remove(dir) // only if it is empty
		}
	}
	if !exists("/run/containerd/containerd.sock") { // nobody else's is there
		for _, dir := range []string{"runc/k8s.io", "runc", "fifo", "s", ""} {
			os.Remove(filepath.Join("/run/containerd", dir)) // only if it is empty
		}
	}
	for _, controller := range []string{"", "*"} {
		groups, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup", controller, "kubepods"))
		for _, group := range groups {
			removeGroups(group)
		}
	}
}

// removeGroups removes a tree of cgroups that hold no process.
func removeGroups(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if entry.IsDir() {
			removeGroups(filepath.Join(dir, entry.Name()))
		}
	}
	os.Remove(dir)
}
