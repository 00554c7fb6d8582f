package journal

import (
	"io"
	"os"
	"path/filepath"
	"slices"
)

// Disk is the directory of a journal, as small as a journal needs it.
type Disk interface {
	// List returns the names of the files, sorted.
	List() ([]string, error)
	// Create makes a file of size zero bytes that are allocated and durable, in place of
	// one of that name. It leaves nothing behind when there is no room.
	Create(name string, size int64) (File, error)
	// Open opens an existing file for reading and writing.
	Open(name string) (File, error)
	// Rename replaces the file called to by the one called from, durably.
	Rename(from, to string) error
	// Lock keeps every other process from the journal until the result is closed; an
	// error that is ErrLocked if one has it.
	Lock(name string) (io.Closer, error)
}

// File is a file on a Disk.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	// Sync returns when all that was written, at offsets that already existed, is
	// durable. After an error nothing is known and the file must not be used again.
	Sync() error
}

// directory is a Disk in a real directory.
type directory struct {
	path     string
	readOnly bool
}

// Directory returns the Disk of the directory at path, which it makes (mode 0700) if
// it is not there.
func Directory(path string) (Disk, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	return directory{path: path}, nil
}

// List implements Disk.
func (d directory) List() ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	slices.Sort(names)
	return names, nil
}

// Create implements Disk. It writes the zeros: blocks that are allocated but never
// written would cost a journal commit of the file system at each sync. What a full disk
// leaves of the file is removed, since it would keep the disk full.
func (d directory) Create(name string, size int64) (File, error) {
	path := filepath.Join(d.path, name)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := zero(f, 0, size); err != nil {
		_ = f.Close() // the first error is the one that matters
		_ = os.Remove(path)
		return nil, err
	}
	if err := f.Sync(); err != nil {
		_ = f.Close()
		return nil, err
	}
	return file{f}, nil
}

// zero writes zeros to f from byte start up to byte end.
func zero(f io.WriterAt, start, end int64) error {
	zeros := make([]byte, max(0, min(end-start, 1<<20)))
	for at := start; at < end; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), end-at)], at); err != nil {
			return err
		}
	}
	return nil
}

// Open implements Disk.
func (d directory) Open(name string) (File, error) {
	flag := os.O_RDWR
	if d.readOnly {
		flag = os.O_RDONLY
	}
	f, err := os.OpenFile(filepath.Join(d.path, name), flag, 0)
	if err != nil {
		return nil, err
	}
	return file{f}, nil
}

// Rename implements Disk.
func (d directory) Rename(from, to string) error {
	if err := os.Rename(filepath.Join(d.path, from), filepath.Join(d.path, to)); err != nil {
		return err
	}
	dir, err := os.Open(d.path)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }() // opened for reading: nothing to lose
	return dir.Sync()
}

// file is a File of the operating system.
type file struct{ *os.File }

// Size implements File.
func (f file) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
