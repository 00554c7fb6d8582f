package isa

// Positions maps a JSON path such as "steps[2].drain.share" to where it stands in
// the source.
type Positions map[string]Position

// Position is a place in a source; both are 1-based, columns count bytes.
type Position struct{ Line, Column int }

// Place fills in Line and Column of faults from their paths; a path that the source
// does not spell gets the place of the nearest one around it.
func (p Positions) Place(faults []Fault) {}

// ParseText reads a program in the compact spelling.
func ParseText(src []byte) (Program, Positions, []Fault) { return Program{}, nil, nil }

// ParseJSON reads a program in the JSON spelling.
func ParseJSON(src []byte) (Program, Positions, []Fault) { return Program{}, nil, nil }

// Parse reads text or JSON, told apart by the first byte.
func Parse(src []byte) (Program, Positions, []Fault) { return Program{}, nil, nil }

// FormatText spells p compactly.
func FormatText(p Program) []byte { return nil }

// FormatJSON spells p as JSON.
func FormatJSON(p Program) []byte { return nil }

// Hash is the identity of a plan: of its canonical (expanded) program and proposer.
func Hash(p Program, proposer string) string { return "" }

// Validate is the static type checker: it returns every fault of p, in a fixed
// order, nil if there is none. With a nil env only the structure is checked. Call it
// on the program as written, and again on the expanded one. (The name Check is taken
// by the program's verification entry.)
func Validate(p Program, env *Env) []Fault { return nil }

// Expand resolves every target to UIDs, expands restart macros and fills in the
// defaults. It is deterministic in p and env.
func Expand(p Program, env *Env) (Program, []Fault) { return p, nil }
