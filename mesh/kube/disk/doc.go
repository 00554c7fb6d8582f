// Package disk is the directory of a journal in the API server: a journal.Disk whose files
// stand in one RecoveryJournal object. It is not for deciding who leads; it only makes
// sure that whoever no longer does cannot write.
//
//	RecoveryJournal NAME            spec.files: the segments that a replay reads, and the reserve
//	RecoveryJournal NAME-STEM       spec.files: one segment that compaction has put away
//
// Everything that is live is in one object, so that there is one resource version, and
// every write of every leader is compared with it: a leader that was superseded conflicts
// at its first write after the next leader's first. The data of a file is gzip of its
// bytes without the zeros at the end. An object may have about 1.5 MB in etcd; a journal
// that is full is a full disk (syscall.ENOSPC).
package disk
