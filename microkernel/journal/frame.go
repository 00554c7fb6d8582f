package journal

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
)

// The numbers of the on-disk format (package comment). Never change: a new format has
// a new version and keeps reading this one.
const (
	segmentMagic   = "sluicejl"
	segmentVersion = 1
	blockSize      = 64 // alignment, and the size of both headers
	sectorSize     = 512
	maxPayload     = 16 << 20
	segmentSuffix  = ".seg"
	archiveSuffix  = ".audit" // of a segment that was put away
	reserveName    = "RESERVE"
	lockName       = "LOCK"
	newName        = "NEW"
)

// Hash is the SHA-256 that chains the records.
type Hash [sha256.Size]byte

// Seq numbers the records of a journal, from 1 on.
type Seq uint64

// header is a record header.
type header struct {
	length uint32
	crc    uint32 // of the payload
	seq    Seq
	term   uint64
	index  uint32 // in its commit
	hash   Hash
}

// commit returns the sequence number of the first record of h's commit.
func (h *header) commit() Seq { return h.seq - Seq(h.index) }

// size returns the bytes that the record takes on disk.
func (h *header) size() int64 { return blockSize + roundUp(int64(h.length)) }

// roundUp returns n rounded up to a whole number of blocks.
func roundUp(n int64) int64 { return (n + blockSize - 1) / blockSize * blockSize }

// checksum returns the CRC32C of b.
func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// chain returns the hash of a record after the record with hash before.
func chain(before Hash, seq Seq, term uint64, payload []byte) Hash {
	sum := sha256.New()
	sum.Write(before[:])
	sum.Write(binary.LittleEndian.AppendUint64(nil, uint64(seq)))
	sum.Write(binary.LittleEndian.AppendUint64(nil, term))
	sum.Write(payload)
	return Hash(sum.Sum(nil))
}

// appendRecord appends the record of payload with its padding.
func appendRecord(out []byte, h header, payload []byte) []byte {
	start := len(out)
	out = binary.LittleEndian.AppendUint32(out, h.length)
	out = binary.LittleEndian.AppendUint32(out, h.crc)
	out = binary.LittleEndian.AppendUint64(out, uint64(h.seq))
	out = binary.LittleEndian.AppendUint64(out, h.term)
	out = binary.LittleEndian.AppendUint32(out, h.index)
	out = append(out, h.hash[:]...)
	out = binary.LittleEndian.AppendUint32(out, checksum(out[start:]))
	out = append(out, payload...)
	return append(out, make([]byte, roundUp(int64(h.length))-int64(h.length))...)
}

// parseHeader reads a record header from the first block of b; false if it is none.
func parseHeader(b []byte) (header, bool) {
	if len(b) < blockSize || checksum(b[:60]) != binary.LittleEndian.Uint32(b[60:]) {
		return header{}, false
	}
	h := header{
		length: binary.LittleEndian.Uint32(b),
		crc:    binary.LittleEndian.Uint32(b[4:]),
		seq:    Seq(binary.LittleEndian.Uint64(b[8:])),
		term:   binary.LittleEndian.Uint64(b[16:]),
		index:  binary.LittleEndian.Uint32(b[24:]),
		hash:   Hash(b[28:60]),
	}
	return h, h.length > 0 && h.length <= maxPayload && h.seq > 0
}

// segmentHeader returns the header of a segment whose first record has sequence number
// first and follows the record with hash before.
func segmentHeader(first Seq, before Hash) []byte {
	out := make([]byte, 0, blockSize)
	out = append(out, segmentMagic...)
	out = binary.LittleEndian.AppendUint32(out, segmentVersion)
	out = binary.LittleEndian.AppendUint32(out, 0)
	out = binary.LittleEndian.AppendUint64(out, uint64(first))
	out = append(out, before[:]...)
	out = binary.LittleEndian.AppendUint32(out, 0)
	return binary.LittleEndian.AppendUint32(out, checksum(out))
}

// parseSegment reads a segment header; the reason is "" if it is one of this version.
func parseSegment(b []byte) (first Seq, before Hash, reason string) {
	switch {
	case len(b) < blockSize:
		return 0, Hash{}, "is shorter than its header"
	case string(b[:8]) != segmentMagic:
		return 0, Hash{}, "does not begin with the magic of a journal"
	case checksum(b[:60]) != binary.LittleEndian.Uint32(b[60:]):
		return 0, Hash{}, "has a header with a wrong checksum"
	case binary.LittleEndian.Uint32(b[8:]) != segmentVersion:
		return 0, Hash{}, "has a version that this program does not read"
	}
	return Seq(binary.LittleEndian.Uint64(b[16:])), Hash(b[24:56]), ""
}
