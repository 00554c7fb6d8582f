package disk

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"

	"github.com/sluicemesh/sluice/api/v1alpha1"
	"github.com/sluicemesh/sluice/microkernel/journal"
)

// Bounds of a journal.
const (
	// limit is how many bytes the files may have as they are stored; etcd takes requests of 1.5 MiB.
	limit = 900 << 10
	// reserve is what a file no larger than Reserve may have besides.
	reserve = 64 << 10
	// archives is how many segments that were put away are kept.
	archives = 16
	// maxFile is the most that one file is decompressed to.
	maxFile = 64 << 20
)

// Sizes of segment and reserve that fit such a disk, and of the journal from which on it
// is to be compacted.
const (
	Segment      = 64 << 10
	Reserve      = 16 << 10
	CompactAfter = 256 << 10
)

// archiveSuffix is the journal's suffix of segments that were put away.
const archiveSuffix = ".audit"

// Settings are what a Disk needs.
type Settings struct {
	Objects  dynamic.ResourceInterface // RecoveryJournals of one namespace
	Name     string                    // of the object
	Holder   string                    // who writes, for people
	Patience time.Duration             // with an API server that does not answer; 0 = 5 s
}

// Disk is a journal.Disk in the API server.
type Disk struct {
	settings Settings

	mu       sync.Mutex
	version  string // resource version that the next write rests on
	files    map[string]*content
	archived []string // names of files put away, oldest first
}

// content is the bytes of a file, as they are in memory and as they are stored.
type content struct {
	size   int64
	data   []byte // up to the last byte that is not zero, at least
	stored []byte // gzip of data
}

// Open reads the journal's object, making it if it is not there. From its first write on
// every other Disk of the object that was opened before conflicts.
func Open(settings Settings) (*Disk, error) {
	if settings.Patience == 0 {
		settings.Patience = 5 * time.Second
	}
	d := &Disk{settings: settings, files: map[string]*content{}}
	ctx, cancel := context.WithTimeout(context.Background(), settings.Patience)
	defer cancel()
	found, err := settings.Objects.Get(ctx, settings.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		var empty *unstructured.Unstructured
		if empty, err = d.object(settings.Name, nil, nil, ""); err == nil {
			found, err = settings.Objects.Create(ctx, empty, metav1.CreateOptions{})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", settings.Name, err)
	}
	return d, d.load(found)
}

// load takes over what an object has.
func (d *Disk) load(from *unstructured.Unstructured) error {
	spec, err := specOf(from)
	if err != nil {
		return err
	}
	d.version, d.archived = from.GetResourceVersion(), spec.Archived
	for _, f := range spec.Files {
		c, err := unpack(f)
		if err != nil {
			return &journal.CorruptError{Segment: f.Name, Reason: err.Error()}
		}
		d.files[f.Name] = c
	}
	return nil
}

func specOf(from *unstructured.Unstructured) (v1alpha1.RecoveryJournalSpec, error) {
	var object v1alpha1.RecoveryJournal
	err := runtime.DefaultUnstructuredConverter.FromUnstructured(from.Object, &object)
	return object.Spec, err
}

func unpack(f v1alpha1.JournalFile) (*content, error) {
	c := &content{size: f.Size, stored: f.Data}
	if len(f.Data) == 0 {
		return c, nil
	}
	zip, err := gzip.NewReader(bytes.NewReader(f.Data))
	if err != nil {
		return nil, err
	}
	if c.data, err = io.ReadAll(io.LimitReader(zip, maxFile+1)); err != nil {
		return nil, err
	}
	if len(c.data) > maxFile || int64(len(c.data)) > c.size {
		return nil, fmt.Errorf("%d bytes in a file of %d", len(c.data), c.size)
	}
	return c, nil
}

func pack(data []byte) []byte {
	data = bytes.TrimRight(data, "\x00")
	if len(data) == 0 {
		return nil
	}
	var out bytes.Buffer
	zip, _ := gzip.NewWriterLevel(&out, gzip.BestSpeed) // the level is valid
	_, _ = zip.Write(data)                              // a buffer takes everything
	_ = zip.Close()
	return out.Bytes()
}

// object makes the object of files.
func (d *Disk) object(name string, files map[string]*content, archived []string, version string,
) (*unstructured.Unstructured, error) {
	object := v1alpha1.RecoveryJournal{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion, Kind: v1alpha1.KindJournal},
		ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: version},
		Spec:       v1alpha1.RecoveryJournalSpec{Holder: d.settings.Holder, Archived: archived},
	}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		c := files[file]
		object.Spec.Files = append(object.Spec.Files, v1alpha1.JournalFile{Name: file, Size: c.size, Data: c.stored})
	}
	out, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&object)
	return &unstructured.Unstructured{Object: out}, err
}

// commit makes files the durable state. An answer that was lost is found out: a conflict
// with exactly what was to be written is none. The caller holds mu.
func (d *Disk) commit(files map[string]*content, archived []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), d.settings.Patience)
	defer cancel()
	object, err := d.object(d.settings.Name, files, archived, d.version)
	if err != nil {
		return err
	}
	for attempt := 0; ; attempt++ {
		written, err := d.settings.Objects.Update(ctx, object, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) && attempt > 0 {
			written, err = d.mine(ctx, object, err)
		}
		if err == nil {
			d.version, d.files, d.archived = written.GetResourceVersion(), files, archived
			return nil
		}
		if final(err) {
			return fmt.Errorf("journal %s: %w", d.settings.Name, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("journal %s: %w", d.settings.Name, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// final reports whether no further attempt can do better.
func final(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsNotFound(err) || apierrors.IsForbidden(err) ||
		apierrors.IsInvalid(err) || apierrors.IsRequestEntityTooLargeError(err) || apierrors.IsUnauthorized(err)
}

// mine returns the stored object if it is what was to be written, else the conflict.
func (d *Disk) mine(ctx context.Context, want *unstructured.Unstructured, conflict error) (*unstructured.Unstructured, error) {
	have, err := d.settings.Objects.Get(ctx, d.settings.Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	a, err := specOf(have)
	if err != nil {
		return nil, conflict
	}
	b, err := specOf(want)
	if err != nil || a.Holder != b.Holder || !slices.EqualFunc(a.Files, b.Files, func(x, y v1alpha1.JournalFile) bool {
		return x.Name == y.Name && x.Size == y.Size && bytes.Equal(x.Data, y.Data)
	}) {
		return nil, conflict
	}
	return have, nil
}

// List implements journal.Disk.
func (d *Disk) List() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(slices.Values(append(slices.Collect(maps.Keys(d.files)), d.archived...))), nil
}

// Create implements journal.Disk.
func (d *Disk) Create(name string, size int64) (journal.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	files := maps.Clone(d.files)
	files[name] = &content{size: size}
	if err := d.commit(files, d.archived); err != nil {
		return nil, err
	}
	return &file{disk: d, content: files[name], name: name}, nil
}

// Open implements journal.Disk.
func (d *Disk) Open(name string) (journal.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.files[name]; c != nil {
		return &file{disk: d, content: c, name: name}, nil
	}
	if !slices.Contains(d.archived, name) {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	ctx, cancel := context.WithTimeout(context.Background(), d.settings.Patience)
	defer cancel()
	object, err := d.settings.Objects.Get(ctx, d.archiveName(name), metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	spec, err := specOf(object)
	if err != nil || len(spec.Files) != 1 {
		return nil, errors.Join(fmt.Errorf("%s: no archive", name), err)
	}
	c, err := unpack(spec.Files[0])
	if err != nil {
		return nil, &journal.CorruptError{Segment: name, Reason: err.Error()}
	}
	return &file{disk: d, content: c, name: name, readOnly: true}, nil
}

// archiveName is the object of a file that was put away.
func (d *Disk) archiveName(name string) string {
	return d.settings.Name + "-" + strings.TrimSuffix(name, archiveSuffix)
}

// Rename implements journal.Disk. A file that is put away gets an object of its own.
func (d *Disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.files[from]
	if c == nil {
		return fmt.Errorf("%s: %w", from, fs.ErrNotExist)
	}
	files, archived := maps.Clone(d.files), d.archived
	delete(files, from)
	if !strings.HasSuffix(to, archiveSuffix) {
		files[to] = c
		return d.commit(files, archived)
	}
	if err := d.putAway(to, c); err != nil {
		return err
	}
	archived = append(slices.Clone(archived), to)
	var gone []string
	if len(archived) > archives {
		gone, archived = archived[:len(archived)-archives], archived[len(archived)-archives:]
	}
	if err := d.commit(files, archived); err != nil {
		return err
	}
	return d.forget(gone)
}

// putAway writes the object of a file, unless an earlier attempt has.
func (d *Disk) putAway(name string, c *content) error {
	ctx, cancel := context.WithTimeout(context.Background(), d.settings.Patience)
	defer cancel()
	object, err := d.object(d.archiveName(name), map[string]*content{name: c}, nil, "")
	if err != nil {
		return err
	}
	_, err = d.settings.Objects.Create(ctx, object, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// forget deletes the objects of archives that are too many.
func (d *Disk) forget(names []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), d.settings.Patience)
	defer cancel()
	for _, name := range names {
		err := d.settings.Objects.Delete(ctx, d.archiveName(name), metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// Lock implements journal.Disk. What keeps others out is not a lock but the resource
// version, and who leads is decided by a Lease before anything is opened.
func (d *Disk) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// file is a journal.File.
type file struct {
	disk     *Disk
	name     string
	content  *content
	pending  *content // written, not yet durable
	readOnly bool
}

func (f *file) now() *content {
	if f.pending != nil {
		return f.pending
	}
	return f.content
}

// ReadAt implements io.ReaderAt.
func (f *file) ReadAt(p []byte, at int64) (int, error) {
	c := f.now()
	if at < 0 || at >= c.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), c.size-at))
	clear(p[:n])
	if at < int64(len(c.data)) {
		copy(p[:n], c.data[at:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements io.WriterAt. What does not fit into an object is syscall.ENOSPC, and
// nothing of it is written.
func (f *file) WriteAt(p []byte, at int64) (int, error) {
	c := f.now()
	if f.readOnly || at < 0 || at+int64(len(p)) > c.size {
		return 0, fmt.Errorf("write %d bytes at %d of %d: %w", len(p), at, c.size, fs.ErrInvalid)
	}
	data := make([]byte, max(int64(len(c.data)), at+int64(len(p))))
	copy(data, c.data)
	copy(data[at:], p)
	next := &content{size: c.size, data: data, stored: pack(data)}
	if !f.disk.fits(f.name, next) {
		return 0, fmt.Errorf("journal in the API server: %w", syscall.ENOSPC)
	}
	f.pending = next
	return len(p), nil
}

// fits reports whether the object can have c as the file called name.
func (d *Disk) fits(name string, c *content) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	most, sum := limit, len(c.stored)
	if c.size <= Reserve {
		most += reserve
	}
	for other, content := range d.files {
		if other != name {
			sum += len(content.stored)
		}
	}
	return sum <= most
}

// Size implements journal.File.
func (f *file) Size() (int64, error) { return f.now().size, nil }

// Sync implements journal.File.
func (f *file) Sync() error {
	if f.pending == nil {
		return nil
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	name := f.disk.nameOf(f.content, f.name)
	files := maps.Clone(f.disk.files)
	files[name] = f.pending
	if err := f.disk.commit(files, f.disk.archived); err != nil {
		return err
	}
	f.name, f.content, f.pending = name, f.pending, nil
	return nil
}

// nameOf is what a file is called by now: a rename keeps it open.
func (d *Disk) nameOf(c *content, name string) string {
	for now, other := range d.files {
		if other == c {
			return now
		}
	}
	return name
}

// Close implements io.Closer.
func (f *file) Close() error { return nil }
