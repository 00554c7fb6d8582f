package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/journal"
)

const (
	commitsARun = 1000
	deviceFile  = 4 << 20 // bytes, as large as a segment
	alignment   = 64      // of the journal's records
)

// journalCommit is the time from an event to its being durable, beside what the device
// takes to make as many bytes of a preallocated file durable. The two take turns.
func journalCommit() Bench {
	return Bench{
		Rows: []Row{{
			Name: "journal_commit", Unit: "us", ReferenceName: "pwrite + fdatasync of as many bytes, preallocated",
			Rule: Times, Floor: 1.5, Reach: 1.1,
		}},
		Open: openJournal,
	}
}

func openJournal(_ context.Context, env *Env) (Measure, error) {
	disk, err := journal.Directory(filepath.Join(env.Dir, "journal"))
	if err != nil {
		return nil, err
	}
	counted := &countingDisk{Disk: disk}
	log, err := journal.Open(counted, journal.Settings{})
	if err != nil {
		return nil, err
	}
	env.Defer(log.Close)
	raw, err := newDevice(filepath.Join(env.Dir, "device"))
	if err != nil {
		return nil, err
	}
	env.Defer(raw.file.Close)
	ev := proved()
	if _, err := log.Append(ev); err != nil {
		return nil, err
	}
	raw.record = make([]byte, counted.last)
	env.Note("a record of %d bytes", counted.last)
	return func(context.Context) ([]Pair, error) {
		pair, err := inTurns(commitsARun,
			func() error { _, err := log.Append(ev); return err },
			raw.commit)
		return []Pair{pair}, err
	}, nil
}

// proved is the event that a plan leaves most of.
func proved() microkernel.Event {
	return microkernel.Proved{Plan: "cart-1", Step: "d1", Proof: mesh.Proof{
		Key: mesh.OverlayKey{Kind: mesh.OverlayDrain, Callee: "shop/cart"}, Generation: 1, Required: 2, Acked: 2,
	}}
}

// inTurns calls ours and reference n times each, by turns first, and returns the median
// of each in microseconds.
func inTurns(n int, ours, reference func() error) (Pair, error) {
	took := [2][]float64{}
	for i := range n {
		for k := range 2 {
			which, f := 0, ours
			if (i+k)%2 == 1 {
				which, f = 1, reference
			}
			started := time.Now()
			if err := f(); err != nil {
				return Pair{}, err
			}
			took[which] = append(took[which], float64(time.Since(started))/float64(time.Microsecond))
		}
	}
	return Pair{Ours: median(took[0]), Reference: median(took[1])}, nil
}

// device writes and syncs a record at a time in a file that is there already.
type device struct {
	file   *os.File
	record []byte
	at     int64
}

func newDevice(path string) (*device, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if _, err = f.Write(make([]byte, deviceFile)); err == nil {
		err = f.Sync()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("preallocate: %w", err), f.Close())
	}
	return &device{file: f, at: alignment}, nil
}

func (d *device) commit() error {
	if d.at+int64(len(d.record)) > deviceFile {
		d.at = alignment
	}
	if _, err := d.file.WriteAt(d.record, d.at); err != nil {
		return err
	}
	d.at += int64(len(d.record))
	return unix.Fdatasync(int(d.file.Fd()))
}

// countingDisk notes how many bytes the last write had.
type countingDisk struct {
	journal.Disk
	last int
}

// Create implements journal.Disk.
func (d *countingDisk) Create(name string, size int64) (journal.File, error) {
	f, err := d.Disk.Create(name, size)
	return countingFile{f, d}, err
}

type countingFile struct {
	journal.File
	disk *countingDisk
}

// WriteAt implements io.WriterAt.
func (f countingFile) WriteAt(b []byte, at int64) (int, error) {
	f.disk.last = len(b)
	return f.File.WriteAt(b, at)
}
