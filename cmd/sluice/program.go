package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/isa/codec"
	"github.com/sluicemesh/sluice/mesh"
)

// source is a program as it was given.
type source struct {
	name    string // for messages
	data    []byte
	format  codec.Format
	program isa.Program
	places  isa.Positions // where its parts stand
	faults  []isa.Fault   // of decoding
}

// readProgram reads FILE or - and decodes it. What is wrong with the program are
// faults; an error means that there is none.
func (a *app) readProgram(name string) (source, error) {
	src := source{name: name}
	input := a.in
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return src, usage("%w", err)
		}
		defer file.Close()
		input = file
	} else {
		src.name = "standard input"
	}
	data, err := io.ReadAll(io.LimitReader(input, isa.MaxBytes+1))
	if err != nil {
		return src, usage("read %s: %w", src.name, err)
	}
	src.data, src.format = data, formatOf(name, data)
	if len(data) > isa.MaxBytes {
		src.faults = []isa.Fault{{
			Code: isa.CodeTooLarge, Path: "program", Reason: fmt.Sprintf("is longer than %d bytes", isa.MaxBytes),
			Remedy: "split it into several plans",
		}}
		return src, nil
	}
	src.program, src.places, src.faults = codec.Decode(data, src.format)
	return src, nil
}

// formatOf goes by the name's ending, else by the first byte.
func formatOf(name string, data []byte) codec.Format {
	if ending := strings.TrimPrefix(strings.ToLower(filepath.Ext(name)), "."); ending != "" {
		if format, err := codec.ParseFormat(ending); err == nil {
			return format
		}
	}
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '{' {
		return codec.JSON
	}
	return codec.Text
}

// wireProgram is the program as it was given, for the API. What has no spelling there
// is spelled as text.
func (s source) wireProgram() *sluicev1.Program {
	switch s.format {
	case codec.Text:
		return &sluicev1.Program{Format: sluicev1.Program_FORMAT_TEXT, Source: s.data}
	case codec.JSON:
		return &sluicev1.Program{Format: sluicev1.Program_FORMAT_JSON, Source: s.data}
	case codec.YAML:
		return &sluicev1.Program{Format: sluicev1.Program_FORMAT_YAML, Source: s.data}
	}
	return wire(s.program)
}

// wire spells a program for the API.
func wire(p isa.Program) *sluicev1.Program {
	return &sluicev1.Program{Format: sluicev1.Program_FORMAT_TEXT, Source: isa.FormatText(p)}
}

func checkedService(text string) (string, error) {
	service, err := mesh.ParseService(text)
	if err != nil {
		return "", usage("%w", err)
	}
	return string(service), nil
}

// faultView is a fault in JSON.
type faultView struct {
	Code   string  `json:"code"`
	Line   *int32  `json:"line"`
	Column *int32  `json:"column"`
	Path   *string `json:"path"`
	Reason string  `json:"reason"`
	Remedy *string `json:"remedy"`
}

func faultViews(faults []*sluicev1.Fault) []faultView {
	views := make([]faultView, 0, len(faults))
	for _, f := range faults {
		view := faultView{Code: f.GetCode(), Path: null(f.GetPath()), Reason: f.GetReason(), Remedy: null(f.GetRemedy())}
		if f.GetLine() > 0 {
			line, column := f.GetLine(), f.GetColumn()
			view.Line, view.Column = &line, &column
		}
		views = append(views, view)
	}
	return views
}

// localFaults translates the decoder's faults to the API's.
func localFaults(faults []isa.Fault) []*sluicev1.Fault {
	out := make([]*sluicev1.Fault, 0, len(faults))
	for _, f := range faults {
		out = append(out, &sluicev1.Fault{
			Code: string(f.Code), Line: int32(f.Line), Column: int32(f.Column), Path: f.Path, Reason: f.Reason, Remedy: f.Remedy,
		})
	}
	return out
}

// faultTable writes faults as compilers do: place, code, reason, remedy.
func faultTable(w io.Writer, name string, faults []*sluicev1.Fault) {
	for _, f := range faults {
		place := name
		if f.GetLine() > 0 {
			place += fmt.Sprintf(":%d:%d", f.GetLine(), f.GetColumn())
		}
		if f.GetPath() != "" {
			place += ": " + oneLine(f.GetPath())
		}
		fmt.Fprintf(w, "%s: %s: %s\n", place, f.GetCode(), oneLine(f.GetReason()))
		if f.GetRemedy() != "" {
			fmt.Fprintf(w, "  remedy: %s\n", oneLine(f.GetRemedy()))
		}
	}
}
