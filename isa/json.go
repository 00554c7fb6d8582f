package isa

import (
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// ParseJSON reads a program in the JSON spelling (RFC 8259, strictly): no duplicate or
// unknown field, no trailing byte, no invalid UTF-8, no lone surrogate. It returns all
// faults of content at once; a fault of syntax ends the reading.
func ParseJSON(src []byte) (Program, Positions, []Fault) {
	if faults := TooLarge(src); faults != nil {
		return Program{}, nil, faults
	}
	root, fault := jsonTree(src)
	if fault != nil {
		return Program{}, nil, []Fault{*fault}
	}
	return ParseNode(root)
}

// jsonTree reads one JSON value that fills src.
func jsonTree(src []byte) (root Node, fault *Fault) {
	p := jsonParser{src: src, line: 1}
	if !p.value(&root, 1) {
		return Node{}, p.fault
	}
	p.space()
	if p.pos < len(p.src) {
		p.fail(CodeDecode, "bytes follow the program", "end the source after the closing brace")
		return Node{}, p.fault
	}
	return root, nil
}

// jsonParser reads JSON by recursive descent, at most MaxDepth deep. Its methods
// report success; the first failure is in fault.
type jsonParser struct {
	src       []byte
	pos       int
	line      int32
	lineStart int
	fault     *Fault
}

func (p *jsonParser) at() Position { return Position{p.line, int32(p.pos-p.lineStart) + 1} }

func (p *jsonParser) fail(code Code, reason, remedy string) bool {
	if p.fault == nil {
		at := p.at()
		p.fault = &Fault{code, int(at.Line), int(at.Column), "", reason, remedy}
	}
	return false
}

func (p *jsonParser) unexpected(want string) bool {
	got := "the end of the source"
	if p.pos < len(p.src) {
		got = fmt.Sprintf("%+q", p.src[p.pos:p.pos+1])
	}
	return p.fail(CodeDecode, got+" where "+want+" is wanted", "write valid JSON (RFC 8259)")
}

func (p *jsonParser) space() {
	for ; p.pos < len(p.src); p.pos++ {
		switch p.src[p.pos] {
		case '\n':
			p.line++
			p.lineStart = p.pos + 1
		case ' ', '\t', '\r':
		default:
			return
		}
	}
}

// next reports whether c comes next, after white space, and takes it.
func (p *jsonParser) next(c byte) bool {
	p.space()
	if p.pos >= len(p.src) || p.src[p.pos] != c {
		return false
	}
	p.pos++
	return true
}

func (p *jsonParser) value(n *Node, depth int) bool {
	p.space()
	n.At = p.at()
	if depth > MaxDepth {
		return p.fail(CodeTooLarge, "nested too deep", fmt.Sprintf("at most %d levels", MaxDepth))
	}
	if p.pos >= len(p.src) {
		return p.unexpected("a value")
	}
	switch c := p.src[p.pos]; {
	case c == '{':
		n.Kind = Object
		return p.object(n, depth)
	case c == '[':
		n.Kind = List
		return p.list(n, depth)
	case c == '"':
		n.Kind = String
		return p.str(&n.Text)
	case c == '-' || c >= '0' && c <= '9':
		n.Kind = Number
		return p.number(n)
	}
	return p.word(n)
}

func (p *jsonParser) word(n *Node) bool {
	for _, w := range [...]struct {
		text string
		kind NodeKind
	}{{"null", Null}, {"true", Bool}, {"false", Bool}} {
		if strings.HasPrefix(string(p.src[p.pos:min(len(p.src), p.pos+5)]), w.text) {
			n.Kind, n.Text = w.kind, w.text
			p.pos += len(w.text)
			return true
		}
	}
	return p.unexpected("a value")
}

func (p *jsonParser) object(n *Node, depth int) bool {
	p.pos++
	if p.next('}') {
		return true
	}
	for {
		p.space()
		var kid Node
		kid.NameAt = p.at()
		if p.pos >= len(p.src) || p.src[p.pos] != '"' {
			return p.unexpected("a field name")
		}
		if !p.str(&kid.Name) {
			return false
		}
		if !p.next(':') {
			return p.unexpected("a colon")
		}
		if !p.value(&kid, depth+1) {
			return false
		}
		n.Kids = append(n.Kids, kid)
		if len(n.Kids) > maxFields {
			return p.fail(CodeTooLarge, "too many fields in one object", "an object has at most 10 fields")
		}
		if p.next('}') {
			return true
		}
		if !p.next(',') {
			return p.unexpected("a comma or a closing brace")
		}
	}
}

func (p *jsonParser) list(n *Node, depth int) bool {
	p.pos++
	if p.next(']') {
		return true
	}
	for {
		var kid Node
		if !p.value(&kid, depth+1) {
			return false
		}
		n.Kids = append(n.Kids, kid)
		if p.next(']') {
			return true
		}
		if !p.next(',') {
			return p.unexpected("a comma or a closing bracket")
		}
	}
}

// number takes a JSON number as it is written; what it means is for the decoder.
func (p *jsonParser) number(n *Node) bool {
	start := p.pos
	p.accept("-")
	if !p.accept("0") && !p.digits() {
		return p.unexpected("a digit")
	}
	if p.accept(".") && !p.digits() {
		return p.unexpected("a digit")
	}
	if p.accept("eE") {
		p.accept("+-")
		if !p.digits() {
			return p.unexpected("a digit")
		}
	}
	n.Text = string(p.src[start:p.pos])
	return true
}

func (p *jsonParser) accept(set string) bool {
	if p.pos >= len(p.src) || strings.IndexByte(set, p.src[p.pos]) < 0 {
		return false
	}
	p.pos++
	return true
}

func (p *jsonParser) digits() bool {
	start := p.pos
	for p.accept("0123456789") {
	}
	return p.pos > start
}

// str takes a string; without escapes, which is the rule, it costs one copy.
func (p *jsonParser) str(out *string) bool {
	p.pos++
	start := p.pos
	for p.pos < len(p.src) {
		switch c := p.src[p.pos]; {
		case c == '"':
			*out = string(p.src[start:p.pos])
			p.pos++
			return true
		case c == '\\':
			return p.escaped(start, out)
		case c < 0x20:
			return p.fail(CodeDecode, fmt.Sprintf("control byte %#02x in a string", c), "remove it")
		case c < utf8.RuneSelf:
			p.pos++
		default:
			if !p.rune() {
				return false
			}
		}
	}
	return p.unexpected("the end of a string")
}

// rune takes one character that is not ASCII.
func (p *jsonParser) rune() bool {
	r, size := utf8.DecodeRune(p.src[p.pos:])
	if r == utf8.RuneError && size <= 1 {
		return p.fail(CodeDecode, fmt.Sprintf("byte %#02x is not UTF-8", p.src[p.pos]), "write UTF-8")
	}
	p.pos += size
	return true
}

// escaped takes the rest of a string that began at start and has an escape at pos.
func (p *jsonParser) escaped(start int, out *string) bool {
	text := append([]byte(nil), p.src[start:p.pos]...)
	for p.pos < len(p.src) {
		switch c := p.src[p.pos]; {
		case c == '"':
			*out = string(text)
			p.pos++
			return true
		case c == '\\':
			r, ok := p.escape()
			if !ok {
				return false
			}
			text = utf8.AppendRune(text, r)
		case c < 0x20:
			return p.fail(CodeDecode, fmt.Sprintf("control byte %#02x in a string", c), "remove it")
		default:
			from := p.pos
			if !p.rune() {
				return false
			}
			text = append(text, p.src[from:p.pos]...)
		}
	}
	return p.unexpected("the end of a string")
}

// escape takes one escape sequence, or two that are a surrogate pair.
func (p *jsonParser) escape() (rune, bool) {
	if p.pos+1 >= len(p.src) {
		return 0, p.unexpected("a complete escape")
	}
	c := p.src[p.pos+1]
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
		p.pos += 2
		return rune("\"\\/\b\f\n\r\t"[i]), true
	}
	if c != 'u' {
		return 0, p.fail(CodeDecode, "unknown escape in a string", `write \u and four digits`)
	}
	r, ok := p.hex4(p.pos + 2)
	if !ok {
		return 0, p.fail(CodeDecode, `\u without four hexadecimal digits`, `write \u and four digits`)
	}
	if !utf16.IsSurrogate(r) {
		p.pos += 6
		return r, true
	}
	low, ok := p.hex4(p.pos + 8)
	pair := utf16.DecodeRune(r, low)
	if !ok || p.src[p.pos+6] != '\\' || p.src[p.pos+7] != 'u' || pair == utf8.RuneError {
		return 0, p.fail(CodeDecode, "lone surrogate in a string", "write both halves of the pair")
	}
	p.pos += 12
	return pair, true
}

func (p *jsonParser) hex4(at int) (rune, bool) {
	if at+4 > len(p.src) {
		return 0, false
	}
	var r rune
	for _, c := range p.src[at : at+4] {
		i := strings.IndexByte("0123456789abcdef", c|0x20)
		if i < 0 || c < '0' {
			return 0, false
		}
		r = r<<4 | rune(i)
	}
	return r, true
}
