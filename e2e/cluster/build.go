package cluster

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // the program that is built
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

//go:embed kube/main.go.txt
var kubeSource []byte

// tools are the names by which the one program is called.
func tools() []string {
	return []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl"}
}

// packages that the program consists of, about; for progress only.
const packagesAbout = 2750

// Kube is the directory of Kubernetes' programs.
type Kube string

// Path returns the path of one of the programs.
func (k Kube) Path(tool string) string { return filepath.Join(string(k), tool) }

// Built returns where Kubernetes is in the cache, and whether it is there already.
func Built(cache string) (Kube, bool) {
	dir := filepath.Join(cache, "kubernetes", Version)
	stamp, err := os.ReadFile(filepath.Join(dir, "built"))
	if err != nil || string(stamp) != recipe() {
		return Kube(dir), false
	}
	for _, tool := range tools() {
		if _, err := os.Stat(filepath.Join(dir, tool)); err != nil {
			return Kube(dir), false
		}
	}
	return Kube(dir), true
}

// recipe changes whenever what is built would be another.
func recipe() string {
	sum := sha256.Sum256(bytes.Join([][]byte{kubeSource, []byte(versionFlags(Version))}, []byte{0}))
	return hex.EncodeToString(sum[:])
}

// Build returns Kubernetes from the cache, building it first if it is not there: once for
// a machine, about ten minutes of two idle cores and 4 GB of Go's caches. A lock keeps two
// runs from building at once.
func Build(ctx context.Context, cache string, progress io.Writer) (Kube, error) {
	kube, done := Built(cache)
	if done {
		return kube, nil
	}
	if err := os.MkdirAll(string(kube), 0o755); err != nil {
		return "", fmt.Errorf("cache of Kubernetes: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(string(kube), "lock"), func() {
		fmt.Fprintln(progress, "another run is building Kubernetes: waiting for it")
	})
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, done = Built(cache); done {
		return kube, nil
	}
	started := time.Now()
	fmt.Fprintf(progress, "building Kubernetes %s into %s, once for this machine: about 20 minutes of CPU time\n",
		Version, kube)
	if err := build(ctx, string(kube), progress); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", &MissingError{What: "Kubernetes " + Version + " cannot be built", Err: err,
			Remedy: "the Go module proxy must be reachable; to try again run the same command"}
	}
	fmt.Fprintf(progress, "Kubernetes %s is built (%s)\n", Version, time.Since(started).Round(time.Second))
	return kube, nil
}

// build does the work of Build in dir.
func build(ctx context.Context, dir string, progress io.Writer) error {
	source := filepath.Join(dir, "src")
	if err := os.RemoveAll(source); err != nil {
		return err
	}
	if err := os.MkdirAll(source, 0o755); err != nil {
		return err
	}
	original, err := originalMod(ctx, dir)
	if err != nil {
		return err
	}
	mod, err := goMod(string(original), Version)
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{"go.mod": []byte(mod), "main.go": kubeSource} {
		if err := os.WriteFile(filepath.Join(source, name), text, 0o644); err != nil {
			return err
		}
	}
	if err := compile(ctx, source, filepath.Join(dir, "kube.new"), progress); err != nil {
		return err
	}
	return install(dir)
}

// install puts the new program in place under all its names.
func install(dir string) error {
	if err := os.Rename(filepath.Join(dir, "kube.new"), filepath.Join(dir, "kube")); err != nil {
		return err
	}
	for _, tool := range tools() {
		path := filepath.Join(dir, tool)
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.Symlink("kube", path); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "built"), []byte(recipe()), 0o644)
}

// originalMod returns the go.mod of Kubernetes.
func originalMod(ctx context.Context, dir string) ([]byte, error) {
	cmd := goCommand(ctx, dir, "mod", "download", "-json", "k8s.io/kubernetes@v"+Version)
	cmd.Env = append(cmd.Env, "GO111MODULE=on")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go mod download: %w: %s", err, bytes.TrimSpace(out))
	}
	var module struct{ GoMod string }
	if err := json.Unmarshal(out, &module); err != nil {
		return nil, fmt.Errorf("go mod download: %w", err)
	}
	return os.ReadFile(module.GoMod)
}

// goCommand is a command of the go tool that no setting of the user's bends.
func goCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // go then removes what it has in /tmp
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains([]string{"GOFLAGS", "GOWORK", "GOOS", "GOARCH", "CGO_ENABLED"}, name)
	})
	cmd.Env = append(cmd.Env, "GOFLAGS=-mod=mod -buildvcs=false", "GOWORK=off", "CGO_ENABLED=0")
	if os.Getenv("GOGC") == "" {
		cmd.Env = append(cmd.Env, "GOGC=400") // of the compiler: a sixth less time, for memory
	}
	return cmd
}

// compile builds the module in dir; every so often it tells how far it is.
func compile(ctx context.Context, dir, out string, progress io.Writer) error {
	cmd := goCommand(ctx, dir, "build", "-v", "-trimpath", "-ldflags", versionFlags(Version), "-o", out, ".")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	said := tell(stderr, progress)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, strings.Join(said, "\n"))
	}
	return nil
}

// tell counts the packages that go build -v names and returns what else it said last.
func tell(r io.Reader, progress io.Writer) []string {
	const beat, kept = 15 * time.Second, 40
	var said []string
	packages, next := 0, time.Now().Add(beat)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	defer io.Copy(io.Discard, r) //nolint:errcheck // so that go never waits for a reader
	for lines.Scan() {
		line := lines.Text()
		if strings.ContainsAny(line, " \t") {
			said = append(said, line)
			said = said[max(0, len(said)-kept):]
		} else {
			packages++
		}
		if time.Now().After(next) {
			next = time.Now().Add(beat)
			fmt.Fprintf(progress, "  %d packages compiled, of about %d if none was before\n", packages, packagesAbout)
		}
	}
	return said
}
