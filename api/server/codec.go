package server

import (
	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/isa/codec"
)

// decodeSource reads the spelled program.
func decodeSource(program *sluicev1.Program) (isa.Program, []isa.Fault) {
	format := codec.Auto
	switch program.GetFormat() {
	case sluicev1.Program_FORMAT_TEXT:
		format = codec.Text
	case sluicev1.Program_FORMAT_JSON:
		format = codec.JSON
	case sluicev1.Program_FORMAT_YAML:
		format = codec.YAML
	}
	p, _, faults := codec.Decode(program.GetSource(), format)
	return p, faults
}

// spell writes p as compact text, "" for no program.
func spell(p isa.Program) string {
	if p.ID == "" && len(p.Steps) == 0 {
		return ""
	}
	return string(isa.FormatText(p))
}
