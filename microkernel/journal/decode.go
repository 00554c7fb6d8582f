package journal

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"unicode/utf8"

	"github.com/sluicemesh/sluice/microkernel"
)

// DecodeError says where a payload is not the canonical JSON of an event, and why.
type DecodeError struct {
	Offset int // byte in the payload
	Reason string
}

// Error implements error.
func (e *DecodeError) Error() string {
	return fmt.Sprintf("event payload, byte %d: %s; restore the journal from a copy", e.Offset, e.Reason)
}

// DecodeEvent is the inverse of EncodeEvent. It takes canonical JSON only: what it
// accepts encodes to the same bytes again. Every error is a *DecodeError.
func DecodeEvent(payload []byte) (microkernel.Event, error) {
	p := &parser{text: payload}
	version, event := 0, reflect.Value{}
	err := p.object(func(key string) error {
		switch key {
		case "v":
			return p.version(&version)
		case "type":
			name, err := p.str()
			if err != nil {
				return err
			}
			kind, known := typeOf(eventTypes(), name)
			if !known {
				return p.fault("unknown event type %q", name)
			}
			event = reflect.New(kind).Elem()
			return nil
		case "event":
			if !event.IsValid() {
				return p.fault("the event stands before its type")
			}
			return p.structure(event)
		}
		return p.fault("unknown field %q", key)
	})
	if err != nil {
		return nil, err
	}
	return p.finish(event)
}

// parser reads the JSON that encode.go writes, and no other. Its depth is that of the
// Go types, which are not recursive.
type parser struct {
	text []byte
	at   int
}

func (p *parser) fault(format string, args ...any) error {
	return &DecodeError{Offset: p.at, Reason: fmt.Sprintf(format, args...)}
}

// finish checks that nothing is left and that the event encodes to the same bytes:
// no zero written out, no field twice, no other spelling of a number or of text.
func (p *parser) finish(event reflect.Value) (microkernel.Event, error) {
	if p.at != len(p.text) {
		return nil, p.fault("%d bytes after the end", len(p.text)-p.at)
	}
	if !event.IsValid() {
		return nil, p.fault("no event")
	}
	ev, ok := event.Interface().(microkernel.Event)
	if !ok {
		return nil, p.fault("%s is no event", event.Type())
	}
	again, err := EncodeEvent(ev)
	if err != nil {
		return nil, p.fault("%v", err)
	}
	for i := range min(len(again), len(p.text)) {
		if again[i] != p.text[i] {
			p.at = i
			return nil, p.fault("not canonical: want %.20q", again[i:])
		}
	}
	if len(again) != len(p.text) {
		return nil, p.fault("not canonical: want %d bytes", len(again))
	}
	return ev, nil
}

func (p *parser) version(version *int) error {
	err := p.value(reflect.ValueOf(version).Elem())
	if err == nil && *version != payloadVersion {
		return p.fault("version %d, this program reads %d", *version, payloadVersion)
	}
	return err
}

// value reads the value that v's type wants.
func (p *parser) value(v reflect.Value) error {
	if text, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return p.unmarshal(text)
	}
	switch v.Kind() {
	case reflect.Struct:
		return p.structure(v)
	case reflect.Slice:
		return p.slice(v)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return p.value(v.Elem())
	case reflect.Interface:
		return p.union(v)
	case reflect.String:
		s, err := p.str()
		v.SetString(s)
		return err
	}
	return p.scalar(v)
}

// scalar reads a number or a truth value.
func (p *parser) scalar(v reflect.Value) error {
	word, err := p.word(), error(nil)
	bits := 0
	if v.CanInt() || v.CanUint() {
		bits = v.Type().Bits()
	}
	switch {
	case v.Kind() == reflect.Bool:
		var b bool
		b, err = strconv.ParseBool(word)
		v.SetBool(b)
	case v.CanInt():
		var n int64
		n, err = strconv.ParseInt(word, 10, bits)
		v.SetInt(n)
	case v.CanUint():
		var n uint64
		n, err = strconv.ParseUint(word, 10, bits)
		v.SetUint(n)
	case v.CanFloat():
		var f float64
		f, err = strconv.ParseFloat(word, 64)
		v.SetFloat(f)
	default:
		return p.fault("type %s has no encoding", v.Type())
	}
	if err != nil {
		return p.fault("%.20q is no %s", word, v.Type())
	}
	return nil
}

// word reads up to the next delimiter.
func (p *parser) word() string {
	start := p.at
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case ',', ']', '}':
			return string(p.text[start:p.at])
		}
		p.at++
	}
	return string(p.text[start:])
}

func (p *parser) unmarshal(into encoding.TextUnmarshaler) error {
	s, err := p.str()
	if err != nil {
		return err
	}
	if err := into.UnmarshalText([]byte(s)); err != nil {
		return p.fault("%v", err)
	}
	return nil
}

// structure reads an object into the struct v.
func (p *parser) structure(v reflect.Value) error {
	return p.object(func(key string) error {
		field, found := v.Type().FieldByName(key)
		if !found || len(field.Index) != 1 || !field.IsExported() {
			return p.fault("unknown field %.40q of %s", key, v.Type())
		}
		return p.value(v.FieldByIndex(field.Index))
	})
}

// union reads an object whose only field names the type of its value, or null.
func (p *parser) union(v reflect.Value) error {
	if p.at < len(p.text) && p.text[p.at] == 'n' {
		if word := p.word(); word != "null" {
			return p.fault("%.20q is no action", word)
		}
		return nil
	}
	return p.object(func(key string) error {
		kind, known := typeOf(actionTypes(), key)
		if !known || !v.IsNil() {
			return p.fault("unknown or second action %.40q", key)
		}
		action := reflect.New(kind).Elem()
		err := p.structure(action)
		v.Set(action)
		return err
	})
}

// slice reads an array. It grows with what is read, never by a count in the input.
func (p *parser) slice(v reflect.Value) error {
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	return p.list('[', ']', func() error {
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
		return p.value(v.Index(v.Len() - 1))
	})
}

// object reads {"key":value,...}; field reads the value of each key.
func (p *parser) object(field func(key string) error) error {
	return p.list('{', '}', func() error {
		key, err := p.str()
		if err != nil {
			return err
		}
		if err := p.expect(':'); err != nil {
			return err
		}
		return field(key)
	})
}

// list reads opening, items parted by commas, closing.
func (p *parser) list(opening, closing byte, item func() error) error {
	if err := p.expect(opening); err != nil {
		return err
	}
	if p.at < len(p.text) && p.text[p.at] == closing {
		p.at++
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		if p.at < len(p.text) && p.text[p.at] == ',' {
			p.at++
			continue
		}
		return p.expect(closing)
	}
}

func (p *parser) expect(c byte) error {
	if p.at >= len(p.text) || p.text[p.at] != c {
		return p.fault("want %q", c)
	}
	p.at++
	return nil
}

// str reads a string with the escapes that appendString writes.
func (p *parser) str() (string, error) {
	if err := p.expect('"'); err != nil {
		return "", err
	}
	var out []byte
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == '"':
			p.at++
			if !utf8.Valid(out) {
				return "", p.fault("text is not UTF-8")
			}
			return string(out), nil
		case c == '\\':
			unescaped, err := p.escape()
			if err != nil {
				return "", err
			}
			out = append(out, unescaped)
		case c < 0x20:
			return "", p.fault("control byte %#02x", c)
		default:
			out = append(out, c)
			p.at++
		}
	}
	return "", p.fault("text does not end")
}

// escape reads \" or \\ or \u00XX.
func (p *parser) escape() (byte, error) {
	rest := p.text[p.at:]
	switch {
	case len(rest) >= 2 && (rest[1] == '"' || rest[1] == '\\'):
		p.at += 2
		return rest[1], nil
	case len(rest) >= 6 && string(rest[1:4]) == "u00":
		n, err := strconv.ParseUint(string(rest[4:6]), 16, 8)
		if err == nil && n < 0x20 {
			p.at += 6
			return byte(n), nil
		}
	}
	return 0, p.fault("unknown escape")
}
