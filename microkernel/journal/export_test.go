package journal

import (
	"errors"
	"testing"

	"github.com/sluicemesh/sluice/microkernel"
)

// What is exported is the chain, whole: its hashes can be computed from it alone.
func TestAnExportIsTheChain(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	disk, err := Directory(path)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(disk, Settings{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for i := range 5 {
		if _, err := l.Append(microkernel.Paused{Stamp: microkernel.Stamp{At: microkernel.Instant(i)}, Reason: "because"}); err != nil {
			t.Fatal(err)
		}
	}
	var before Hash
	n := 0
	sum, err := Export(path, func(r Sealed) error { // beside the log that writes
		n++
		if r.Seq != Seq(n) || r.Before != before || r.Hash != chain(before, r.Seq, r.Term, r.Payload) {
			t.Errorf("record %d: %+v does not follow from %x", n, r, before)
		}
		before = r.Hash
		return nil
	})
	if err != nil || n != 5 || sum.Records != 5 || sum.Head != before {
		t.Errorf("exported %d records, summary %+v, %v", n, sum, err)
	}
	enough := errors.New("enough")
	if _, err := Export(path, func(Sealed) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("the visitor's error became %v", err)
	}
}
