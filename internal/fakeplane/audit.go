package fakeplane

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
)

// Audit is a server.Audit: a chain of three records, the last of which was changed if
// Tampered is set.
func (p *Plane) Audit(visit func(*sluicev1.AuditRecord) error) error {
	before := make([]byte, sha256.Size)
	for i := range uint64(3) {
		r := &sluicev1.AuditRecord{
			Sequence: i + 1, Term: 1, Before: before,
			Event: fmt.Appendf(nil, `{"v":1,"type":"Fired","event":{"Stamp":{"At":%d}}}`, i),
		}
		sealed := append([]byte(nil), before...)
		sealed = binary.LittleEndian.AppendUint64(sealed, r.Sequence)
		sealed = binary.LittleEndian.AppendUint64(sealed, r.Term)
		sum := sha256.Sum256(append(sealed, r.Event...))
		r.Hash = sum[:]
		if p.Tampered && i == 2 {
			r.Event = append(r.Event, ' ')
		}
		if err := visit(r); err != nil {
			return err
		}
		before = r.Hash
	}
	return nil
}
