package journal

import (
	"errors"
	"fmt"
)

// ErrLocked says that another process writes the journal.
var ErrLocked = errors.New("the journal is in use by another process; stop it first")

// ErrClosed says that the log was closed.
var ErrClosed = errors.New("the journal is closed")

// CorruptError says that the journal cannot be read to its end and that this is no torn
// tail: what was durable once is damaged, missing or not of this chain. The kernel must
// freeze.
type CorruptError struct {
	Segment string // file name, "" if it is the directory as a whole
	Offset  int64  // byte in the segment
	Reason  string
}

// Error implements error.
func (e *CorruptError) Error() string {
	where := "journal"
	if e.Segment != "" {
		where = fmt.Sprintf("journal segment %s, byte %d", e.Segment, e.Offset)
	}
	return fmt.Sprintf("%s: %s; keep the directory as evidence and restore a copy, or start with an empty one "+
		"once no overlay and no restart is under way", where, e.Reason)
}

// SyncError says that a write or sync failed: what is on disk is unknown, the log takes
// nothing more, and the file must not be tried again by this process.
type SyncError struct{ Err error }

// Error implements error.
func (e *SyncError) Error() string {
	return fmt.Sprintf("journal not durable: %v; replace the disk or start again once it is healthy", e.Err)
}

// Unwrap returns the cause.
func (e *SyncError) Unwrap() error { return e.Err }

// FullError says that there is no room for another segment. Nothing was written, and
// AppendReserved still has the reserve unless Reserved is set.
type FullError struct {
	Err      error
	Reserved bool // the reserve is used up too
}

// Error implements error.
func (e *FullError) Error() string {
	return fmt.Sprintf("no room for the journal: %v; free some space on its disk", e.Err)
}

// Unwrap returns the cause.
func (e *FullError) Unwrap() error { return e.Err }

// EncodeError says that an event has no encoding, or too long a one. Nothing was written
// and the log is as before.
type EncodeError struct{ Err error }

// Error implements error.
func (e *EncodeError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *EncodeError) Unwrap() error { return e.Err }
