package cluster

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"os/exec"
)

// ImagePrefix begins the name of every image that is made here.
const ImagePrefix = "localhost/sluice/"

// Images by which the parts of a test are run; all want imagePullPolicy: Never.
const (
	AppImage      = ImagePrefix + "app:e2e"             // /app, the demo application, with its topologies in /topologies
	LoadImage     = ImagePrefix + "load:e2e"            // /load
	EnvoyImage    = ImagePrefix + "envoy:e2e"           // /envoy
	NetinitImage  = ImagePrefix + "netinit:e2e"         // a shell and iptables
	OperatorImage = ImagePrefix + "sluice-operator:e2e" // /sluice-operator
)

// Packages of the programs that every cluster needs.
const (
	PausePackage = "e2e/cluster/pause"
	NamesPackage = "e2e/cluster/names"

	appPackage      = "e2e/app"
	loadPackage     = "e2e/cluster/loader"
	operatorPackage = "cmd/sluice-operator"
)

// Programs are programs of this module, built for images.
type Programs struct {
	dir  string
	root string // of the module
}

// BuildPrograms builds programs of the module, named by their directories, into the cache.
// It is done with the settings of go test, so that only links are left to do after it; the
// images bring the C library that the programs are linked with.
func BuildPrograms(ctx context.Context, cache string, progress io.Writer, packages ...string) (Programs, error) {
	root, err := output(ctx, "go", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return Programs{}, fmt.Errorf("the module's sources are needed to build the images: %w", err)
	}
	p := Programs{root: strings.TrimSpace(root), dir: filepath.Join(cache, "kubernetes", "programs")}
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return Programs{}, err
	}
	fmt.Fprintf(progress, "building %s\n", strings.Join(packages, " "))
	for _, name := range packages {
		cmd := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w", "-o", p.Path(name), "./"+name)
		cmd.Dir = p.root
		if out, err := cmd.CombinedOutput(); err != nil {
			return Programs{}, fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	return p, nil
}

// Path returns where the program of a package is.
func (p Programs) Path(name string) string {
	return filepath.Join(p.dir, strings.ReplaceAll(name, "/", "-"))
}

// Source returns the path of a file of the module.
func (p Programs) Source(name string) string { return filepath.Join(p.root, filepath.FromSlash(name)) }

// pause is the image of a pod's first process.
func (p Programs) pause() Image {
	return Image{Name: pauseImage, Entrypoint: []string{"/pause"},
		Files: map[string]string{"/pause": p.Path(PausePackage)}}
}

// App is the demo application.
func (p Programs) App() Image {
	return Image{Name: AppImage, Entrypoint: []string{"/app"}, Libraries: true, Files: map[string]string{
		"/app": p.Path(appPackage), "/topologies": p.Source("e2e/cluster/scenario/topologies"),
	}}
}

// Load puts load on a service and counts.
func (p Programs) Load() Image {
	return Image{Name: LoadImage, Entrypoint: []string{"/load"}, Libraries: true,
		Files: map[string]string{"/load": p.Path(loadPackage)}}
}

// Operator is the control plane.
func (p Programs) Operator() Image {
	return Image{Name: OperatorImage, Entrypoint: []string{"/sluice-operator"}, Libraries: true,
		Files: map[string]string{"/sluice-operator": p.Path(operatorPackage)}}
}

// Envoy is the proxy at path, with its libraries.
func Envoy(path string) Image {
	return Image{Name: EnvoyImage, Entrypoint: []string{"/envoy"}, Files: map[string]string{"/envoy": path}, Libraries: true}
}

// Netinit sets up the redirects of a pod: this machine's own iptables, and a shell.
func Netinit(cache string) (Image, error) {
	iptables := find(cache, "iptables-nft")
	if iptables == "" {
		return Image{}, &MissingError{What: "no iptables-nft", Remedy: "apt-get install iptables"}
	}
	modules, err := filepath.Glob("/usr/lib/*/xtables")
	if err != nil || len(modules) == 0 {
		return Image{}, &MissingError{What: "no modules of iptables in /usr/lib/*/xtables", Remedy: "apt-get install iptables"}
	}
	return Image{Name: NetinitImage, Entrypoint: []string{"/bin/sh"}, Libraries: true, Files: map[string]string{
		"/usr/sbin/iptables": iptables, "/usr/sbin/iptables-restore": iptables, "/usr/sbin/iptables-save": iptables,
		modules[0]: modules[0], "/bin/sh": "/bin/sh", "/etc/protocols": "/etc/protocols",
	}}, nil
}
