package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Options of a cluster.
type Options struct {
	Cache    string    // CacheDir()
	Programs Programs  // of at least PausePackage and NamesPackage
	Progress io.Writer // lines for people
}

// Cluster is one that is up, or what is left of one.
type Cluster struct {
	state    string
	cache    string
	kube     Kube
	progress io.Writer
	programs Programs
	began    time.Time
}

func (c *Cluster) path(parts ...string) string {
	return filepath.Join(append([]string{c.state}, parts...)...)
}

// say tells of progress, with the seconds since the start.
func (c *Cluster) say(format string, args ...any) {
	fmt.Fprintf(c.progress, "%6.1f s  %s\n", time.Since(c.began).Seconds(), fmt.Sprintf(format, args...))
}

// Kubeconfig returns the path of the administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return c.path("pki", "admin.kubeconfig") }

// Kubectl returns the command line, to be continued, of the administrator's kubectl. It
// works from outside of the namespace.
func (c *Cluster) Kubectl() []string {
	return inside(c.kube.Path("kubectl"), "--kubeconfig", c.Kubeconfig(), "--cache-dir", c.path("kubectl"))
}

// Inside returns the command line that runs args in the cluster's network.
func (c *Cluster) Inside(args ...string) []string { return inside(args...) }

// Up takes the machine's lock and starts a cluster; Down ends it and gives the lock back
// through the function. What an earlier run left behind without wanting to is removed; a
// cluster that was kept is an error.
func Up(ctx context.Context, o Options) (c *Cluster, unlock func(), err error) {
	if err := Able(); err != nil {
		return nil, nil, err
	}
	if lacks := missing(o.Cache); len(lacks) > 0 {
		return nil, nil, &MissingError{What: "programs of a cluster are not here: " + strings.Join(lacks, " "),
			Remedy: "make cluster-programs fetches them; or apt-get install them"}
	}
	kube, err := Build(ctx, o.Cache, o.Progress)
	if err != nil {
		return nil, nil, err
	}
	unlock, err = lock(ctx, stateDir+".lock", func() {
		fmt.Fprintln(o.Progress, "another run has a cluster up on this machine: waiting for its end")
	})
	if err != nil {
		return nil, nil, err
	}
	c = &Cluster{state: stateDir, cache: o.Cache, kube: kube, progress: o.Progress, programs: o.Programs, began: time.Now()}
	if err := c.bring(ctx); err != nil {
		unlock()
		return nil, nil, err
	}
	return c, unlock, nil
}

// bring starts the cluster, whole or not at all.
func (c *Cluster) bring(ctx context.Context) error {
	if c.Kept() {
		return fmt.Errorf("a cluster is up, kept by an earlier run: end it with `make e2e-cluster-down`")
	}
	if _, err := os.Stat(c.state); err == nil {
		fmt.Fprintln(c.progress, "removing what an earlier run left behind")
		if err := c.Down(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
	if err := c.launch(ctx); err != nil {
		return errors.Join(err, c.Down(context.WithoutCancel(ctx)))
	}
	return nil
}

// Kept reports whether Keep was called and processes of the cluster run.
func (c *Cluster) Kept() bool {
	if _, err := os.Stat(c.path("kept")); err != nil {
		return false
	}
	entries, _ := os.ReadDir(c.path("pids"))
	for _, entry := range entries {
		if p, found := c.remembered(entry.Name()); found && p.alive() {
			return true
		}
	}
	return false
}

// Keep makes the cluster outlive this process; Kubectl of the returned text is for people.
func (c *Cluster) Keep() error { return os.WriteFile(c.path("kept"), nil, 0o600) }

// Existing returns the cluster that is in State, if any.
func Existing(o Options) (*Cluster, bool) {
	kube, _ := Built(o.Cache)
	c := &Cluster{state: stateDir, cache: o.Cache, kube: kube, progress: o.Progress, programs: o.Programs, began: time.Now()}
	_, err := os.Stat(c.state)
	return c, err == nil
}

// daemon is one to start.
type daemon struct {
	name string
	line []string
}

// launch starts everything, in the order in which one needs the other.
func (c *Cluster) launch(ctx context.Context) error {
	if err := c.prepare(ctx); err != nil {
		return err
	}
	if err := c.startAll(daemon{"containerd", containerdLine()}, daemon{"etcd", etcdLine()},
		daemon{"kube-apiserver", apiserverLine()}); err != nil {
		return err
	}
	err := c.await(ctx, "containerd answers", "containerd", func(ctx context.Context) error {
		return run(ctx, c.ctr("version")...)
	})
	if err != nil {
		return err
	}
	if err := c.Import(ctx, c.programs.pause()); err != nil {
		return err
	}
	err = c.await(ctx, "the API server is ready", "kube-apiserver", func(ctx context.Context) error {
		return c.kubectl(ctx, "get", "--raw", "/readyz")
	})
	if err != nil {
		return err
	}
	if err := c.startAll(daemon{"kube-controller-manager", controllersLine()}, daemon{"kube-scheduler", schedulerLine()},
		daemon{"kubelet", kubeletLine()}, daemon{"kube-proxy", proxyLine()}); err != nil {
		return err
	}
	return c.settle(ctx)
}

// settle waits until the cluster can run pods.
func (c *Cluster) settle(ctx context.Context) error {
	if err := c.startAll(daemon{"names", namesLine(c.programs.Path(NamesPackage))}); err != nil {
		return err
	}
	err := c.await(ctx, "the node is ready", "kubelet", func(ctx context.Context) error {
		return c.kubectl(ctx, "wait", "--for=condition=Ready", "node/"+NodeName, "--timeout=60s")
	})
	if err != nil {
		return err
	}
	return c.await(ctx, "pods can be made", "kube-controller-manager", func(ctx context.Context) error {
		return c.kubectl(ctx, "get", "serviceaccount", "default")
	})
}

// prepare makes directories, certificates, files, the network and the mount.
func (c *Cluster) prepare(ctx context.Context) error {
	for _, dir := range []string{"logs", "pids", "cni", "etcd", "podlogs", "kubelet"} {
		if err := os.MkdirAll(c.path(dir), 0o700); err != nil {
			return err
		}
	}
	if err := writePKI(c.path("pki"), time.Now()); err != nil {
		return err
	}
	if err := c.writeConfigs(); err != nil {
		return err
	}
	if err := c.saveSettings(); err != nil {
		return err
	}
	if err := network(ctx); err != nil {
		return err
	}
	return c.mountKubelet()
}

func (c *Cluster) startAll(daemons ...daemon) error {
	for _, d := range daemons {
		line := make([]string, len(d.line))
		for i, word := range d.line {
			line[i] = strings.ReplaceAll(word, "$S", c.state)
		}
		if path := c.kube.Path(line[0]); exists(path) {
			line[0] = path
		} else if path := find(c.cache, line[0]); path != "" {
			line[0] = path
		}
		if err := c.start(d.name, line...); err != nil {
			return err
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// kubectl runs kubectl as the administrator.
func (c *Cluster) kubectl(ctx context.Context, args ...string) error {
	return run(ctx, append(c.Kubectl(), args...)...)
}

// ctr is a command line of containerd's client, in the namespace of Kubernetes.
func (c *Cluster) ctr(args ...string) []string {
	return append([]string{find(c.cache, "ctr"), "-a", c.path("ctrd.sock"), "-n", "k8s.io"}, args...)
}
