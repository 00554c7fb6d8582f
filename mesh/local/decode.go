package local

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// yamlLine finds the position in a syntax error of the YAML library.
var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// ParseFile decodes and checks a mesh file; path is only used in messages. Nothing
// is repaired: any fault is an error, a *FileError that lists all of them.
func ParseFile(path string, data []byte) (*File, error) {
	d := &decoder{}
	file := &File{Path: path}
	if root := d.document(data); root != nil {
		d.file(root, file)
		d.check(file)
	}
	if len(d.faults) > 0 {
		return nil, &FileError{File: path, Faults: sortFaults(d.faults)}
	}
	return file, nil
}

// decoder collects the faults of one mesh file.
type decoder struct {
	faults []Fault
	spots  map[string]*yaml.Node // where a path was declared, for faults found later
}

// fault notes that node at path is wrong.
func (d *decoder) fault(node *yaml.Node, path, reason, remedy string) {
	d.faults = append(d.faults, Fault{
		Line: max(node.Line, 1), Column: max(node.Column, 1), Path: path, Reason: reason, Remedy: remedy,
	})
}

// mark remembers where path stands.
func (d *decoder) mark(node *yaml.Node, path string) {
	if d.spots == nil {
		d.spots = make(map[string]*yaml.Node)
	}
	d.spots[path] = node
}

// at notes a fault at a path that mark has seen, or at the nearest one around it.
func (d *decoder) at(path, reason, remedy string) {
	for spot := path; ; {
		if node := d.spots[spot]; node != nil {
			d.fault(node, path, reason, remedy)
			return
		}
		cut := strings.LastIndexAny(spot, ".[")
		if cut < 0 {
			d.fault(&yaml.Node{}, path, reason, remedy)
			return
		}
		spot = spot[:cut]
	}
}

// document returns the root of the only document in data, nil after a fault.
func (d *decoder) document(data []byte) *yaml.Node {
	if len(data) > MaxFileBytes {
		d.fault(&yaml.Node{}, "", fmt.Sprintf("is larger than %d bytes", MaxFileBytes), "make it smaller")
		return nil
	}
	if at := invalidUTF8(data); at >= 0 {
		line := 1 + bytes.Count(data[:at], []byte("\n"))
		d.fault(&yaml.Node{Line: line}, "", fmt.Sprintf("has byte %#02x, which is not UTF-8", data[at]), "save it as UTF-8")
		return nil
	}
	reader := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	switch err := reader.Decode(&first); {
	case errors.Is(err, io.EOF):
		d.fault(&yaml.Node{}, "", "is empty", "declare at least one service under services")
		return nil
	case err != nil:
		d.syntax(err)
		return nil
	}
	switch err := reader.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		d.syntax(err)
		return nil
	default:
		d.fault(&second, "", "holds a second document", "keep one document, without ---")
		return nil
	}
	if first.Kind != yaml.DocumentNode || len(first.Content) != 1 {
		d.fault(&first, "", "holds no document", "declare at least one service under services")
		return nil
	}
	d.plain(first.Content[0], "")
	return first.Content[0]
}

// invalidUTF8 returns the offset of the first byte that is not UTF-8, -1 if none.
func invalidUTF8(data []byte) int {
	for at := 0; at < len(data); {
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size == 1 {
			return at
		}
		at += size
	}
	return -1
}

// syntax turns an error of the YAML library into a fault with its line.
func (d *decoder) syntax(err error) {
	text := err.Error()
	line := 1
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
		}
		text = text[len(m[0]):]
	}
	text = strings.ReplaceAll(text, "\n", " ")
	d.fault(&yaml.Node{Line: line}, "", "is not YAML: "+text, "correct the syntax near this line")
}

// plain notes every anchor, alias and tag below node: they hide what is meant.
func (d *decoder) plain(node *yaml.Node, path string) {
	if node.Anchor != "" {
		d.fault(node, path, "anchor &"+quote(node.Anchor)+" is not allowed", "write the value out where it is used")
	}
	if node.Kind == yaml.AliasNode {
		d.fault(node, path, "alias *"+quote(node.Value)+" is not allowed", "write the value out")
		return
	}
	if node.Style&yaml.TaggedStyle != 0 {
		d.fault(node, path, "tag "+quote(node.Tag)+" is not allowed", "write the plain value")
	}
	for i, child := range node.Content {
		d.plain(child, childPath(node, path, i))
	}
}

// childPath is the path of node's i-th child.
func childPath(node *yaml.Node, path string, i int) string {
	if node.Kind == yaml.SequenceNode {
		return fmt.Sprintf("%s[%d]", path, i)
	}
	key := node.Content[i&^1]
	if key.Kind != yaml.ScalarNode {
		return path
	}
	return join(path, key.Value)
}

// join appends a field's name to a path; a strange name is quoted.
func join(path, name string) string {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c > '~' || c == '"' {
			name = quote(name)
			break
		}
	}
	if len(name) > 100 {
		name = name[:100]
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// field is one field of a mapping: its name and what decodes its value.
type field struct {
	name string
	read func(node *yaml.Node, path string)
}

// fields decodes a mapping. It notes unknown and repeated fields, and those of
// required that are absent; it reports whether node is a mapping at all.
func (d *decoder) fields(node *yaml.Node, path string, known []field, required ...string) bool {
	if node.Kind != yaml.MappingNode {
		d.wrongType(node, path, "a mapping", "write field: value pairs")
		return false
	}
	d.mark(node, path)
	seen := make(map[string]bool)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if !d.fresh(key, path, seen) {
			continue
		}
		at := slices.IndexFunc(known, func(f field) bool { return f.name == key.Value })
		if at < 0 {
			d.fault(key, join(path, key.Value), "unknown field", "known fields are "+names(known))
			continue
		}
		d.mark(value, join(path, key.Value))
		known[at].read(value, join(path, key.Value))
	}
	for _, name := range required {
		if !seen[name] {
			d.fault(node, join(path, name), "is missing", "add the field "+name)
		}
	}
	return true
}

// fresh reports whether key is a string that was not seen before.
func (d *decoder) fresh(key *yaml.Node, path string, seen map[string]bool) bool {
	if key.Kind != yaml.ScalarNode || key.Tag != "!!str" {
		d.fault(key, path, "a field's name is not a string", "write a plain or quoted name")
		return false
	}
	if seen[key.Value] {
		d.fault(key, join(path, key.Value), "is given twice", "keep one of them")
		return false
	}
	seen[key.Value] = true
	return true
}

// names lists the names of fields.
func names(known []field) string {
	list := make([]string, len(known))
	for i, f := range known {
		list[i] = f.name
	}
	return strings.Join(list, ", ")
}

// wrongType notes that node is not what want says.
func (d *decoder) wrongType(node *yaml.Node, path, want, remedy string) {
	var kind string
	switch node.Kind {
	case yaml.AliasNode:
		return // plain has noted it
	case yaml.MappingNode:
		kind = "a mapping"
	case yaml.SequenceNode:
		kind = "a list"
	case yaml.ScalarNode:
		kind = map[string]string{
			"!!str": "a string", "!!int": "an integer", "!!float": "a number", "!!bool": "a boolean",
			"!!null": "null", "!!timestamp": "a date",
		}[node.Tag]
		if kind == "" {
			kind = "a value with tag " + quote(node.Tag)
		}
	}
	d.fault(node, path, "is "+kind+", want "+want, remedy)
}

// list calls read for each item of a sequence.
func (d *decoder) list(node *yaml.Node, path string, limit int, read func(node *yaml.Node, path string)) {
	if node.Kind != yaml.SequenceNode {
		d.wrongType(node, path, "a list", "write [a, b] or one item a line, each after a dash")
		return
	}
	if len(node.Content) > limit {
		d.fault(node, path, fmt.Sprintf("has %d items, at most %d are allowed", len(node.Content), limit), "remove some")
		return
	}
	for i, item := range node.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.mark(item, at)
		read(item, at)
	}
}

// text decodes a string without NUL.
func (d *decoder) text(node *yaml.Node, path string) (string, bool) {
	if node.Kind != yaml.ScalarNode || node.Tag != "!!str" {
		remedy := "write a string"
		if node.Kind == yaml.ScalarNode {
			remedy = "write it in quotes"
		}
		d.wrongType(node, path, "a string", remedy)
		return "", false
	}
	if strings.ContainsRune(node.Value, 0) {
		d.fault(node, path, "holds a NUL byte", "remove it")
		return "", false
	}
	return node.Value, true
}

// whole decodes an integer in decimal digits between low and high.
func (d *decoder) whole(node *yaml.Node, path string, low, high int) int {
	n, err := strconv.Atoi(node.Value)
	if node.Kind != yaml.ScalarNode || node.Tag != "!!int" || err != nil || strconv.Itoa(n) != node.Value {
		d.wrongType(node, path, "a whole number in decimal digits", fmt.Sprintf("write a number from %d to %d", low, high))
		return low
	}
	if n < low || n > high {
		d.fault(node, path, fmt.Sprintf("%d is out of range", n), fmt.Sprintf("write a number from %d to %d", low, high))
		return low
	}
	return n
}

// flag decodes true or false.
func (d *decoder) flag(node *yaml.Node, path string) bool {
	if node.Kind != yaml.ScalarNode || node.Tag != "!!bool" || (node.Value != "true" && node.Value != "false") {
		d.wrongType(node, path, "true or false", "write true or false")
		return false
	}
	return node.Value == "true"
}

// duration decodes a time with its unit, "250ms", between low and high.
func (d *decoder) duration(node *yaml.Node, path string, low, high time.Duration) time.Duration {
	remedy := fmt.Sprintf("write a number with its unit, from %s to %s, such as 250ms or 1.5s", low, high)
	text, ok := d.text(node, path)
	if !ok {
		d.faults[len(d.faults)-1].Remedy = remedy
		return low
	}
	value, err := time.ParseDuration(text)
	if err != nil || text[0] == '+' || text[0] == '-' {
		d.fault(node, path, quote(text)+" is not a duration", remedy)
		return low
	}
	if value < low || value > high {
		d.fault(node, path, text+" is out of range", remedy)
		return low
	}
	return value
}

// share decodes a percentage, "0.1%", above 0 and at most 100, as 0..1.
func (d *decoder) share(node *yaml.Node, path string) float64 {
	const remedy = "write a percentage above 0% and up to 100%, such as 0.1%"
	text, ok := d.text(node, path)
	if !ok {
		d.faults[len(d.faults)-1].Remedy = remedy
		return 0
	}
	number, found := strings.CutSuffix(text, "%")
	value, err := strconv.ParseFloat(number, 64)
	if !found || err != nil || strings.Trim(number, "0123456789.") != "" || value <= 0 || value > 100 {
		d.fault(node, path, quote(text)+" is not a percentage", remedy)
		return 0
	}
	return value / 100
}
