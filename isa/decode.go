package isa

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// ParseNode turns a tree into a program. All spellings end here: unknown, duplicate
// and missing fields, wrong types, names and numbers are judged in this one place.
// A program that comes with faults must not be used.
func ParseNode(root Node) (Program, Positions, []Fault) {
	d := decoder{positions: make(Positions, 64)}
	p := d.program(&root)
	return p, d.positions, d.faults
}

// decoder collects the faults and places of one source. A trusted one reads what this
// package wrote itself: it repeats no check of names, ranges and sizes, because the
// journal also holds programs that were refused.
type decoder struct {
	positions Positions
	faults    []Fault
	trusted   bool
}

func (d *decoder) fault(at Position, code Code, path, reason, remedy string) {
	if len(d.faults) < maxFaults {
		d.faults = append(d.faults, Fault{code, int(at.Line), int(at.Column), path, reason, remedy})
	}
}

// scope is one object while it is decoded.
type scope struct {
	d    *decoder
	node *Node
	path string
	void bool // the node is no object; its fields are not missed
}

// object checks that n is an object of the known fields, each at most once.
func (d *decoder) object(n *Node, path string, known ...string) scope {
	s := scope{d: d, node: n, path: path}
	d.positions[path] = n.At
	if n.Kind != Object {
		d.fault(n.At, CodeDecode, path, n.Kind.String()+" where an object is wanted",
			"fields are "+strings.Join(known, ", "))
		s.node, s.void = &Node{Kind: Object, At: n.At}, true
		return s
	}
	for i := range n.Kids {
		kid := &n.Kids[i]
		switch {
		case !slices.Contains(known, kid.Name):
			d.fault(kid.NameAt, CodeDecode, path, "unknown field "+quote(kid.Name),
				"fields are "+strings.Join(known, ", "))
		case n.field(kid.Name) != kid:
			d.fault(kid.NameAt, CodeDecode, s.sub(kid.Name), "field "+quote(kid.Name)+" is given twice",
				"keep one of them")
		}
	}
	return s
}

func (s scope) sub(name string) string {
	if s.path == "" {
		return name
	}
	return s.path + "." + name
}

// get returns the field, nil if it is missing, which is a fault if it is required.
func (s scope) get(name string, required bool) *Node {
	n := s.node.field(name)
	if n == nil {
		if required && !s.void && !s.d.trusted {
			s.d.fault(s.node.At, CodeDecode, s.sub(name), "required field "+quote(name)+" is missing", "add it")
		}
		return nil
	}
	s.d.positions[s.sub(name)] = n.At
	return n
}

// text returns a string field; check says what is wrong with its content.
func (s scope) text(name string, required bool, code Code, check func(string) string) string {
	n := s.get(name, required)
	if n == nil {
		return ""
	}
	return s.d.text(n, s.sub(name), code, check)
}

func (d *decoder) text(n *Node, path string, code Code, check func(string) string) string {
	if n.Kind != String {
		d.fault(n.At, CodeDecode, path, n.Kind.String()+" where a string is wanted", "write a string")
		return ""
	}
	if d.trusted {
		return n.Text
	}
	if reason := check(n.Text); reason != "" {
		d.fault(n.At, code, path, quote(n.Text)+" "+reason, nameRemedy(code))
		return ""
	}
	return n.Text
}

func nameRemedy(code Code) string {
	if code == CodeName {
		return "names are lower-case ASCII (DNS-1123); nothing is repaired"
	}
	return "write one of the documented values"
}

// word returns a field that is one of the given words.
func (s scope) word(name string, words ...string) string {
	return s.text(name, false, CodeDecode, func(text string) string {
		if slices.Contains(words, text) {
			return ""
		}
		return "is none of " + strings.Join(words, ", ")
	})
}

func (s scope) id(name string, required bool) string {
	return s.text(name, required, CodeName, func(text string) string { return idFault(text, maxID) })
}

func (s scope) service(name string, required bool) mesh.Service {
	return mesh.Service(s.text(name, required, CodeName, serviceFault))
}

// serviceFault returns why text is no NAMESPACE/NAME.
func serviceFault(text string) string {
	if _, err := mesh.ParseService(text); err != nil {
		if fault, ok := err.(*mesh.NameError); ok { //nolint:errorlint // ParseService returns it unwrapped
			return "is no NAMESPACE/NAME: " + fault.Reason
		}
		return "is no NAMESPACE/NAME"
	}
	return ""
}

func labelFault(text string) string {
	if err := mesh.CheckLabel(text); err != nil {
		if fault, ok := err.(*mesh.NameError); ok { //nolint:errorlint // CheckLabel returns it unwrapped
			return fault.Reason
		}
		return "is no DNS-1123 label"
	}
	return ""
}

// duration returns a duration field. An explicit zero is a fault unless zero is
// allowed: it would be taken for the default.
func (s scope) duration(name string, zero bool) time.Duration {
	n := s.get(name, false)
	if n == nil {
		return 0
	}
	path := s.sub(name)
	if n.Kind != String {
		s.d.fault(n.At, CodeDecode, path, n.Kind.String()+" where a duration is wanted", `write a string such as "30s"`)
		return 0
	}
	if s.d.trusted {
		d, err := time.ParseDuration(n.Text)
		if err != nil {
			s.d.fault(n.At, CodeDecode, path, quote(n.Text)+" is not a duration", "")
		}
		return d
	}
	d, fault := parseDuration(n.Text)
	if fault == nil && d == 0 && !zero {
		fault = &lexFault{CodeRange, "zero is no duration here", "leave " + name + " out for the default"}
	}
	if fault != nil {
		s.d.fault(n.At, fault.code, path, fault.reason, fault.remedy)
	}
	return d
}

// count returns a field that is a whole number in [0, limit].
func (s scope) count(name string, required bool, limit int64) (int64, *Node) {
	n := s.get(name, required)
	if n == nil || !s.number(n, name) {
		return 0, nil
	}
	if s.d.trusted {
		count, err := strconv.ParseInt(n.Text, 10, 64)
		if err != nil {
			s.d.fault(n.At, CodeDecode, s.sub(name), quote(n.Text)+" is not a whole number", "")
		}
		return count, n
	}
	count, fault := parseCount(n.Text, limit)
	if fault != nil {
		s.d.fault(n.At, fault.code, s.sub(name), fault.reason, fault.remedy)
		return 0, nil
	}
	return count, n
}

func (s scope) number(n *Node, name string) bool {
	if n.Kind == Number {
		return true
	}
	s.d.fault(n.At, CodeDecode, s.sub(name), n.Kind.String()+" where a number is wanted", "write a number, not quoted")
	return false
}

// positive is count for operands whose zero means "leave alone" in a Program, so that
// an explicit zero would silently say the contrary of what it seems to.
func (s scope) positive(name string, code Code, limit int64) int64 {
	count, n := s.count(name, false, limit)
	if n != nil && count == 0 && !s.d.trusted {
		s.d.fault(n.At, code, s.sub(name), name+" 0", zeroRemedy(code, name))
	}
	return count
}

func zeroRemedy(code Code, name string) string {
	if code == CodeEquivalentToDrain {
		return "nothing would pass: use drain, or leave " + name + " out"
	}
	return "write at least 1, or leave " + name + " out for the default"
}

func (s scope) rate(name string) float64 {
	n := s.get(name, true)
	if n == nil {
		return 0
	}
	if s.d.trusted {
		rate, err := strconv.ParseFloat(n.Text, 64)
		if err != nil {
			s.d.fault(n.At, CodeDecode, s.sub(name), quote(n.Text)+" is not a number", "")
		}
		return rate
	}
	if !s.number(n, name) {
		return 0
	}
	rate, fault := parseRate(n.Text)
	if fault != nil {
		s.d.fault(n.At, fault.code, s.sub(name), fault.reason, fault.remedy)
	}
	return rate
}

// list returns the items of a list field and their paths' common beginning.
func (s scope) list(name string, limit int) []Node {
	n := s.get(name, false)
	if n == nil {
		return nil
	}
	if n.Kind != List {
		s.d.fault(n.At, CodeDecode, s.sub(name), n.Kind.String()+" where a list is wanted", "write a list")
		return nil
	}
	if len(n.Kids) > limit && !s.d.trusted {
		s.d.fault(n.At, CodeTooLarge, s.sub(name), fmt.Sprintf("%d entries", len(n.Kids)),
			fmt.Sprintf("at most %d", limit))
		return nil
	}
	return n.Kids
}

func (s scope) item(name string, i int) string { return s.sub(name) + "[" + strconv.Itoa(i) + "]" }

// texts returns a list of strings.
func texts[T ~string](s scope, name string, limit int, check func(string) string) []T {
	items := s.list(name, limit)
	if len(items) == 0 {
		return nil
	}
	out := make([]T, len(items))
	for i := range items {
		path := s.item(name, i)
		s.d.positions[path] = items[i].At
		out[i] = T(s.d.text(&items[i], path, CodeName, check))
	}
	return out
}
