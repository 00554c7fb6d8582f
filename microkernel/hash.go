package microkernel

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"math"
	"reflect"
)

// Hash returns the SHA-256 of a canonical encoding of the whole state, in hex. Replay
// of the journal must yield the hash of the live state (I6). A nil and an empty list
// are the same.
func Hash(s State) string { return digest(s) }

// same reports whether two values of one type have the same canonical encoding.
func same[T any](a, b T) bool { return digest(a) == digest(b) }

func digest(v any) string {
	e := encoder{h: sha256.New()}
	e.value(reflect.ValueOf(v))
	e.flush()
	return hex.EncodeToString(e.h.Sum(nil))
}

// encoder feeds values to a hash: numbers as 8 bytes, strings and lists with their
// length before them, structs field by field, interfaces with the name of their type.
// There is no map in the state, so nothing needs sorting.
type encoder struct {
	h   hash.Hash
	buf []byte
}

func (e *encoder) flush() {
	e.h.Write(e.buf)
	e.buf = e.buf[:0]
}

func (e *encoder) number(n uint64) {
	e.buf = binary.LittleEndian.AppendUint64(e.buf, n)
	if len(e.buf) > 4096 {
		e.flush()
	}
}

func (e *encoder) text(s string) {
	e.number(uint64(len(s)))
	e.buf = append(e.buf, s...)
}

func (e *encoder) value(v reflect.Value) {
	switch v.Kind() {
	case reflect.Invalid:
		e.number(0)
	case reflect.String:
		e.text(v.String())
	case reflect.Bool:
		if v.Bool() {
			e.number(1)
		} else {
			e.number(0)
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		e.number(uint64(v.Int()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		e.number(v.Uint())
	case reflect.Float32, reflect.Float64:
		e.number(math.Float64bits(v.Float()))
	case reflect.Slice, reflect.Array:
		e.number(uint64(v.Len()))
		for i := range v.Len() {
			e.value(v.Index(i))
		}
	case reflect.Struct:
		e.fields(v)
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			e.number(0)
			return
		}
		if v.Kind() == reflect.Interface {
			e.text(v.Elem().Type().String())
		} else {
			e.number(1)
		}
		e.value(v.Elem())
	default:
		panic("microkernel: the state has a " + v.Kind().String() + ", which has no canonical encoding")
	}
}

func (e *encoder) fields(v reflect.Value) {
	for i := range v.NumField() {
		e.value(v.Field(i))
	}
}
