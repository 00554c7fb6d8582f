package server

import (
	"connectrpc.com/connect"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/isa"
)

// decodeSource reads the spelled program.
func decodeSource(*sluicev1.Program) (isa.Program, []isa.Fault, error) {
	return isa.Program{}, nil, connect.NewError(connect.CodeUnimplemented, errNoCodec)
}

// spell writes p as compact text.
func spell(isa.Program) string { return "" }
