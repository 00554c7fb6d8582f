//go:build !linux

package journal

import (
	"errors"
	"io"
)

// Sync implements File.
func (f file) Sync() error { return f.File.Sync() }

// Lock implements Disk; a journal is written on Linux only.
func (d directory) Lock(string) (io.Closer, error) {
	return nil, errors.New("locking a journal is implemented for Linux only")
}
