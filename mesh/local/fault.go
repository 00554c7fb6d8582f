package local

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxFaults bounds how many faults of one mesh file are reported.
const maxFaults = 100

// Fault is one thing that is wrong in a mesh file, with what to do about it.
type Fault struct {
	Line, Column int    // from 1
	Path         string // "services[2].upstreams[0]", "" = the file as a whole
	Reason       string
	Remedy       string
}

// FileError holds all faults of a mesh file, in order of position.
type FileError struct {
	File   string
	Faults []Fault
}

// Error returns one line "file:line:col: path: reason (remedy)" for each fault.
func (e *FileError) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		path := f.Path
		if path == "" {
			path = "mesh file"
		}
		lines[i] = fmt.Sprintf("%s:%d:%d: %s: %s (%s)", e.File, f.Line, f.Column, path, f.Reason, f.Remedy)
	}
	return strings.Join(lines, "\n")
}

// ExitCode is 2: malformed input.
func (e *FileError) ExitCode() int { return exitMalformed }

// sortFaults orders faults by position and cuts them at maxFaults.
func sortFaults(faults []Fault) []Fault {
	slices.SortStableFunc(faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Path, b.Path))
	})
	if len(faults) > maxFaults {
		last := faults[maxFaults-1]
		last.Path, last.Reason = "", fmt.Sprintf("%d more faults are not shown", len(faults)-maxFaults+1)
		last.Remedy = "mend the ones above first"
		faults = append(faults[:maxFaults-1], last)
	}
	return faults
}

// quote returns text in quotes, escaped to ASCII and cut to 80 bytes.
func quote(text string) string {
	if len(text) > 80 {
		text = text[:80]
	}
	return fmt.Sprintf("%+q", text)
}
