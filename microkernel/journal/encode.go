package journal

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"unicode/utf8"

	"github.com/sluicemesh/sluice/microkernel"
)

// payloadVersion is the version of the JSON in a payload. Never change: raise it, and
// keep reading the former ones.
const payloadVersion = 1

// EncodeEvent returns ev as canonical JSON: fields in the order of the type, zero
// values left out, no white space. Text that is not UTF-8, a NaN and an event of an
// unknown type are errors.
func EncodeEvent(ev microkernel.Event) ([]byte, error) {
	name, known := eventName(ev)
	if !known {
		return nil, fmt.Errorf("encode event: unknown type %T", ev)
	}
	out := fmt.Appendf(nil, `{"v":%d,"type":%q,"event":`, payloadVersion, name)
	out, err := appendValue(out, reflect.ValueOf(ev))
	if err != nil {
		return nil, fmt.Errorf("encode event %s: %w", name, err)
	}
	return append(out, '}'), nil
}

// appendValue appends v, whatever its kind, as JSON.
func appendValue(out []byte, v reflect.Value) ([]byte, error) {
	if text, ok := v.Interface().(encoding.TextMarshaler); ok {
		b, err := text.MarshalText()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", v.Type(), err)
		}
		if len(b) == 0 {
			return nil, fmt.Errorf("%s that is neither zero nor valid", v.Type())
		}
		return appendString(out, string(b))
	}
	switch v.Kind() {
	case reflect.Struct:
		return appendStruct(out, v)
	case reflect.Slice:
		return appendSlice(out, v)
	case reflect.Pointer:
		return appendValue(out, v.Elem())
	case reflect.Interface:
		return appendUnion(out, v)
	case reflect.String:
		return appendString(out, v.String())
	case reflect.Float64:
		return appendFloat(out, v.Float())
	case reflect.Bool:
		return strconv.AppendBool(out, v.Bool()), nil
	case reflect.Int, reflect.Int32, reflect.Int64:
		return strconv.AppendInt(out, v.Int(), 10), nil
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		return strconv.AppendUint(out, v.Uint(), 10), nil
	}
	return nil, fmt.Errorf("type %s has no encoding", v.Type())
}

// appendStruct appends the fields of v that are not zero.
func appendStruct(out []byte, v reflect.Value) ([]byte, error) {
	out = append(out, '{')
	first := len(out)
	for i := range v.NumField() {
		field := v.Field(i)
		if field.IsZero() {
			continue
		}
		if len(out) > first {
			out = append(out, ',')
		}
		out = append(strconv.AppendQuote(out, v.Type().Field(i).Name), ':')
		var err error
		if out, err = appendValue(out, field); err != nil {
			return nil, fmt.Errorf("%s: %w", v.Type().Field(i).Name, err)
		}
	}
	return append(out, '}'), nil
}

// appendSlice appends v, every element of it; a nil slice is left out by appendStruct,
// an empty one is [], so that both come back as they were.
func appendSlice(out []byte, v reflect.Value) ([]byte, error) {
	out = append(out, '[')
	for i := range v.Len() {
		if i > 0 {
			out = append(out, ',')
		}
		var err error
		if out, err = appendValue(out, v.Index(i)); err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
	}
	return append(out, ']'), nil
}

// appendUnion appends an interface as an object whose only field names its type. A nil
// element of a slice is null.
func appendUnion(out []byte, v reflect.Value) ([]byte, error) {
	if v.IsNil() {
		return append(out, "null"...), nil
	}
	kind, known := actionName(v.Elem().Type())
	if !known {
		return nil, fmt.Errorf("type %s is no action", v.Elem().Type())
	}
	out = append(strconv.AppendQuote(append(out, '{'), kind), ':')
	out, err := appendValue(out, v.Elem())
	return append(out, '}'), err
}

// appendFloat appends f in the fewest digits that read back as f.
func appendFloat(out []byte, f float64) ([]byte, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, fmt.Errorf("%v is not a number in JSON", f)
	}
	return strconv.AppendFloat(out, f, 'g', -1, 64), nil
}

// appendString appends s, escaping the quote, the backslash and control bytes alone.
func appendString(out []byte, s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return nil, fmt.Errorf("text %.40q is not UTF-8", s)
	}
	out = append(out, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c < 0x20:
			out = fmt.Appendf(out, `\u%04x`, c)
		default:
			out = append(out, c)
		}
	}
	return append(out, '"'), nil
}
