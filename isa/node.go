package isa

import (
	"fmt"
	"strings"
)

// Position is a place in a source; both are 1-based, columns count bytes. The zero
// value means that the source has no places (protobuf).
type Position struct{ Line, Column int32 }

// Positions maps a path such as "steps[2].drain.share" to where its value stands in
// the source.
type Positions map[string]Position

// Place fills in Line and Column of faults that have none from their paths. A path
// that the source does not spell gets the place of the nearest value around it.
func (p Positions) Place(faults []Fault) {
	for i := range faults {
		if faults[i].Line > 0 {
			continue
		}
		at := p.nearest(faults[i].Path)
		faults[i].Line, faults[i].Column = int(at.Line), int(at.Column)
	}
}

func (p Positions) nearest(path string) Position {
	for {
		if at, found := p[path]; found {
			return at
		}
		cut := strings.LastIndexAny(path, ".[")
		if cut < 0 {
			return p[""]
		}
		path = path[:cut]
	}
}

// NodeKind is the kind of a Node.
type NodeKind uint8

// Node kinds.
const (
	Null NodeKind = iota
	Bool
	Number
	String
	List
	Object
)

// String returns the kind as error messages call it.
func (k NodeKind) String() string {
	return [...]string{"null", "a boolean", "a number", "a string", "a list", "an object"}[min(k, Object)]
}

// Node is one value of a program in a form that all spellings share: each spelling is
// read into a tree of nodes, and one decoder turns the tree into a Program, so that
// none of them is more lenient than another.
type Node struct {
	Kind   NodeKind
	At     Position // of the value
	NameAt Position // of the field's name
	Name   string   // if it is a field of an object
	Text   string   // value of a String, Bool or Number, as written
	Kids   []Node   // fields of an Object, items of a List, in the order of the source
}

// field returns the first field called name, nil if there is none.
func (n *Node) field(name string) *Node {
	for i := range n.Kids {
		if n.Kids[i].Name == name {
			return &n.Kids[i]
		}
	}
	return nil
}

const (
	// maxNodes bounds the values of one source. They are counted before anything is
	// allocated, so that refusing a hostile source costs nothing.
	maxNodes = 8192
	// maxFields bounds the fields of one object; none has so many.
	maxFields = 64
	// maxFaults bounds what is reported of one source or program.
	maxFaults = 100
	// maxQuoted bounds how much of a source is repeated in one error.
	maxQuoted = 80
)

// quote shows untrusted text: ASCII, every other byte escaped, at most maxQuoted bytes.
func quote(text string) string {
	if len(text) > maxQuoted {
		return fmt.Sprintf("%+q...", text[:maxQuoted])
	}
	return fmt.Sprintf("%+q", text)
}

// TooLarge returns the fault of a source that must not even be parsed, nil if it may: more
// than MaxBytes, compressed, or made of too many values.
func TooLarge(src []byte) []Fault {
	fault := Fault{Code: CodeTooLarge, Line: 1, Column: 1}
	switch {
	case len(src) > MaxBytes:
		fault.Reason = fmt.Sprintf("source of %d bytes, at most %d are allowed", len(src), MaxBytes)
		fault.Remedy = "split the plan"
	case compressed(src):
		fault.Reason = "source is compressed; it is not expanded, since its true size is unknown"
		fault.Remedy = "send the plan as it is"
	case crowded(src):
		fault.Reason = "too many values in one source"
		fault.Remedy = fmt.Sprintf("at most about %d; split the plan", maxNodes)
	default:
		return nil
	}
	return []Fault{fault}
}

// crowded estimates, without parsing, whether src has more than maxNodes values: it counts
// words and the marks that stand between values in any spelling.
func crowded(src []byte) bool {
	count, blank := 0, true
	for _, c := range src {
		switch c {
		case ' ', '\t', '\n', '\r':
			blank = true
			continue
		case ',', ':', '[', '{':
			count++
		}
		if blank {
			count++
		}
		blank = false
	}
	return count > maxNodes
}

// compressed recognises gzip, zip, zstd, bzip2 and xz by their first bytes.
func compressed(src []byte) bool {
	for _, magic := range []string{"\x1f\x8b", "PK\x03\x04", "\x28\xb5\x2f\xfd", "BZh", "\xfd7zXZ"} {
		if strings.HasPrefix(string(src[:min(len(src), 8)]), magic) {
			return true
		}
	}
	return false
}

// Parse reads a program in the compact or the JSON spelling, told apart by the first
// byte that is not white space: an opening brace begins JSON.
func Parse(src []byte) (Program, Positions, []Fault) {
	for _, c := range src[:min(len(src), MaxBytes)] {
		switch c {
		case ' ', '\t', '\r', '\n':
			continue
		case '{', '[':
			return ParseJSON(src)
		}
		break
	}
	return ParseText(src)
}
