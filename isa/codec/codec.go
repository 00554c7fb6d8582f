// Package codec reads and writes isa programs in all their spellings: compact text and
// JSON, which package isa does itself, and YAML and protobuf, which need libraries. Each
// is read into isa's tree of nodes and judged by isa's one decoder, so that no spelling
// is more lenient than another. It is not for checking programs: that is isa.Validate.
package codec

import (
	"fmt"

	"github.com/sluicemesh/sluice/isa"
)

// Format is a spelling of programs.
type Format string

// Spellings. Auto is text or JSON, told apart by the first byte.
const (
	Auto     Format = ""
	Text     Format = "text"
	JSON     Format = "json"
	YAML     Format = "yaml"
	Protobuf Format = "pb" // message sluice.v1.IsaProgram
)

// ParseFormat returns the format called name, as flags and file endings call it.
func ParseFormat(name string) (Format, error) {
	switch name {
	case "text", "txt", "plan":
		return Text, nil
	case "json":
		return JSON, nil
	case "yaml", "yml":
		return YAML, nil
	case "pb", "binpb":
		return Protobuf, nil
	}
	return Auto, fmt.Errorf("unknown format %+q: want text, json, yaml or pb", name)
}

// Decode reads a program. A program that comes with faults must not be used. Positions
// are empty for protobuf, which has no places.
func Decode(src []byte, format Format) (isa.Program, isa.Positions, []isa.Fault) {
	switch format {
	case Auto:
		return isa.Parse(src)
	case Text:
		return isa.ParseText(src)
	case JSON:
		return isa.ParseJSON(src)
	case YAML:
		return decodeYAML(src)
	case Protobuf:
		return decodeProtobuf(src)
	}
	return isa.Program{}, nil, []isa.Fault{{Code: isa.CodeDecode, Reason: "unknown format",
		Remedy: "use text, json, yaml or pb"}}
}

// Encode spells a program; what it writes Decode reads back as the same program. Auto
// is Text. An error means that p does not fit the spelling (a number out of range).
func Encode(p isa.Program, format Format) ([]byte, error) {
	switch format {
	case Auto, Text:
		return isa.FormatText(p), nil
	case JSON:
		return isa.FormatJSON(p), nil
	case YAML:
		return encodeYAML(p)
	case Protobuf:
		return encodeProtobuf(p)
	}
	return nil, fmt.Errorf("unknown format %+q", string(format))
}

// maxNodes bounds the values of one source; isa has the same bound.
const maxNodes = 8192

// refuse is the answer to a source that cannot be read at all.
func refuse(code isa.Code, line int, reason, remedy string) (isa.Program, isa.Positions, []isa.Fault) {
	fault := isa.Fault{Code: code, Line: line, Reason: reason, Remedy: remedy}
	if line > 0 {
		fault.Column = 1
	}
	return isa.Program{}, nil, []isa.Fault{fault}
}
