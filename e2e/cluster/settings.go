package cluster

import (
	"fmt"
	"os"
	"path/filepath"
)

// Version of Kubernetes that is built.
const Version = "1.36.3"

// Addresses. All of them exist only inside the network namespace.
const (
	NodeName    = "node1"
	NodeIP      = "10.250.0.1" // not 127/8: the API server may not advertise a loopback address
	serviceCIDR = "10.96.0.0/16"
	apiService  = "10.96.0.1"
	podCIDR     = "10.244.0.0/24"
	podGateway  = "10.244.0.1"
	bridge      = "cni0"
	apiPort     = "6443"
	domain      = "cluster.local"
)

const (
	namespace = "sluice-e2e" // network namespace
	stateDir  = "/var/lib/sluice-e2e"
)

// MissingError says what this machine lacks, and what to do about it. Commands exit 3
// on it.
type MissingError struct {
	What, Remedy string
	Err          error // the cause, nil if there is none
}

// Error implements error.
func (e *MissingError) Error() string {
	text := e.What
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text + "; " + e.Remedy
}

// Unwrap returns the cause.
func (e *MissingError) Unwrap() error { return e.Err }

// ExitCode is the exit code of a program that ends with e.
func (e *MissingError) ExitCode() int { return 3 }

// CacheDir returns ${SLUICE_CACHE:-~/.cache/sluice}.
func CacheDir() (string, error) {
	if dir := os.Getenv("SLUICE_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", &MissingError{What: "no cache directory", Remedy: "set SLUICE_CACHE", Err: err}
	}
	return filepath.Join(home, ".cache", "sluice"), nil
}

// programs that are needed, and the Debian package of each. Those of unpacked packages are
// looked for in the cache first: installing them would start daemons.
func programs() map[string]string {
	return map[string]string{
		"containerd": "containerd", "containerd-shim-runc-v2": "containerd", "ctr": "containerd", "runc": "runc",
		"etcd": "etcd-server", "iptables-nft": "iptables", "nft": "nftables", "conntrack": "conntrack",
		"ip": "iproute2", "nsenter": "util-linux", "sysctl": "procps", "ldd": "libc-bin",
	}
}

// cniPackage holds the CNI plugins.
const cniPackage = "containernetworking-plugins"

// paths are the directories of programs: unpacked ones in the cache, then PATH.
func paths(cache string) []string {
	var dirs []string
	for _, pkg := range []string{"containerd", "runc", "etcd-server"} {
		dirs = append(dirs, filepath.Join(cache, pkg, "usr", "bin"), filepath.Join(cache, pkg, "usr", "sbin"))
	}
	return append(dirs, filepath.SplitList(os.Getenv("PATH"))...)
}

// find returns the path of a program, "" if it is not there.
func find(cache, program string) string {
	for _, dir := range paths(cache) {
		path := filepath.Join(dir, program)
		if info, err := os.Stat(path); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// cniDir returns the directory of the CNI plugins, "" if they are not there.
func cniDir(cache string) string {
	for _, dir := range []string{filepath.Join(cache, cniPackage, "usr/lib/cni"), "/usr/lib/cni", "/opt/cni/bin"} {
		if exists(filepath.Join(dir, "bridge")) {
			return dir
		}
	}
	return ""
}

// missing returns the Debian packages that this machine lacks, sorted.
func missing(cache string) []string {
	lacks := map[string]bool{}
	for program, pkg := range programs() {
		if find(cache, program) == "" {
			lacks[pkg] = true
		}
	}
	if cniDir(cache) == "" {
		lacks[cniPackage] = true
	}
	return sorted(lacks)
}

// Able returns nil if this machine can have a cluster: a MissingError otherwise.
func Able() error {
	if os.Geteuid() != 0 {
		return &MissingError{What: "a cluster needs root", Remedy: "run as root: namespaces, mounts and iptables are its"}
	}
	for _, path := range []string{"/proc/self/ns/net", "/sys/fs/cgroup"} {
		if _, err := os.Stat(path); err != nil {
			return &MissingError{What: "a cluster needs Linux with cgroups", Remedy: fmt.Sprintf("%s is not there", path)}
		}
	}
	return nil
}
