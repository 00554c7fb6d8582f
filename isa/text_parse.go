package isa

import (
	"cmp"
	"slices"
	"strings"
)

// ParseText reads a program in the compact spelling (docs/isa.md has the grammar). It
// is as strict as ParseJSON and returns all faults at once, in the order of the source.
func ParseText(src []byte) (Program, Positions, []Fault) {
	if faults := TooLarge(src); faults != nil {
		return Program{}, nil, faults
	}
	var t textParser
	t.read(string(src))
	program, positions, faults := ParseNode(t.root())
	faults = append(t.faults, faults...)
	slices.SortStableFunc(faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return program, positions, faults[:min(len(faults), maxFaults)]
}

// textParser turns lines into the tree that the JSON spelling has.
type textParser struct {
	header Node // fields of the plan line
	titled bool // a plan line was read
	steps  []Node
	verify []Node
	faults []Fault
	line   line
	path   string // of the step that the line is about
}

// root puts the parts together.
func (t *textParser) root() Node {
	root := t.header
	root.Kind, root.At = Object, Position{1, 1}
	at := Position{1, 1}
	root.Kids = append(root.Kids, Node{Kind: List, At: at, NameAt: at, Name: "steps", Kids: t.steps})
	if len(t.verify) > 0 {
		at = t.verify[0].At
		root.Kids = append(root.Kids, Node{Kind: List, At: at, NameAt: at, Name: "verify", Kids: t.verify})
	}
	return root
}

// line is one line of the source, taken word by word; words are apart by blanks.
type line struct {
	text   string
	number int32
	pos    int
}

// next takes the next word; it is empty at the end of the line.
func (l *line) next() (string, Position) {
	for l.pos < len(l.text) && (l.text[l.pos] == ' ' || l.text[l.pos] == '\t') {
		l.pos++
	}
	start := l.pos
	for l.pos < len(l.text) && l.text[l.pos] != ' ' && l.text[l.pos] != '\t' {
		l.pos++
	}
	return l.text[start:l.pos], Position{l.number, int32(start) + 1}
}

func (t *textParser) fault(at Position, code Code, reason, remedy string) {
	if len(t.faults) < maxFaults {
		t.faults = append(t.faults, Fault{code, int(at.Line), int(at.Column), t.path, reason, remedy})
	}
}

func node(kind NodeKind, name, text string, at Position) Node {
	return Node{Kind: kind, At: at, NameAt: at, Name: name, Text: text}
}

func (t *textParser) read(src string) {
	for number := int32(1); src != ""; number++ {
		var text string
		text, src, _ = strings.Cut(src, "\n")
		t.line = line{text: text, number: number}
		t.path = ""
		t.readLine()
	}
}

func (t *textParser) readLine() {
	first, at := t.line.next()
	if first == "" {
		return
	}
	rest := t.line
	second, secondAt := t.line.next()
	switch {
	case second == "=":
		t.step(first, at)
	case first == "plan":
		t.line = rest
		t.plan(at)
	case first == "verify":
		t.line = rest
		t.check(at)
	default:
		t.fault(cmp.Or(secondAt, at), CodeDecode, quote(first)+" begins no line of a plan",
			`a line is "plan ID ...", "ID = ACTION ..." or "verify SERVICE for DURATION"`)
	}
}

func (t *textParser) plan(at Position) {
	if t.titled || len(t.steps) > 0 || len(t.verify) > 0 {
		t.fault(at, CodeDecode, "the plan line is not the first, or not the only one", "begin with one plan line")
		return
	}
	t.titled = true
	t.header.At = at
	if id, idAt := t.line.next(); id != "" {
		t.header.Kids = append(t.header.Kids, node(String, "id", id, idAt))
	}
	t.operands(&t.header, []operand{{word: "epoch", field: "epoch"}, {word: "deadline", field: "deadline"}})
}

func (t *textParser) check(at Position) {
	t.path = itemPath("verify", len(t.verify))
	check := node(Object, "", "", at)
	if service, serviceAt := t.line.next(); service != "" {
		check.Kids = append(check.Kids, node(String, "service", service, serviceAt))
	}
	t.operands(&check, []operand{{word: "for", field: "for"}})
	t.verify = append(t.verify, check)
}

// step reads the rest of "ID = ACTION ...". A line with a fault still becomes a step, so
// that its other operands are judged too.
func (t *textParser) step(id string, at Position) {
	t.path = itemPath("steps", len(t.steps))
	step := node(Object, "", "", at)
	step.Kids = append(step.Kids, node(String, "id", id, at))
	word, wordAt := t.line.next()
	form := formOf(word)
	if form == nil {
		t.fault(wordAt, CodeDecode, quote(word)+" is no action", "one of "+strings.Join(formWords(), ", "))
		return
	}
	action := node(Object, string(form.kind), "", wordAt)
	t.first(&action, form)
	after := t.operands(&action, form.operands)
	if after != nil {
		step.Kids = append(step.Kids, *after)
	}
	step.Kids = append(step.Kids, action)
	t.steps = append(t.steps, step)
}

// first reads the operand that has no keyword.
func (t *textParser) first(action *Node, form *form) {
	word, at := t.line.next()
	switch {
	case word == "":
	case form.first == "target":
		action.Kids = append(action.Kids, t.target(word, at))
	default:
		action.Kids = append(action.Kids, node(String, form.first, word, at))
	}
}

// operands reads the rest of the line into n and returns what follows "after".
func (t *textParser) operands(n *Node, known []operand) *Node {
	var after *Node
	for {
		word, at := t.line.next()
		if word == "" {
			return after
		}
		if word == "after" && n.Name != "" {
			list := t.after(at)
			if after != nil {
				t.fault(at, CodeDecode, `"after" is given twice`, "name all steps in one list: after d1,d2")
			}
			after = &list
			continue
		}
		if kid, ok := t.operand(known, word, at); ok {
			n.Kids = append(n.Kids, kid)
		}
	}
}

func (t *textParser) after(at Position) Node {
	word, wordAt := t.line.next()
	list := node(List, "after", "", wordAt)
	list.NameAt = at
	list.Kids = items(word, wordAt)
	return list
}

// items splits "a,b,c".
func items(word string, at Position) []Node {
	var out []Node
	for {
		item, rest, more := strings.Cut(word, ",")
		out = append(out, node(String, "", item, at))
		if !more {
			return out
		}
		at.Column += int32(len(item)) + 1
		word = rest
	}
}

// operand reads one operand that begins with word.
func (t *textParser) operand(known []operand, word string, at Position) (Node, bool) {
	for _, o := range known {
		switch {
		case o.word != "" && o.word == word:
			value, valueAt := t.line.next()
			if value == "" {
				t.fault(at, CodeDecode, quote(word)+" without a value", "write "+word+" VALUE")
				return Node{}, false
			}
			kid := node(o.kind(), o.field, value, valueAt)
			kid.NameAt = at
			return kid, true
		case o.suffix != "" && len(word) > len(o.suffix) && strings.HasSuffix(word, o.suffix):
			return node(Number, o.field, strings.TrimSuffix(word, o.suffix), at), true
		case slices.Contains(o.flags, word):
			return node(String, o.field, word, at), true
		}
	}
	t.fault(at, CodeDecode, quote(word)+" is not expected here", operandRemedy(known))
	return Node{}, false
}

// target splits a target into its fields.
func (t *textParser) target(word string, at Position) Node {
	n := node(Object, "target", "", at)
	if group, ok := strings.CutPrefix(word, "["); ok {
		group, closed := strings.CutSuffix(group, "]")
		if !closed {
			t.fault(at, CodeDecode, "the group "+quote(word)+" is not closed", "write [shop/a,shop/b] without blanks")
		}
		list := node(List, "group", "", at)
		if group != "" {
			list.Kids = items(group, Position{at.Line, at.Column + 1})
		}
		n.Kids = append(n.Kids, list)
		return n
	}
	cut := strings.IndexAny(word, "#{@")
	if cut < 0 {
		cut = len(word)
	}
	n.Kids = append(n.Kids, node(String, "service", word[:cut], at))
	at.Column += int32(cut)
	t.narrow(&n, word[cut:], at)
	return n
}

// narrow reads "#instance", "{zone=a,version=v2}", "@uid" and "@[uid,uid]".
func (t *textParser) narrow(n *Node, word string, at Position) {
	if subset, ok := strings.CutPrefix(word, "{"); ok {
		subset, rest, closed := strings.Cut(subset, "}")
		if !closed {
			t.fault(at, CodeDecode, "the subset "+quote(word)+" is not closed",
				"write {zone=a} or {version=v2} without blanks")
		}
		for _, item := range items(subset, Position{at.Line, at.Column + 1}) {
			key, value, _ := strings.Cut(item.Text, "=")
			n.Kids = append(n.Kids, node(String, key, value, item.At))
		}
		at.Column += int32(len(word) - len(rest))
		word = rest
	}
	switch {
	case word == "":
	case word[0] == '#':
		n.Kids = append(n.Kids, node(String, "instance", word[1:], at))
	case strings.HasPrefix(word, "@[") && strings.HasSuffix(word, "]"):
		list := node(List, "uids", "", at)
		list.Kids = items(word[2:len(word)-1], Position{at.Line, at.Column + 2})
		n.Kids = append(n.Kids, list)
	case word[0] == '@':
		n.Kids = append(n.Kids, node(String, "uid", word[1:], at))
	default:
		t.fault(at, CodeDecode, quote(word)+" does not belong to a target",
			"write NAMESPACE/NAME, #INSTANCE, @UID or {zone=...}")
	}
}
