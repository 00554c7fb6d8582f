package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"syscall"
	"testing"

	"github.com/sluicemesh/sluice/microkernel"
)

// small makes segments of a few records, so that tests see several.
func small() Settings { return Settings{Segment: 2048, Reserve: 1024} }

// note is an event whose payload is about n bytes long.
func note(at, n int) microkernel.Event {
	return microkernel.Failed{
		Stamp: microkernel.Stamp{At: microkernel.Instant(at)}, Plan: "p", Reason: fmt.Sprintf("%0*d", n, at),
	}
}

func mustOpen(t *testing.T, disk Disk) *Log {
	t.Helper()
	l, err := Open(disk, small())
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return l
}

func mustAppend(t *testing.T, l *Log, events ...microkernel.Event) {
	t.Helper()
	if _, err := l.Append(events...); err != nil {
		t.Fatalf("Append: %v", err)
	}
}

// events returns what a journal replays.
func events(t *testing.T, l interface {
	Replay(func(Entry) error) error
}) []microkernel.Event {
	t.Helper()
	var out []microkernel.Event
	err := l.Replay(func(e Entry) error {
		if e.Seq != Seq(len(out)+1) {
			t.Fatalf("Seq = %d, want %d", e.Seq, len(out)+1)
		}
		out = append(out, e.Event)
		return nil
	})
	if err != nil {
		t.Fatalf("Replay: %v", err)
	}
	return out
}

func TestWhatIsAppendedIsReplayedAfterReopening(t *testing.T) {
	disk := newDisk()
	var want []microkernel.Event
	for round := range 5 {
		l := mustOpen(t, disk)
		for i := range 7 {
			ev := note(round*10+i, 40*i)
			want = append(want, ev)
			mustAppend(t, l, ev)
		}
		batch := []microkernel.Event{note(900+round, 300), note(901+round, 10), note(902+round, 3000)}
		want = append(want, batch...)
		mustAppend(t, l, batch...)
		if got := events(t, l); !reflect.DeepEqual(got, want) {
			t.Fatalf("round %d: replayed %d events, want %d", round, len(got), len(want))
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Append(note(1, 1)); !errors.Is(err, ErrClosed) {
			t.Fatalf("Append after Close: %v, want ErrClosed", err)
		}
		disk = disk.crash(nil) // what was acknowledged needs no Close
	}
	sum, err := VerifyDisk(disk)
	if err != nil || sum.Records != len(want) || sum.Segments < 5 || sum.Torn != "" {
		t.Errorf("Verify = %+v, %v; want %d records", sum, err, len(want))
	}
}

func TestTermsOfEntriesComeFromLed(t *testing.T) {
	l := mustOpen(t, newDisk())
	mustAppend(t, l, note(1, 1), microkernel.Led{Term: 3}, note(2, 1))
	if _, err := l.Append(microkernel.Led{Term: 3}); err == nil {
		t.Error("the same term twice was appended")
	}
	mustAppend(t, l, microkernel.Led{Term: 4})
	var got []uint64
	_ = l.Replay(func(e Entry) error { got = append(got, e.Term); return nil })
	if want := []uint64{0, 3, 3, 4}; !slices.Equal(got, want) {
		t.Errorf("terms = %v, want %v", got, want)
	}
}

func TestMemoryKeepsWhatALogKeeps(t *testing.T) {
	var m Memory
	l := mustOpen(t, newDisk())
	for _, ev := range []microkernel.Event{note(1, 1), microkernel.Led{Term: 3}, note(2, 1)} {
		mustAppend(t, l, ev)
		if seq, err := m.Append(ev); err != nil || seq != Seq(m.Len()) {
			t.Fatalf("Append = %d, %v", seq, err)
		}
	}
	var a, b []Entry
	_ = l.Replay(func(e Entry) error { a = append(a, e); return nil })
	_ = m.Replay(func(e Entry) error { b = append(b, e); return nil })
	if !reflect.DeepEqual(a, b) {
		t.Errorf("memory %v, log %v", b, a)
	}
	cut := m.Cut(2)
	if _, err := cut.Append(note(9, 9)); err != nil || cut.Len() != 3 || m.Len() != 3 {
		t.Errorf("cut has %d events, memory %d: %v", cut.Len(), m.Len(), err)
	}
}

// In a crash during Append nothing that was acknowledged is lost, and of the rest a
// prefix is there, whatever sectors made it to the disk.
func TestACrashDuringAppendLeavesAPrefix(t *testing.T) {
	torn := 0
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 0))
		disk := newDisk()
		l := mustOpen(t, disk)
		var acked []microkernel.Event
		for i := range 3 + rng.IntN(6) {
			ev := note(i, rng.IntN(900))
			mustAppend(t, l, ev)
			acked = append(acked, ev)
		}
		var lost []microkernel.Event
		for i := range 1 + rng.IntN(3) {
			lost = append(lost, note(1000+i, rng.IntN(1200)))
		}
		disk.fault = errors.New("power lost")
		if _, err := l.Append(lost...); err == nil {
			t.Fatal("Append without a sync")
		}
		again := disk.crash(rng)
		l = mustOpen(t, again)
		got := events(t, l)
		if len(got) < len(acked) || !reflect.DeepEqual(got, append(acked, lost...)[:len(got)]) {
			t.Fatalf("seed %d: %d events after the crash, %d were acknowledged", seed, len(got), len(acked))
		}
		if l.Torn() != "" {
			torn++
		}
		mustAppend(t, l, note(7, 700))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		again.held = false
		if got := events(t, mustOpen(t, again)); len(got) < len(acked)+1 {
			t.Fatalf("seed %d: what was appended after the crash is gone", seed)
		}
	}
	if torn < 20 {
		t.Errorf("%d torn tails in 400 crashes: the test tries too little", torn)
	}
}

// full returns a disk with records in several segments, and the events in them.
func full(t *testing.T) (*lossyDisk, []microkernel.Event) {
	t.Helper()
	disk := newDisk()
	l := mustOpen(t, disk)
	var want []microkernel.Event
	for i := range 9 {
		want = append(want, note(i, 50+97*i))
		mustAppend(t, l, want[i])
	}
	return disk, want
}

// lastSegment returns the last segment, and the offset and size of its last record.
func lastSegment(t *testing.T, disk *lossyDisk) (f *lossyFile, at, size int64) {
	t.Helper()
	names, _, _ := list(disk)
	f = disk.files[names[len(names)-1]]
	for next := int64(blockSize); ; next += size {
		h, ok := headerAt(f.data, next)
		if !ok {
			return f, at, size
		}
		at, size = next, h.size()
	}
}

func TestATailTornAtAnyByteIsDropped(t *testing.T) {
	disk, want := full(t)
	_, at, size := lastSegment(t, disk)
	h, _ := headerAt(disk.files[lastName(disk)].data, at)
	end := at + blockSize + int64(h.length) // behind it is padding, which is zero anyway
	if size < blockSize*4 {
		t.Fatalf("the last record has %d bytes: too small to test", size)
	}
	for cut := at; cut < end; cut++ {
		for _, how := range []string{"zeros", "truncated"} {
			after := disk.clone()
			f := after.files[lastName(after)]
			if how == "zeros" {
				clear(f.data[cut:])
			} else {
				f.data = f.data[:cut]
			}
			l, err := Open(after, small())
			if err != nil {
				t.Fatalf("%s from byte %d on: %v", how, cut, err)
			}
			if got := events(t, l); !reflect.DeepEqual(got, want[:len(want)-1]) {
				t.Fatalf("%s from byte %d on: %d events, want %d", how, cut, len(got), len(want)-1)
			}
			if cut > at && how == "zeros" && l.Torn() == "" {
				t.Fatalf("%s from byte %d on: Torn is silent", how, cut)
			}
			mustAppend(t, l, note(77, 20))
			if got := events(t, l); len(got) != len(want) {
				t.Fatalf("%s from byte %d on: %d events after an Append", how, cut, len(got))
			}
		}
	}
}

func lastName(disk *lossyDisk) string {
	names, _, _ := list(disk)
	return names[len(names)-1]
}

func TestABitFlippedAnywhereInARecordIsCorruption(t *testing.T) {
	disk, want := full(t)
	names, _, _ := list(disk)
	flips := 0
	for i, name := range names {
		used := recordsEnd(disk.files[name].data)
		if i+1 < len(names) {
			used = min(used, recordsEnd(disk.files[name].data))
		}
		for at := range used {
			after := disk.clone()
			after.files[name].data[at] ^= 1 << (at % 8)
			_, err := Open(after, small())
			if !errors.As(err, new(*CorruptError)) {
				t.Fatalf("bit flipped at %s byte %d: %v, want a CorruptError", name, at, err)
			}
			if _, err := VerifyDisk(after); !errors.As(err, new(*CorruptError)) {
				t.Fatalf("bit flipped at %s byte %d: Verify says %v", name, at, err)
			}
			flips++
		}
	}
	if flips < 4000 || len(want) == 0 {
		t.Errorf("%d bits flipped", flips)
	}
}

// recordsEnd returns the offset behind the last record of a segment.
func recordsEnd(data []byte) int64 {
	at := int64(blockSize)
	for {
		h, ok := headerAt(data, at)
		if !ok {
			return at
		}
		at += h.size()
	}
}

func TestMissingSegmentsAreCorruption(t *testing.T) {
	disk, _ := full(t)
	names, _, _ := list(disk)
	if len(names) < 3 {
		t.Fatalf("%d segments: too few to test", len(names))
	}
	for i := range names[:len(names)-1] {
		after := disk.clone()
		delete(after.files, names[i])
		if _, err := Open(after, small()); !errors.As(err, new(*CorruptError)) {
			t.Errorf("without segment %d: %v, want a CorruptError", i, err)
		}
	}
	for _, name := range names {
		delete(disk.files, name)
	}
	disk.held = false
	if _, err := Open(disk, small()); !errors.As(err, new(*CorruptError)) {
		t.Errorf("without any segment: %v, want a CorruptError", err)
	}
}

func TestSegmentsOfAnotherChainAreCorruption(t *testing.T) {
	disk, _ := full(t)
	other := newDisk()
	l := mustOpen(t, other)
	for i := range 9 {
		mustAppend(t, l, note(i, 51+97*i))
	}
	names, _, _ := list(disk)
	for _, name := range names {
		if _, there := other.files[name]; !there {
			t.Fatalf("segment %s is not in both", name)
		}
		after := disk.clone()
		after.files[name].data = slices.Clone(other.files[name].data)
		if _, err := Open(after, small()); len(names) > 1 && !errors.As(err, new(*CorruptError)) {
			t.Errorf("segment %s of another journal: %v, want a CorruptError", name, err)
		}
	}
}

func TestTwoWritersNeverShareAJournal(t *testing.T) {
	disk := newDisk()
	l := mustOpen(t, disk)
	if _, err := Open(disk, small()); !errors.Is(err, ErrLocked) {
		t.Errorf("second Open: %v, want ErrLocked", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := mustOpen(t, disk).Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAFailedSyncIsFinal(t *testing.T) {
	disk := newDisk()
	l := mustOpen(t, disk)
	mustAppend(t, l, note(1, 10))
	disk.fault = syscall.EIO
	_, err := l.Append(note(2, 10))
	if !errors.As(err, new(*SyncError)) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("Append: %v, want a SyncError of EIO", err)
	}
	disk.fault = nil // the device is well again, and says so: it must not be believed
	syncs := disk.syncs
	for range 3 {
		if _, err := l.AppendReserved(note(3, 10)); !errors.As(err, new(*SyncError)) {
			t.Fatalf("Append after a failed sync: %v", err)
		}
	}
	for name, f := range disk.files {
		if f.used {
			t.Errorf("%s was used after its sync had failed", name)
		}
	}
	if disk.syncs != syncs {
		t.Error("a sync was tried again")
	}
}

func TestAFullDiskStillTakesRestores(t *testing.T) {
	disk := newDisk()
	l := mustOpen(t, disk)
	disk.room = 100
	var want []microkernel.Event
	for i := 0; ; i++ {
		_, err := l.Append(note(i, 400))
		if err == nil {
			want = append(want, note(i, 400))
			continue
		}
		full := (*FullError)(nil)
		if !errors.As(err, &full) || full.Reserved || !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("Append on a full disk: %v, want a FullError with the reserve left", err)
		}
		break
	}
	restore := note(99, 200)
	if _, err := l.AppendReserved(restore); err != nil {
		t.Fatalf("AppendReserved: %v", err)
	}
	want = append(want, restore)
	if _, err := l.Append(note(5, 10)); !errors.As(err, new(*FullError)) {
		t.Fatalf("Append into the reserve: %v, want a FullError", err)
	}
	if got := events(t, mustOpen(t, disk.crash(nil))); !reflect.DeepEqual(got, want) {
		t.Fatalf("%d events after a crash on a full disk, want %d", len(got), len(want))
	}
	full := (*FullError)(nil)
	for err := error(nil); err == nil; {
		_, err = l.AppendReserved(restore)
		errors.As(err, &full)
	}
	if full == nil || !full.Reserved {
		t.Fatalf("the reserve never ends: %v", full)
	}
	disk.room = 1 << 20
	mustAppend(t, l, note(6, 10))
	if _, there := disk.files[reserveName]; !there {
		t.Error("the reserve was not made again when there was room")
	}
}

func TestReopeningOnTheReserveKeepsItForRestores(t *testing.T) {
	disk := newDisk()
	l := mustOpen(t, disk)
	disk.room = 100
	for err := error(nil); err == nil; {
		_, err = l.Append(note(1, 400))
	}
	if _, err := l.AppendReserved(note(2, 100)); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, disk.crash(nil))
	if _, err := l.Append(note(3, 100)); !errors.As(err, new(*FullError)) {
		t.Errorf("Append: %v, want a FullError", err)
	}
	if _, err := l.AppendReserved(note(3, 100)); err != nil {
		t.Errorf("AppendReserved: %v", err)
	}
}

func TestRealDirectory(t *testing.T) {
	path := t.TempDir() + "/journal"
	disk, err := Directory(path)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(disk, Settings{})
	if err != nil {
		t.Fatal(err)
	}
	want := []microkernel.Event{note(1, 10), note(2, 2000)}
	mustAppend(t, l, want...)
	if _, err := Open(disk, Settings{}); !errors.Is(err, ErrLocked) {
		t.Errorf("second Open: %v, want ErrLocked", err)
	}
	if sum, err := Verify(path); err != nil || sum.Records != 2 {
		t.Errorf("Verify = %+v, %v", sum, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = Open(disk, Settings{}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := events(t, l); !reflect.DeepEqual(got, want) {
		t.Errorf("replayed %v, want %v", got, want)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(uint16(70), byte(1), uint16(200), byte(0), uint16(2048))
	f.Add(uint16(0), byte(255), uint16(1000), byte(3), uint16(900))
	f.Fuzz(func(t *testing.T, at1 uint16, x1 byte, at2 uint16, x2 byte, length uint16) {
		disk, want := full(t)
		file := disk.files[lastName(disk)]
		file.data[int(at1)%len(file.data)] ^= x1
		file.data[int(at2)%len(file.data)] ^= x2
		file.data = file.data[:min(int(length), len(file.data))]
		disk.held = false
		l, err := Open(disk, small())
		if err != nil {
			if !errors.As(err, new(*CorruptError)) {
				t.Fatalf("Open: %v, want a CorruptError", err)
			}
			return
		}
		if got := events(t, l); !reflect.DeepEqual(got, want[:min(len(got), len(want))]) || len(got) > len(want) {
			t.Fatalf("events that were never appended: %v", got)
		}
	})
}
