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
	walk, err := walkFrom(from, disk, names, decoding(func(Entry) error {
		sum.Records++
		return nil
	}))
	sum.Term, sum.Head, sum.Torn = walk.pos.term, walk.pos.last, walk.torn
	return sum, err
}
