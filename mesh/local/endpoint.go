package local

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Endpoint is what other commands need to reach a mesh's API.
type Endpoint struct {
	Server    string `json:"server"`     // "http://127.0.0.1:20001"
	TokenFile string `json:"token_file"` // of the operator
	State     string `json:"state"`      // state directory
}

// Home is the folder of all meshes of a user: ${XDG_STATE_HOME:-~/.local/state}/sluice.
//
//	endpoints/HOST_PORT.json   an Endpoint for each mesh that is up, mode 0600
//	current                    link to the one brought up last
//	NAME/                      state directory of the mesh file NAME.yaml, by default
type Home string

// FindHome returns the user's Home; getenv is os.Getenv.
func FindHome(getenv func(string) string) (Home, error) {
	if dir := getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return Home(filepath.Join(dir, "sluice")), nil
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return Home(filepath.Join(home, ".local", "state", "sluice")), nil
	}
	return "", missing(nil, "set HOME or XDG_STATE_HOME, or name a directory with --state",
		"no place for state: HOME is not set")
}

// StateDir returns the default state directory of the mesh file at path.
func (h Home) StateDir(path string) string {
	base := filepath.Base(path)
	return filepath.Join(string(h), strings.TrimSuffix(base, filepath.Ext(base)))
}

// Publish makes e known to other commands, as the current one.
func (h Home) Publish(e Endpoint) error {
	dir := filepath.Join(string(h), "endpoints")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return missing(err, "make it writable", "endpoints")
	}
	_, authority, _ := strings.Cut(e.Server, "://")
	name := strings.NewReplacer(":", "_", "/", "_").Replace(authority) + ".json"
	if err := saveJSON(filepath.Join(dir, name), e); err != nil {
		return err
	}
	return h.point(name)
}

// point makes the endpoint file called name the current one.
func (h Home) point(name string) error {
	current := filepath.Join(string(h), "current")
	temporary := current + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("current endpoint: %w", err)
	}
	if err := os.Symlink(filepath.Join("endpoints", name), temporary); err != nil {
		return fmt.Errorf("current endpoint: %w", err)
	}
	if err := os.Rename(temporary, current); err != nil {
		return fmt.Errorf("current endpoint: %w", err)
	}
	return nil
}

// Current returns the endpoint brought up last. The error wraps fs.ErrNotExist if
// no mesh is up.
func (h Home) Current() (Endpoint, error) {
	var e Endpoint
	path := filepath.Join(string(h), "current")
	if _, err := os.Stat(path); err != nil {
		return e, fmt.Errorf("current endpoint: %w", err)
	}
	return e, loadJSON(path, &e)
}

// Withdraw forgets the endpoints of a state directory; the newest of the others
// becomes the current one.
func (h Home) Withdraw(stateDir string) error {
	paths, err := filepath.Glob(filepath.Join(string(h), "endpoints", "*.json"))
	if err != nil {
		return fmt.Errorf("endpoints: %w", err)
	}
	var newest string
	var when time.Time
	for _, path := range paths {
		var e Endpoint
		if loadJSON(path, &e) == nil && e.State == stateDir {
			// The supervisor and `local down` may both withdraw it.
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("endpoint: %w", err)
			}
			continue
		}
		if info, err := os.Stat(path); err == nil && info.ModTime().After(when) {
			newest, when = filepath.Base(path), info.ModTime()
		}
	}
	if newest != "" {
		return h.point(newest)
	}
	if err := os.Remove(filepath.Join(string(h), "current")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("current endpoint: %w", err)
	}
	return nil
}

// Sweep ends the children that a killed supervisor left in a state directory and
// returns how many there were. It fails if a supervisor runs there.
func Sweep(stateDir string) (int, error) {
	dir, err := filepath.Abs(stateDir)
	if err != nil {
		return 0, fmt.Errorf("state directory: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "children")); err != nil {
		return 0, missing(err, "name the directory of a mesh with --state", "no mesh is known there")
	}
	lock, err := lockDir(dir)
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	living, err := quietNursery(dir).adopt()
	if err != nil {
		return 0, err
	}
	stopAll(living, DefaultGrace)
	return len(living), nil
}

// LogFile returns the log of the child that name means in a state directory; the
// supervisor's own is called supervisor. The error is a *RefusedError.
func LogFile(stateDir, name string) (string, error) {
	paths, err := filepath.Glob(filepath.Join(stateDir, "logs", "*.log"))
	if err != nil {
		return "", fmt.Errorf("logs: %w", err)
	}
	names := make([]string, len(paths))
	for i, path := range paths {
		names[i] = strings.TrimSuffix(filepath.Base(path), ".log")
	}
	slices.SortFunc(names, cmp.Compare[string])
	found, err := Resolve(name, names)
	if err != nil {
		return "", err
	}
	return filepath.Join(stateDir, "logs", found+".log"), nil
}
