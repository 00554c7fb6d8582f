package files

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
	"unicode/utf8"
)

// allowance refuses an element larger than MaxElement: the decoder holds one at a time,
// and each gives the allowance back.
type allowance struct {
	in   io.Reader
	left int
}

func (a *allowance) Read(p []byte) (int, error) {
	if a.left <= 0 {
		return 0, fmt.Errorf("an element of more than %d bytes", MaxElement)
	}
	n, err := a.in.Read(p[:min(len(p), a.left)])
	a.left -= n
	return n, err //nolint:wrapcheck // io.EOF must stay itself
}

// document reads JSON one element at a time.
type document struct {
	file    *file
	in      *allowance
	decoder *json.Decoder
}

func (f *file) newDocument(in io.Reader) *document {
	limited := &allowance{in: in, left: MaxElement}
	return &document{file: f, in: limited, decoder: json.NewDecoder(limited)}
}

// fault is an error at the place that was reached.
func (d *document) fault(reason, remedy string) error {
	return &Error{File: d.file.name, Byte: d.decoder.InputOffset(), Reason: reason, Remedy: remedy}
}

// broken explains an error of the decoder.
func (d *document) broken(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return d.fault("the JSON ends too early", "is the file whole?")
	case errors.As(err, &syntax):
		return &Error{File: d.file.name, Byte: syntax.Offset, Reason: syntax.Error(), Remedy: "want JSON of the format that --format names"}
	case errors.As(err, &kind):
		return d.fault(fmt.Sprintf("field %s holds a %s", kind.Field, kind.Value), "is --format right?")
	}
	return d.fault(err.Error(), "is --format right?")
}

// open reads the delimiter that must come next.
func (d *document) open(want json.Delim) error {
	token, err := d.decoder.Token()
	if err != nil {
		return d.broken(err)
	}
	if token != want {
		return d.fault(fmt.Sprintf("found %v, want %v", token, want), "is --format right?")
	}
	return nil
}

// key reads the name of a member of an object.
func (d *document) key() (string, error) {
	token, err := d.decoder.Token()
	if err != nil {
		return "", d.broken(err)
	}
	name, _ := token.(string)
	return name, nil
}

// decode reads one element. Fields that value does not have are skipped: exporters add
// their own.
func (d *document) decode(value any) error {
	if err := d.decoder.Decode(value); err != nil {
		return d.broken(err)
	}
	d.in.left = MaxElement
	return nil
}

// array calls read at each element of the array that comes next.
func (d *document) array(read func() error) error {
	if err := d.open('['); err != nil {
		return err
	}
	for d.decoder.More() {
		if err := read(); err != nil {
			return err
		}
	}
	return d.open(']')
}

// end fails if anything follows.
func (d *document) end() error {
	if _, err := d.decoder.Token(); !errors.Is(err, io.EOF) {
		return d.fault("something follows the end of the JSON", "leave it out")
	}
	return nil
}

// number is a whole number that is written as a number or as a string, as protobuf
// JSON allows for 64 bits.
type number int64

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(data []byte) error {
	text := string(bytes.Trim(data, `"`))
	if text == "" || text == "null" {
		*n = 0
		return nil
	}
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return fmt.Errorf("%q is no whole number of 64 bits", text)
	}
	*n = number(value)
	return nil
}

// add checks a span and hands it to the joiner.
func (d *document) add(s *span) error {
	for _, name := range []string{s.service, s.peer} {
		if reason := checkName(name); reason != "" || !utf8.ValidString(name) {
			return d.fault(reason, "correct the span")
		}
	}
	switch {
	case s.trace == "" || s.id == "":
		return d.fault("a span without a trace id or a span id", "leave the span out")
	case s.duration < 0:
		return d.fault(fmt.Sprintf("span %.64q ends before it starts", s.id), "leave the span out")
	case s.start.Before(time.Unix(0, 0)):
		return d.fault(fmt.Sprintf("span %.64q starts before 1970", s.id), "leave the span out")
	}
	if s.service == "" {
		d.file.counts.Records++
		d.file.counts.Dropped++
		return nil
	}
	s.trace, s.service = d.file.join.name(s.trace), d.file.intern(s.service)
	s.instance, s.peer = d.file.intern(s.instance), d.file.intern(s.peer)
	d.file.join.add(*s)
	return nil
}
