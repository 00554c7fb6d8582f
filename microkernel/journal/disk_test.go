package journal

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"syscall"
)

// lossyDisk is a Disk in memory: what was not synced may be lost in a crash, sector by
// sector.
type lossyDisk struct {
	files  map[string]*lossyFile
	room   int64 // bytes that may still be allocated
	held   bool  // locked
	syncs  int
	fault  error // of the next Sync, and of every one after it
	broken bool  // a Sync has failed; used again after that is a bug
}

func newDisk() *lossyDisk { return &lossyDisk{files: map[string]*lossyFile{}, room: 1 << 40} }

type lossyFile struct {
	disk    *lossyDisk
	data    []byte // as the process sees it
	durable []byte
	used    bool // written or synced after a failed sync
}

func (d *lossyDisk) List() ([]string, error) {
	var names []string
	for name := range d.files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

func (d *lossyDisk) Create(name string, size int64) (File, error) {
	if size > d.room {
		return nil, fmt.Errorf("create %s: %w", name, syscall.ENOSPC)
	}
	d.room -= size
	f := &lossyFile{disk: d, data: make([]byte, size), durable: make([]byte, size)}
	d.files[name] = f
	return f, nil
}

func (d *lossyDisk) Open(name string) (File, error) {
	f, found := d.files[name]
	if !found {
		return nil, fmt.Errorf("open %s: %w", name, syscall.ENOENT)
	}
	return f, nil
}

func (d *lossyDisk) Rename(from, to string) error {
	f, found := d.files[from]
	if !found {
		return fmt.Errorf("rename %s: %w", from, syscall.ENOENT)
	}
	delete(d.files, from)
	d.files[to] = f
	return nil
}

type unlock struct{ disk *lossyDisk }

func (u unlock) Close() error {
	u.disk.held = false
	return nil
}

func (d *lossyDisk) Lock(name string) (io.Closer, error) {
	if d.held {
		return nil, fmt.Errorf("%s: %w", name, ErrLocked)
	}
	d.held = true
	return unlock{d}, nil
}

// crash returns the disk as it may be after power was lost now. rng nil loses everything
// that was not synced.
func (d *lossyDisk) crash(rng *rand.Rand) *lossyDisk {
	after := &lossyDisk{files: map[string]*lossyFile{}, room: d.room}
	names, _ := d.List()
	for _, name := range names {
		f := d.files[name]
		data := slices.Clone(f.durable)
		for at := 0; at < len(data); at += sectorSize {
			end := min(at+sectorSize, len(data))
			if rng != nil && rng.IntN(2) == 0 {
				copy(data[at:end], f.data[at:end])
			}
		}
		after.files[name] = &lossyFile{disk: after, data: data, durable: slices.Clone(data)}
	}
	return after
}

// clone returns a copy of the disk as the process sees it.
func (d *lossyDisk) clone() *lossyDisk {
	after := &lossyDisk{files: map[string]*lossyFile{}, room: d.room}
	for name, f := range d.files {
		after.files[name] = &lossyFile{disk: after, data: slices.Clone(f.data), durable: slices.Clone(f.data)}
	}
	return after
}

func (f *lossyFile) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *lossyFile) WriteAt(p []byte, off int64) (int, error) {
	f.used = f.used || f.disk.broken
	return copy(f.data[off:], p), nil
}

func (f *lossyFile) Size() (int64, error) { return int64(len(f.data)), nil }

func (f *lossyFile) Close() error { return nil }

func (f *lossyFile) Sync() error {
	f.used = f.used || f.disk.broken
	f.disk.syncs++
	if f.disk.fault != nil {
		f.disk.broken = true
		return f.disk.fault
	}
	f.durable = slices.Clone(f.data)
	return nil
}
