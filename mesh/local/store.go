package local

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// maxSocketPath is the longest path of a Unix socket, in bytes (unix(7)).
const maxSocketPath = 107

// Names inside a state directory.
const (
	supervisorSocket = "supervisor.sock"
	xdsSocket        = "xds.sock"
)

// Socket returns the path of the supervisor's socket in a state directory.
func Socket(stateDir string) string { return filepath.Join(stateDir, supervisorSocket) }

// openDir creates the state directory with its folders, mode 0700.
func openDir(dir string) error {
	if longest := filepath.Join(dir, supervisorSocket); len(longest) > maxSocketPath {
		return &Error{
			Code: exitMalformed,
			Reason: fmt.Sprintf("state directory %s is too long: its sockets would have %d bytes, at most %d are allowed",
				dir, len(longest), maxSocketPath),
			Remedy: "name a shorter one with --state",
		}
	}
	for _, sub := range []string{"", "children", "logs", "bootstrap"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return missing(err, "name a directory that you may write with --state", "state directory")
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return missing(err, "name a directory of your own with --state", "state directory")
	}
	return nil
}

// lockDir takes the state directory's lock, which ends with the process or with
// close. It fails if another supervisor holds it.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, missing(err, "name a directory of your own with --state", "lock of the state directory")
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(path)
		file.Close()
		if len(holder) == 0 {
			holder = []byte("unknown")
		}
		return nil, failed("end it with: sluice local down --state "+dir+", or name another directory with --state",
			"another supervisor (pid %s) runs in %s", holder[:min(len(holder), 20)], dir)
	}
	if err := file.Truncate(0); err != nil {
		file.Close()
		return nil, fmt.Errorf("lock of the state directory: %w", err)
	}
	if _, err := fmt.Fprintf(file, "%d", os.Getpid()); err != nil {
		file.Close()
		return nil, fmt.Errorf("lock of the state directory: %w", err)
	}
	return file, nil
}

// loadJSON reads path into value; an absent file leaves value as it is.
func loadJSON(path string, value any) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	if err := json.Unmarshal(data, value); err != nil {
		return failed("remove the file; what it held is then chosen anew", "%s is not understood: %v", path, err)
	}
	return nil
}

// saveJSON replaces path by value in one step, mode 0600.
func saveJSON(path string, value any) error {
	data, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	temporary := path + ".new"
	if err := os.WriteFile(temporary, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

// identity is what of a mesh outlives its supervisor, its processes and `down`.
type identity struct {
	path string
	mu   sync.Mutex

	Boots     uint64                         `json:"boots"`     // starts of the supervisor
	Instances map[string]*being              `json:"instances"` // by child name
	Startup   map[mesh.Service]time.Duration `json:"startup"`   // longest seen, in ns
}

// being is the identity of one instance.
type being struct {
	UID         mesh.UID `json:"uid"`
	Incarnation uint64   `json:"incarnation"` // starts of its process
}

// openIdentity loads the identities and counts this boot.
func openIdentity(dir string) (*identity, error) {
	id := &identity{
		path: filepath.Join(dir, "identity.json"), Instances: make(map[string]*being),
		Startup: make(map[mesh.Service]time.Duration),
	}
	if err := loadJSON(id.path, id); err != nil {
		return nil, err
	}
	id.Boots++
	return id, saveJSON(id.path, id)
}

// get returns the identity of a child; a new one gets a UID at random.
func (id *identity) get(child string) being {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.Instances[child] == nil {
		raw := make([]byte, 8)
		rand.Read(raw) // never fails (crypto/rand)
		id.Instances[child] = &being{UID: mesh.UID(hex.EncodeToString(raw))}
	}
	return *id.Instances[child]
}

// next counts another start of a child, durably, and returns its incarnation.
func (id *identity) next(child string) (uint64, error) {
	id.get(child)
	id.mu.Lock()
	defer id.mu.Unlock()
	id.Instances[child].Incarnation++
	return id.Instances[child].Incarnation, saveJSON(id.path, id)
}

// startup returns the longest start-up seen of a service, 0 if none.
func (id *identity) startup(service mesh.Service) time.Duration {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.Startup[service]
}

// started notes how long a start took, rounded up to 10 ms.
func (id *identity) started(service mesh.Service, took time.Duration) error {
	const step = 10 * time.Millisecond
	took = (took + step - 1) / step * step
	id.mu.Lock()
	defer id.mu.Unlock()
	if took <= id.Startup[service] {
		return nil
	}
	id.Startup[service] = took
	return saveJSON(id.path, id)
}
