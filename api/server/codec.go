package server

import (
	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/isa"
)

// decodeSource reads the spelled program.
func decodeSource(program *sluicev1.Program) (isa.Program, []isa.Fault, error) {
	p, positions, faults := isa.Parse(program.GetSource())
	positions.Place(faults)
	return p, faults, nil
}

// spell writes p as compact text, "" for no program.
func spell(p isa.Program) string {
	if p.ID == "" && len(p.Steps) == 0 {
		return ""
	}
	return string(isa.FormatText(p))
}
