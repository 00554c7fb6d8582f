package journal

import "os"

// Summary is what Verify found.
type Summary struct {
	Segments int    // those that were put away, too
	Records  int    // in them
	Term     uint64 // of the last record
	Head     Hash   // of the last record: keep it elsewhere to notice a journal that was cut short
	Torn     string // what is torn at the end, "" if nothing; Open will drop it
}

// Verify reads the journal in the directory at path, without locking or changing it:
// every checksum, the hash chain, and every event, beginning with the oldest segment that
// was put away and is still there. Damage is a *CorruptError. A journal
// that is being written may seem torn.
func Verify(path string) (Summary, error) {
	if _, err := os.Stat(path); err != nil {
		return Summary{}, err
	}
	return VerifyDisk(directory{path: path, readOnly: true})
}

// VerifyDisk is Verify for any Disk.
func VerifyDisk(disk Disk) (Summary, error) {
	decode := decoding(func(Entry) error { return nil })
	return read(disk, func(_ Hash, r record) error { return decode(r) })
}

// Sealed is a record as it stands in the chain: Hash is the SHA-256 of Before, Seq and Term
// (8 bytes each, little-endian) and Payload, one after the other.
type Sealed struct {
	Seq     Seq
	Term    uint64
	Before  Hash
	Hash    Hash
	Payload []byte // canonical JSON of the event; belongs to the receiver
}

// Export verifies the journal in the directory at path as Verify does, and calls visit for
// each of its records, oldest first. It ends with visit's first error.
func Export(path string, visit func(Sealed) error) (Summary, error) {
	if _, err := os.Stat(path); err != nil {
		return Summary{}, err
	}
	return ExportDisk(directory{path: path, readOnly: true}, visit)
}

// ExportDisk is Export for any Disk.
func ExportDisk(disk Disk, visit func(Sealed) error) (Summary, error) {
	return read(disk, func(before Hash, r record) error {
		return visit(Sealed{Seq: r.seq, Term: r.term, Before: before, Hash: r.hash, Payload: r.payload})
	})
}

// read walks over every record that is still there, those put away first, and calls visit
// with the hash of the record before.
func read(disk Disk, visit func(before Hash, r record) error) (Summary, error) {
	names, reserve, err := list(disk)
	if err != nil {
		return Summary{}, err
	}
	if len(names) == 0 && reserve {
		return Summary{}, &CorruptError{Reason: "every segment is missing"}
	}
	older, err := archived(disk)
	if err != nil {
		return Summary{}, err
	}
	from, err := start(disk, names)
	if err == nil && len(older) > 0 {
		names = append(older, names...)
		from, err = startOfArchive(disk, names)
	}
	if err != nil {
		return Summary{}, err
	}
	sum := Summary{Segments: len(names)}
	before := from.last
	walk, err := walkFrom(from, disk, names, func(r record) error {
		sum.Records++
		last := before
		before = r.hash
		return visit(last, r)
	})
	sum.Term, sum.Head, sum.Torn = walk.pos.term, walk.pos.last, walk.torn
	return sum, err
}
