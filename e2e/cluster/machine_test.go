package cluster

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// needed skips the test where there can be no cluster, which CI does not accept.
func needed(t *testing.T) (cache string) {
	t.Helper()
	cache, err := CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	if err := Able(); err != nil {
		t.Skip(err)
	}
	if lacks := missing(cache); len(lacks) > 0 {
		t.Skip("make cluster-programs fetches: " + strings.Join(lacks, " "))
	}
	return cache
}

// traces are what a cluster could leave behind.
func traces(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for name := range shared() {
		text, err := os.ReadFile(sysctl(name))
		if err != nil {
			t.Fatal(err)
		}
		found[name] = strings.TrimSpace(string(text))
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for _, point := range mountPoints(string(mounts), stateDir) {
		found["mount "+point] = "there"
	}
	for _, path := range []string{stateDir, namespacePath(), "/var/lib/cni"} {
		if exists(path) {
			found[path] = "there"
		}
	}
	return found
}

// The machine's part of a cluster: a namespace with containerd in it runs a container of an
// image made by hand, which can redirect packets; and nothing is left of it in the end.
func TestMachine(t *testing.T) {
	cache := needed(t)
	unlock, err := lock(t.Context(), stateDir+".lock", func() { t.Log("another run has a cluster up") })
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	c := &Cluster{state: stateDir, cache: cache, progress: t.Output(), began: time.Now()}
	if c.Kept() {
		t.Skip("optional data absent: a cluster was kept, and has this machine")
	}
	if err := c.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := traces(t)
	if err := c.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Down(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		if after := traces(t); !maps.Equal(before, after) {
			t.Errorf("left behind: before %v, after %v", before, after)
		}
	}()
	if err := c.startAll(daemon{"containerd", containerdLine()}); err != nil {
		t.Fatal(err)
	}
	err = c.await(t.Context(), "containerd answers", "containerd", func(ctx context.Context) error {
		return run(ctx, c.ctr("version")...)
	})
	if err != nil {
		t.Fatal(err)
	}
	image, err := Netinit(cache)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Import(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	const rule = "iptables -w -t nat -A PREROUTING -p tcp --dport 8080 -j REDIRECT --to-ports 15006 && iptables -t nat -S PREROUTING"
	out, err := output(t.Context(), inside(c.ctr("run", "--rm", "--cap-add", "CAP_NET_ADMIN", "--runc-binary",
		find(cache, "runc"), image.Name, "one", "/bin/sh", "-ec", rule)...)...)
	if err != nil || !strings.Contains(out, "--to-ports 15006") {
		t.Errorf("container says %q, %v", out, err)
	}
	if p, found := c.remembered("containerd"); !found || !p.alive() {
		t.Error("containerd does not run")
	}
}

func TestParseStat(t *testing.T) {
	fields := strings.Repeat("0 ", 18) + "4711 rest"
	state, begun, err := parseStat("12 (a ) name) S " + fields)
	if err != nil || state != 'S' || begun != 4711 {
		t.Errorf("got %c, %d, %v, want S, 4711", state, begun, err)
	}
	if _, _, err := parseStat("12 (x) S 1 2"); err == nil {
		t.Error("a short line is taken")
	}
	own, started, err := stat(os.Getpid())
	if err != nil || own == 'Z' || !(process{PID: os.Getpid(), Start: started}).alive() {
		t.Errorf("this process: %c, %v, want it alive", own, err)
	}
	if (process{PID: os.Getpid(), Start: started + 1}).alive() {
		t.Error("another process of the same pid counts as alive")
	}
}

func TestMountPoints(t *testing.T) {
	mounts := "proc /proc proc rw 0 0\ntmpfs /s/a tmpfs rw 0 0\ntmpfs /s/a/b\\040c tmpfs rw 0 0\ntmpfs /sx tmpfs rw 0 0\n"
	got := mountPoints(mounts, "/s")
	if want := []string{"/s/a", "/s/a/b c"}; strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOurShim(t *testing.T) {
	line := func(args ...string) string { return strings.Join(args, "\x00") + "\x00" }
	ours := line("/usr/bin/containerd-shim-runc-v2", "-namespace", "k8s.io", "-address", "/s/ctrd.sock")
	if !ourShim(ours, "/s/ctrd.sock") {
		t.Error("our own is not known")
	}
	for _, other := range []string{
		line("/usr/bin/containerd-shim-runc-v2", "-address", "/run/containerd/containerd.sock"),
		line("vi", "-address", "/s/ctrd.sock"), "",
	} {
		if ourShim(other, "/s/ctrd.sock") {
			t.Errorf("%q counts as ours", other)
		}
	}
}

func TestTaskPIDs(t *testing.T) {
	got := taskPIDs("TASK    PID     STATUS\nabc 4711 RUNNING\ndef 1 STOPPED\nghi x RUNNING\n")
	if len(got) != 1 || got[0] != 4711 {
		t.Errorf("got %v, want [4711]: never init, never what is no number", got)
	}
}

// What is missing is named by its Debian package, and the cache comes before PATH.
func TestMissing(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("PATH", "")
	got := strings.Join(missing(cache), " ")
	for _, pkg := range []string{"containerd", "etcd-server", "nftables", "runc"} {
		if !strings.Contains(got, pkg) {
			t.Errorf("missing is %q, want %s in it", got, pkg)
		}
	}
	bin := filepath.Join(cache, "etcd-server", "usr", "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "etcd"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(strings.Join(missing(cache), " "), "etcd-server") {
		t.Error("a program in the cache is not found")
	}
}
