// Package journal is the write-ahead log of the kernel's events: what is in it has
// happened, and replaying it rebuilds the state. It is not for deciding what an event
// means, nor for queries: package microkernel and its records do that.
//
// # On disk
//
// A journal is a directory. Its segments, in the order of their names, hold one chain
// of records; all integers are little-endian.
//
//	LOCK                    locked (flock) by the one process that writes
//	RESERVE                 preallocated; becomes the next segment when the disk is full
//	0000000000000001.seg    named by the sequence number of its first record (hex)
//	00000000000004d2.seg
//
//	segment                 preallocated and zeroed; 64-byte blocks
//	+--------+--------+---------+--------+---------+-----------------------+
//	| header | record | payload | record | payload | zeros to the end      |
//	|  64 B  |  64 B  | n B + 0 |  64 B  | n B + 0 | (the next record)     |
//	+--------+--------+---------+--------+---------+-----------------------+
//
//	segment header          offset  size
//	  magic "sluicejl"           0     8
//	  version                    8     4   1
//	  zero                      12     4
//	  sequence number           16     8   of its first record
//	  chain                     24    32   hash of the record before it (zeros: none)
//	  zero                      56     4
//	  CRC32C                    60     4   of bytes 0-59
//
//	record header           offset  size
//	  length of payload          0     4   1 .. 16 MiB
//	  CRC32C of payload          4     4
//	  sequence number            8     8   1, 2, 3, ...
//	  term                      16     8   of the leader that wrote it; never decreases
//	  index in its commit       24     4   0 for the first record of an Append
//	  hash                      28    32   SHA-256(hash before, sequence number, term, payload)
//	  CRC32C                    60     4   of bytes 0-59
//
// A record starts at a multiple of 64 bytes, so that its header lies in one disk sector
// and is written wholly or not at all. A payload is one event as canonical JSON,
//
//	{"v":1,"type":"Withdrawn","event":{"Stamp":{"At":17},"Plan":"cart-1","Step":"t1","Generation":3}}
//
// with the fields of the Go type in their order and zero values left out: a field may be
// appended to an event, but never renamed, removed, moved or given another type.
//
// # What survives what
//
// Append returns when its records are durable. A crash before that leaves a prefix of
// them. Open drops such a torn tail (Torn says so) and refuses everything else that it
// cannot read with a *CorruptError: a torn tail has the zeros of the preallocated file
// in it and no commit after it; a flipped bit, even in the last record, has not. A
// sync or write that fails poisons the log (*SyncError): the file is not tried again,
// because the kernel may drop dirty pages and report success the second time. A full
// disk is a *FullError; AppendReserved can still write, into RESERVE.
//
// # Compaction
//
// A journal may begin with a record whose event says what all before it come to:
//
//	0000000000000001.audit  put away: the audit, not read by a replay
//	00000000000004d2.audit
//	0000000000000912.seg    its first record is a Compacted; here a replay begins
//	0000000000000a01.seg
//
// Compact makes the new segment, writes the Compacted into it, and when that is durable
// renames the segments before it, the oldest first. A crash leaves the old journal, perhaps
// with an empty or torn segment behind it, or the new one with some of the old: Open begins
// with the last segment whose first record is a whole Compacted, and puts away what is
// before it. The chain goes on over a compaction: the segment's header has the hash of the
// record before. So Verify checks what was put away and what is replayed as one.
//
// # Bounds
//
// A plan leaves 10-50 records; one of five services is about 20 KB, so that 1,000 plans are
// about 20 MB, checked and replayed in 1-3 s (BenchmarkReopen). Identifiers and budgets
// live in the Compacted for as long as the policy remembers them. What was put away is kept
// until somebody takes it away to keep it as the audit, the oldest part first; no kernel
// needs it.
package journal
