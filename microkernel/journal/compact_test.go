package journal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sluicemesh/sluice/microkernel"
)

// sum is what n notes come to, as a state may say it; about size bytes long.
func sum(n, size int) microkernel.Compacted {
	return microkernel.Compacted{
		Stamp: microkernel.Stamp{At: microkernel.Instant(n)},
		State: microkernel.Snapshot{Sequence: uint64(n), Frozen: fmt.Sprintf("%0*d", size, n)},
	}
}

// told returns how many notes a journal knows of: those of its Compacted, and those after.
func told(t *testing.T, l *Log) int {
	t.Helper()
	n, last := 0, Seq(0)
	err := l.Replay(func(e Entry) error {
		if last != 0 && e.Seq != last+1 {
			t.Fatalf("record %d after %d", e.Seq, last)
		}
		last = e.Seq
		switch ev := e.Event.(type) {
		case microkernel.Compacted:
			if n > 0 && uint64(n) != ev.State.Sequence {
				t.Fatalf("%d notes, compacted to %d", n, ev.State.Sequence)
			}
			n = int(ev.State.Sequence)
		default:
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatalf("Replay: %v", err)
	}
	return n
}

func TestAReplayBeginsWithTheLastCompaction(t *testing.T) {
	disk := newDisk()
	l := mustOpen(t, disk)
	mustAppend(t, l, microkernel.Led{Term: 3})
	for i := range 40 {
		mustAppend(t, l, note(i, 200))
	}
	grown := l.Size()
	for round, size := range []int{100, 5000} { // the second is larger than a segment
		if _, err := l.Compact(sum(41+round*3, size)); err != nil {
			t.Fatal(err)
		}
		if got := events(t, fromOne{l}); len(got) != 1 || l.Size() >= grown+int64(size) {
			t.Fatalf("round %d: %d events are replayed, %d bytes of %d", round, len(got), l.Size(), grown)
		}
		for i := range 3 {
			mustAppend(t, l, note(100+i, 500))
		}
		l = reopen(t, l, disk)
		if n := told(t, l); n != 44+round*3 {
			t.Fatalf("round %d: %d notes after opening again, want %d", round, n, 44+round*3)
		}
	}
	mustAppend(t, l, microkernel.Led{Term: 4})
	if _, err := l.Append(microkernel.Led{Term: 4}); err == nil {
		t.Error("the term is forgotten")
	}
	verified, err := VerifyDisk(disk)
	if err != nil || verified.Records != 1+40+2+6+1 || verified.Term != 4 || verified.Head != l.pos.last {
		t.Errorf("Verify = %+v, %v; want every record since the first", verified, err)
	}
	delete(disk.files, "0000000000000001"+archiveSuffix)
	if again, err := VerifyDisk(disk); err != nil || again.Records >= verified.Records || again.Head != verified.Head {
		t.Errorf("without the oldest part: %+v, %v", again, err)
	}
}

// fromOne numbers the records of a compacted journal from 1 on, as events wants them.
type fromOne struct{ *Log }

func (f fromOne) Replay(visit func(Entry) error) error {
	n := Seq(0)
	return f.Log.Replay(func(e Entry) error {
		n++
		e.Seq = n
		return visit(e)
	})
}

func reopen(t *testing.T, l *Log, disk *lossyDisk) *Log {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	disk.held = false
	return mustOpen(t, disk)
}

func TestACompactedJournalWithoutItsBeginningIsCorrupt(t *testing.T) {
	disk := newDisk()
	l := mustOpen(t, disk)
	mustAppend(t, l, note(1, 10), note(2, 10))
	if _, err := l.Compact(sum(2, 10)); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		mustAppend(t, l, note(i, 500))
	}
	first := l.segments[0]
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	gone, flipped := disk.clone(), disk.clone()
	delete(gone.files, first)
	flipped.files[first].data[2*blockSize+30] ^= 1
	for name, broken := range map[string]*lossyDisk{"gone": gone, "flipped": flipped} {
		corrupt := (*CorruptError)(nil)
		if _, err := Open(broken, small()); !errors.As(err, &corrupt) {
			t.Errorf("%s: Open: %v, want a CorruptError", name, err)
		}
	}
}

func TestACompactionThatDoesNotFitChangesNothing(t *testing.T) {
	disk := newDisk()
	l := mustOpen(t, disk)
	mustAppend(t, l, note(1, 10))
	room := disk.room
	disk.room = 0
	full := (*FullError)(nil)
	if _, err := l.Compact(sum(1, 10)); !errors.As(err, &full) {
		t.Fatalf("Compact: %v, want a FullError", err)
	}
	encoding := (*EncodeError)(nil)
	huge := sum(1, 1)
	huge.State.Paused = strings.Repeat("x", maxPayload)
	if _, err := l.Compact(huge); !errors.As(err, &encoding) {
		t.Fatalf("Compact: %v, want an EncodeError", err)
	}
	disk.room = room
	mustAppend(t, l, note(2, 10))
	if _, err := l.Compact(sum(2, 10)); err != nil || told(t, l) != 2 {
		t.Errorf("Compact: %v", err)
	}
}

// mortalDisk loses power at its n-th change: before it, or after it.
type mortalDisk struct {
	*lossyDisk
	left  int
	after bool
}

var errPower = errors.New("power lost")

func (d *mortalDisk) change(do func() error) error {
	d.left--
	switch {
	case d.left > 0:
		return do()
	case d.left == 0 && d.after:
		_ = do() // the power goes once it is done
	}
	return errPower
}

func (d *mortalDisk) Create(name string, size int64) (f File, err error) {
	if err := d.change(func() error {
		f, err = d.lossyDisk.Create(name, size)
		return err
	}); err != nil {
		return nil, err
	}
	return &mortalFile{f, d}, nil
}

func (d *mortalDisk) Open(name string) (File, error) {
	f, err := d.lossyDisk.Open(name)
	return &mortalFile{f, d}, err
}

func (d *mortalDisk) Rename(from, to string) error {
	return d.change(func() error { return d.lossyDisk.Rename(from, to) })
}

type mortalFile struct {
	File
	disk *mortalDisk
}

func (f *mortalFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.disk.change(func() error {
		n, err = f.File.WriteAt(p, off)
		return err
	})
	return n, err
}

func (f *mortalFile) Sync() error { return f.disk.change(f.File.Sync) }

// The power goes at every point of a compaction, and of the one after it that finds what
// the first has left: nothing is lost, nothing is told twice, the journal goes on.
func TestACrashAtEveryPointOfACompactionLosesNothing(t *testing.T) {
	points := 0
	for _, size := range []int{100, 4000} { // within a segment, and larger than one
		for _, after := range []bool{false, true} {
			for seed := range uint64(2) {
				for n := 1; ; n++ {
					died := crashed(t, size, n, after, seed)
					if !died {
						break
					}
					points++
				}
			}
		}
	}
	if points < 60 {
		t.Errorf("only %d points", points)
	}
}

func crashed(t *testing.T, size, n int, after bool, seed uint64) (died bool) {
	t.Helper()
	disk := newDisk()
	l := mustOpen(t, disk)
	for i := range 12 {
		mustAppend(t, l, note(i, 300))
	}
	rng := rand.New(rand.NewPCG(seed, uint64(n)))
	for range 3 { // die, go on, and try again
		l = reopen(t, l, disk)
		_ = l.Close() // it is opened below, on a disk that dies
		disk.held = false
		mortal := &mortalDisk{lossyDisk: disk, left: n, after: after}
		m, err := Open(mortal, small())
		if err == nil {
			_, err = m.Compact(sum(told(t, m), size))
		}
		dead := mortal.left <= 0
		if !dead && err != nil {
			t.Fatalf("point %d: %v", n, err)
		}
		died = died || dead
		disk = disk.crash(rng)
		l = mustOpen(t, disk)
		if got := told(t, l); got != 12 {
			t.Fatalf("size %d, point %d, after %v, seed %d: %d notes, want 12", size, n, after, seed, got)
		}
		if len(l.segments) > 1 && slices.ContainsFunc(l.segments[1:], func(s string) bool {
			r, _, _ := firstRecord(disk, s)
			return compacted(r.payload)
		}) {
			t.Fatal("a compaction in the middle is not the beginning")
		}
	}
	mustAppend(t, l, note(50, 900), note(51, 900))
	if _, err := l.Compact(sum(14, size)); err != nil {
		t.Fatal(err)
	}
	l = reopen(t, l, disk)
	if got := told(t, l); got != 14 {
		t.Fatalf("point %d: %d notes in the end, want 14", n, got)
	}
	if _, err := VerifyDisk(disk); err != nil {
		t.Fatalf("point %d: %v", n, err)
	}
	return died
}

const goldenCompacted = "testdata/compacted/"

// A golden journal that was compacted: NEVER CHANGE it, see encode_test.go.
func TestGoldenCompactedJournalCanStillBeRead(t *testing.T) {
	if *writeGolden {
		makeGoldenCompacted(t)
	}
	sum, err := Verify(goldenCompacted)
	if err != nil || sum.Records != 4 || sum.Segments != 3 {
		t.Fatalf("Verify = %+v, %v", sum, err)
	}
	disk := directory{path: goldenCompacted, readOnly: true}
	names, _, err := list(disk)
	if err != nil || len(names) != 2 {
		t.Fatalf("segments %v, %v", names, err)
	}
	var text bytes.Buffer
	if _, err := walkSegments(disk, names, func(r record) error {
		ev, err := DecodeEvent(r.payload)
		if c, ok := ev.(microkernel.Compacted); ok && len(c.State.Plans) == 0 && len(c.State.Done) == 0 {
			t.Error("the snapshot is empty")
		}
		fmt.Fprintf(&text, "%s\n", r.payload)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(goldenCompacted + "events.jsonl")
	if err != nil || !bytes.Equal(text.Bytes(), want) {
		t.Errorf("the golden journal reads as\n%s\nwant\n%s (%v)", text.Bytes(), want, err)
	}
}

// makeGoldenCompacted writes the golden journal, once.
func makeGoldenCompacted(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(goldenCompacted); err == nil {
		t.Fatalf("%s is there already: never change it", goldenCompacted)
	}
	disk, err := Directory(goldenCompacted)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(disk, Settings{Segment: 16 << 10, Reserve: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, note(1, 10), note(2, 10))
	var c microkernel.Compacted
	rng := rand.New(rand.NewPCG(7, 7))
	for len(c.State.Plans) == 0 || len(c.State.Done) == 0 || len(c.State.Timers) == 0 {
		fill(reflect.ValueOf(&c).Elem(), rng, 0)
	}
	if _, err := l.Compact(c); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, note(3, 10))
	var text []byte
	if err := l.Replay(func(e Entry) error {
		payload, err := EncodeEvent(e.Event)
		text = append(append(text, payload...), '\n')
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Close(), os.WriteFile(goldenCompacted+"events.jsonl", text, 0o600),
		os.Remove(goldenCompacted+lockName), os.Remove(goldenCompacted+reserveName)); err != nil {
		t.Fatal(err)
	}
}
