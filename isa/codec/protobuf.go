package codec

import (
	"fmt"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/isa"
)

// decodeProtobuf reads an IsaProgram. Field names of the message are those of the JSON
// spelling, so the message becomes the same tree.
func decodeProtobuf(src []byte) (isa.Program, isa.Positions, []isa.Fault) {
	if len(src) > isa.MaxBytes {
		return refuse(isa.CodeTooLarge, 0, fmt.Sprintf("source of %d bytes, at most %d are allowed", len(src),
			isa.MaxBytes),
			"split the plan")
	}
	if crowded(src) {
		return refuse(isa.CodeTooLarge, 0, "too many fields", fmt.Sprintf("at most %d steps; split the plan",
			isa.MaxSteps))
	}
	message := &sluicev1.IsaProgram{}
	options := proto.UnmarshalOptions{RecursionLimit: isa.MaxDepth}
	if err := options.Unmarshal(src, message); err != nil {
		return refuse(isa.CodeDecode, 0, "not an IsaProgram", "encode a message of type sluice.v1.IsaProgram")
	}
	w := pbWalk{nodes: maxNodes}
	root := w.message(message.ProtoReflect())
	switch {
	case w.nodes < 0:
		return refuse(isa.CodeTooLarge, 0, "too many values in one source", "split the plan")
	case w.unknown:
		return refuse(isa.CodeDecode, 0, "unknown fields", "use the published sluice.v1.IsaProgram")
	case proto.Size(message) != len(src):
		return refuse(isa.CodeDecode, 0, "a field is given twice, or not in its shortest form", "give each field once")
	}
	return isa.ParseNode(root)
}

// crowded counts the top-level fields of a message without decoding them: an empty step
// takes two bytes on the wire and far more in memory.
func crowded(src []byte) bool {
	for fields := 0; len(src) > 0; fields++ {
		if fields > 4*isa.MaxSteps {
			return true
		}
		_, _, n := protowire.ConsumeField(src)
		if n < 0 {
			return false // malformed: Unmarshal says so
		}
		src = src[n:]
	}
	return false
}

// pbWalk turns messages into nodes.
type pbWalk struct {
	nodes   int // that may still be made
	unknown bool
}

func (w *pbWalk) message(m protoreflect.Message) isa.Node {
	w.nodes--
	w.unknown = w.unknown || len(m.GetUnknown()) > 0
	n := isa.Node{Kind: isa.Object}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if !m.Has(field) || w.nodes < 0 {
			continue
		}
		var kid isa.Node
		if field.IsList() {
			kid = w.list(field, m.Get(field).List())
		} else {
			kid = w.value(field, m.Get(field))
		}
		kid.Name = field.JSONName()
		n.Kids = append(n.Kids, kid)
	}
	return n
}

func (w *pbWalk) list(field protoreflect.FieldDescriptor, items protoreflect.List) isa.Node {
	w.nodes--
	n := isa.Node{Kind: isa.List}
	for i := 0; i < items.Len() && w.nodes >= 0; i++ {
		n.Kids = append(n.Kids, w.value(field, items.Get(i)))
	}
	return n
}

func (w *pbWalk) value(field protoreflect.FieldDescriptor, value protoreflect.Value) isa.Node {
	switch field.Kind() {
	case protoreflect.MessageKind:
		return w.message(value.Message())
	case protoreflect.Int64Kind:
		w.nodes--
		return isa.Node{Kind: isa.Number, Text: strconv.FormatInt(value.Int(), 10)}
	case protoreflect.DoubleKind:
		w.nodes--
		return isa.Node{Kind: isa.Number, Text: strconv.FormatFloat(value.Float(), 'f', -1, 64)}
	}
	w.nodes--
	return isa.Node{Kind: isa.String, Text: value.String()}
}

// encodeProtobuf writes an IsaProgram, fields in order of their numbers.
func encodeProtobuf(p isa.Program) ([]byte, error) {
	message := &sluicev1.IsaProgram{}
	root := isa.Tree(p)
	if err := fill(message.ProtoReflect(), &root); err != nil {
		return nil, fmt.Errorf("encode protobuf: %w", err)
	}
	out, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("encode protobuf: %w", err)
	}
	return out, nil
}

// fill sets the fields of m from the kids of n.
func fill(m protoreflect.Message, n *isa.Node) error {
	for i := range n.Kids {
		kid := &n.Kids[i]
		field := m.Descriptor().Fields().ByJSONName(kid.Name)
		if field == nil {
			return fmt.Errorf("%s has no field %+q", m.Descriptor().Name(), kid.Name)
		}
		switch {
		case field.IsList():
			list := m.Mutable(field).List()
			for k := range kid.Kids {
				if err := push(list, field, &kid.Kids[k]); err != nil {
					return err
				}
			}
		case field.Kind() == protoreflect.MessageKind:
			if err := fill(m.Mutable(field).Message(), kid); err != nil {
				return err
			}
		default:
			value, err := scalar(field, kid)
			if err != nil {
				return err
			}
			m.Set(field, value)
		}
	}
	return nil
}

func push(list protoreflect.List, field protoreflect.FieldDescriptor, n *isa.Node) error {
	if field.Kind() == protoreflect.MessageKind {
		return fill(list.AppendMutable().Message(), n)
	}
	value, err := scalar(field, n)
	if err == nil {
		list.Append(value)
	}
	return err
}

func scalar(field protoreflect.FieldDescriptor, n *isa.Node) (protoreflect.Value, error) {
	switch field.Kind() {
	case protoreflect.Int64Kind:
		value, err := strconv.ParseInt(n.Text, 10, 64)
		if err != nil {
			return protoreflect.Value{}, fmt.Errorf("field %s: %w", n.Name, err)
		}
		return protoreflect.ValueOfInt64(value), nil
	case protoreflect.DoubleKind:
		value, err := strconv.ParseFloat(n.Text, 64)
		if err != nil {
			return protoreflect.Value{}, fmt.Errorf("field %s: %w", n.Name, err)
		}
		return protoreflect.ValueOfFloat64(value), nil
	}
	return protoreflect.ValueOfString(n.Text), nil
}
