package codec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"

	yaml "go.yaml.in/yaml/v3"

	"github.com/sluicemesh/sluice/isa"
)

// maxFlow bounds the nesting of brackets before the library sees them.
const maxFlow = 16

// decodeYAML reads one YAML document without anchors, aliases, merge keys and tags.
func decodeYAML(src []byte) (isa.Program, isa.Positions, []isa.Fault) {
	if faults := isa.TooLarge(src); faults != nil {
		return isa.Program{}, nil, faults
	}
	if heavy(src) {
		return refuse(isa.CodeTooLarge, 1, "too many values, or nested too deep", "split the plan")
	}
	root, err := yamlRoot(src)
	if err != nil {
		return refuse(isa.CodeDecode, yamlLine(err), "not YAML: "+clip(err.Error()), "write one YAML document")
	}
	w := yamlWalk{nodes: maxNodes}
	tree := w.node(root, 1)
	if len(w.faults) > 0 {
		return isa.Program{}, nil, w.faults
	}
	return isa.ParseNode(tree)
}

// heavy estimates, without parsing, whether a source has more values or levels than any
// program: the library's nodes are large, and it parses before it can be stopped.
func heavy(src []byte) bool {
	values, depth := 0, 0
	for i, c := range src {
		switch c {
		case '[', '{':
			values++
			depth++
		case ']', '}':
			depth--
		case ',', '\n', '&', '*':
			values++
		case '-', '?', ':':
			if i+1 == len(src) || src[i+1] == ' ' || src[i+1] == '\t' || src[i+1] == '\n' {
				values++
			}
		}
		if values > maxNodes*3/2 || depth > maxFlow {
			return true
		}
	}
	return bytes.Count(src, []byte("- - - - - - - - ")) > 0 // lists of lists, in the short form
}

// yamlRoot returns the one document of src.
func yamlRoot(src []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(src))
	var document yaml.Node
	if err := decoder.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("line 1: empty document")
		}
		return nil, err
	}
	var second yaml.Node
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("line %d: a second document follows", max(second.Line, 1))
	}
	if document.Kind != yaml.DocumentNode || len(document.Content) != 1 {
		return nil, errors.New("line 1: empty document")
	}
	return document.Content[0], nil
}

// yamlLine finds the line in a message of the library, 1 if it names none.
func yamlLine(err error) int {
	match := regexp.MustCompile(`line ([0-9]{1,7})`).FindStringSubmatch(err.Error())
	if match == nil {
		return 1
	}
	line, err := strconv.Atoi(match[1])
	if err != nil {
		return 1
	}
	return max(line, 1)
}

// clip shows text that may repeat the source: ASCII, escaped, at most 120 bytes.
func clip(text string) string {
	if len(text) > 120 {
		text = text[:120]
	}
	return fmt.Sprintf("%+q", text)
}

// yamlWalk turns YAML nodes into isa's.
type yamlWalk struct {
	nodes  int // that may still be made
	faults []isa.Fault
}

func (w *yamlWalk) fault(n *yaml.Node, code isa.Code, reason, remedy string) {
	if len(w.faults) < 100 {
		w.faults = append(w.faults, isa.Fault{Code: code, Line: n.Line, Column: n.Column, Reason: reason,
			Remedy: remedy})
	}
}

func (w *yamlWalk) node(n *yaml.Node, depth int) isa.Node {
	out := isa.Node{At: isa.Position{Line: int32(n.Line), Column: int32(n.Column)}}
	w.nodes--
	switch {
	case w.nodes < 0 || depth > isa.MaxDepth:
		if w.nodes == -1 || depth > isa.MaxDepth {
			w.fault(n, isa.CodeTooLarge, "too many values, or nested too deep", "split the plan")
		}
		return out
	case n.Anchor != "" || n.Kind == yaml.AliasNode:
		w.fault(n, isa.CodeDecode, "anchors and aliases are not allowed", "write the value where it is meant")
		return out
	case n.Style&yaml.TaggedStyle != 0:
		w.fault(n, isa.CodeDecode, "tags are not allowed", "leave the tag out")
		return out
	}
	switch n.Kind {
	case yaml.MappingNode:
		out.Kind = isa.Object
		w.fields(&out, n, depth)
	case yaml.SequenceNode:
		out.Kind = isa.List
		for _, item := range n.Content {
			out.Kids = append(out.Kids, w.node(item, depth+1))
		}
	default:
		out.Kind, out.Text = yamlKind(n), n.Value
	}
	return out
}

func (w *yamlWalk) fields(out *isa.Node, n *yaml.Node, depth int) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode || key.Anchor != "" || key.ShortTag() != "!!str" {
			w.fault(key, isa.CodeDecode, "a field name is wanted; merge keys and other keys are not allowed",
				"write the name of a field")
			continue
		}
		kid := w.node(n.Content[i+1], depth+1)
		kid.Name = key.Value
		kid.NameAt = isa.Position{Line: int32(key.Line), Column: int32(key.Column)}
		out.Kids = append(out.Kids, kid)
	}
}

// yamlKind returns what a scalar is by YAML's rules. What YAML would take for a date is
// text here: plans carry no date.
func yamlKind(n *yaml.Node) isa.NodeKind {
	switch n.ShortTag() {
	case "!!int", "!!float":
		return isa.Number
	case "!!bool":
		return isa.Bool
	case "!!null":
		return isa.Null
	}
	return isa.String
}

// encodeYAML writes steps as blocks and what is inside their actions on one line.
func encodeYAML(p isa.Program) ([]byte, error) {
	root := isa.Tree(p)
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(yamlNode(&root, 0)); err != nil {
		return nil, fmt.Errorf("encode YAML: %w", err)
	}
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("encode YAML: %w", err)
	}
	return out.Bytes(), nil
}

func yamlNode(n *isa.Node, depth int) *yaml.Node {
	out := &yaml.Node{Value: n.Text}
	if depth > 3 {
		out.Style = yaml.FlowStyle
	}
	switch n.Kind {
	case isa.Object:
		out.Kind, out.Tag = yaml.MappingNode, "!!map"
		for i := range n.Kids {
			key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: n.Kids[i].Name}
			out.Content = append(out.Content, key, yamlNode(&n.Kids[i], depth+1))
		}
	case isa.List:
		out.Kind, out.Tag = yaml.SequenceNode, "!!seq"
		if n.Name == "after" {
			out.Style = yaml.FlowStyle
		}
		for i := range n.Kids {
			out.Content = append(out.Content, yamlNode(&n.Kids[i], depth+1))
		}
	case isa.String:
		out.Kind, out.Tag, out.Style = yaml.ScalarNode, "!!str", 0
	default:
		out.Kind, out.Style = yaml.ScalarNode, 0
	}
	return out
}
