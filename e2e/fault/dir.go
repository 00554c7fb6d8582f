package fault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// EnvDir is the environment variable that tells the application its fault directory.
const EnvDir = "E2E_FAULTS"

const (
	markerFile = "poison.marker"
	suffix     = ".process.json"
	maxFile    = 4 << 10
)

// Process is how a process of the application can be reached.
type Process struct {
	Service  string `json:"service"`
	Instance string `json:"instance"`
	PID      int    `json:"pid"`
	Started  uint64 `json:"started"` // clock ticks since boot, as in /proc/PID/stat
	Control  string `json:"control"` // host:port
}

// Dir is the directory in which the application's processes announce themselves.
// Nothing but faults and the application uses it.
type Dir string

// Register announces p, replacing an earlier process of the same instance.
func (d Dir) Register(p Process) error {
	text, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("announce process: %w", err)
	}
	name := strings.ReplaceAll(p.Service, "/", ".") + "." + p.Instance + suffix
	return d.write(name, text)
}

// Processes lists the processes that announced themselves and still run.
func (d Dir) Processes() ([]Process, error) {
	paths, err := filepath.Glob(filepath.Join(string(d), "*"+suffix))
	if err != nil {
		return nil, fmt.Errorf("fault directory: %w", err)
	}
	var list []Process
	for _, path := range paths {
		var p Process
		if err := readJSON(path, &p); err != nil {
			return nil, err
		}
		if started, err := StartOf(p.PID); err == nil && started == p.Started {
			list = append(list, p)
		}
	}
	return list, nil
}

// Marked returns the marker in force, nil if there is none.
func (d Dir) Marked() (*Marker, error) {
	if d == "" {
		return nil, nil
	}
	var marker Marker
	err := readJSON(filepath.Join(string(d), markerFile), &marker)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &marker, nil
}

// Inject does f now and returns when every blow has landed.
func (d Dir) Inject(ctx context.Context, f Fault) error {
	processes, err := d.Processes()
	if err != nil {
		return err
	}
	if f.Marker != nil {
		text, err := json.Marshal(f.Marker)
		if err != nil {
			return fmt.Errorf("marker: %w", err)
		}
		if err := d.write(markerFile, text); err != nil {
			return err
		}
	}
	for _, blow := range f.Blows {
		if err := strike(ctx, processes, blow); err != nil {
			return fmt.Errorf("inject %s: %w", f.ID, err)
		}
	}
	return nil
}

// strike delivers one blow to every process that it is meant for.
func strike(ctx context.Context, processes []Process, blow Blow) error {
	hit := 0
	for _, p := range processes {
		if p.Service != blow.Service || (blow.Instance != "" && p.Instance != blow.Instance) {
			continue
		}
		hit++
		if err := deliver(ctx, p, blow); err != nil {
			return fmt.Errorf("%s of %s: %w", p.Instance, p.Service, err)
		}
	}
	if hit == 0 {
		return fmt.Errorf("%s %s: no such process runs", blow.Service, blow.Instance)
	}
	return nil
}

func deliver(ctx context.Context, p Process, blow Blow) error {
	switch blow.Signal {
	case "KILL":
		return syscall.Kill(p.PID, syscall.SIGKILL)
	case "STOP":
		return syscall.Kill(p.PID, syscall.SIGSTOP)
	}
	return post(ctx, p.Control, blow.Order)
}

// post hands an order to the process that listens at control.
func post(ctx context.Context, control string, order Order) error {
	text, err := json.Marshal(order)
	if err != nil {
		return fmt.Errorf("order: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+control+"/order", bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("order: %w", err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("order: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusNoContent {
		reason, _ := io.ReadAll(io.LimitReader(response.Body, 200))
		return fmt.Errorf("order refused with %d: %s", response.StatusCode, reason)
	}
	return nil
}

// StartOf returns when process pid started, in clock ticks since boot; with the pid
// this names a process for good, where the pid alone may be used again.
func StartOf(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("process %d: %w", pid, err)
	}
	// The name in parentheses may hold blanks; field 22 is the 20th after it.
	_, rest, found := bytes.Cut(text, []byte(") "))
	fields := bytes.Fields(rest)
	if !found || len(fields) < 20 {
		return 0, fmt.Errorf("process %d: stat is cut short", pid)
	}
	var ticks uint64
	if _, err := fmt.Sscan(string(fields[19]), &ticks); err != nil {
		return 0, fmt.Errorf("process %d: start time: %w", pid, err)
	}
	return ticks, nil
}

// write replaces file name in d in one step.
func (d Dir) write(name string, text []byte) error {
	temporary, err := os.CreateTemp(string(d), ".new-*")
	if err != nil {
		return fmt.Errorf("fault directory: %w", err)
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.Write(text)
	if err := errors.Join(err, temporary.Close()); err != nil {
		return fmt.Errorf("fault directory: %w", err)
	}
	if err := os.Rename(temporary.Name(), filepath.Join(string(d), name)); err != nil {
		return fmt.Errorf("fault directory: %w", err)
	}
	return nil
}

// readJSON decodes the file at path strictly into value.
func readJSON(path string, value any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("fault directory: %w", err)
	}
	if len(text) > maxFile {
		return fmt.Errorf("fault directory: %s is larger than %d bytes", path, maxFile)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(value); err != nil {
		return fmt.Errorf("fault directory: %s: %w", path, err)
	}
	return nil
}
