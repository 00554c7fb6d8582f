package isa

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Tree returns p as a tree of nodes without places: what ParseNode reads back as p.
// Operands that are left to their default are left out.
func Tree(p Program) Node {
	var n Node
	n.text("id", p.ID)
	n.text("epoch", p.Epoch)
	n.duration("deadline", p.Deadline)
	steps := Node{Kind: List, Name: "steps", Kids: make([]Node, 0, len(p.Steps))}
	for i := range p.Steps {
		steps.Kids = append(steps.Kids, stepTree(&p.Steps[i]))
	}
	n.add(steps)
	if len(p.Verify) > 0 {
		verify := Node{Kind: List, Name: "verify"}
		for _, check := range p.Verify {
			var c Node
			c.text("service", string(check.Service))
			c.add(Node{Name: "for", Kind: String, Text: formatDuration(check.For)})
			verify.add(c)
		}
		n.add(verify)
	}
	n.Kind = Object
	return n
}

// add appends a field or item.
func (n *Node) add(kid Node) {
	if n.Kind == Null {
		n.Kind = Object
	}
	if kid.Kind == Null {
		kid.Kind = Object // an action without operands
	}
	if n.Kids == nil {
		n.Kids = make([]Node, 0, 6) // most have fewer fields: one allocation each
	}
	n.Kids = append(n.Kids, kid)
}

// text adds a string field unless it is empty.
func (n *Node) text(name, value string) {
	if value != "" {
		n.add(Node{Name: name, Kind: String, Text: value})
	}
}

func (n *Node) duration(name string, d time.Duration) {
	if d != 0 {
		n.text(name, formatDuration(d))
	}
}

func (n *Node) count(name string, count int64) {
	if count != 0 {
		n.add(Node{Name: name, Kind: Number, Text: strconv.FormatInt(count, 10)})
	}
}

func texted[T ~string](n *Node, name string, values []T) {
	if len(values) == 0 {
		return
	}
	list := Node{Name: name, Kind: List, Kids: make([]Node, len(values))}
	for i, value := range values {
		list.Kids[i] = Node{Kind: String, Text: string(value)}
	}
	n.add(list)
}

func stepTree(s *Step) Node {
	var n Node
	n.text("id", string(s.ID))
	texted(&n, "after", s.After)
	if s.Action != nil {
		action := actionTree(s.Action)
		action.Name = string(s.Action.Kind())
		n.add(action)
	}
	n.Kind = Object
	return n
}

func actionTree(action Action) Node {
	var n Node
	switch a := action.(type) {
	case Restart:
		n.target(a.Target)
		n.text("mode", string(a.Mode))
		n.text("drain", borrowed(a))
		n.duration("deadline", a.Deadline)
	case Drain:
		n.target(a.Target)
		n.count("share", int64(a.Share))
		n.text("to", string(a.To))
		n.text("onEmpty", string(a.OnEmpty))
		n.text("streams", string(a.Streams))
		n.duration("deadline", a.Deadline)
		n.duration("lease", a.Lease)
	case RestoreTraffic:
		n.text("drain", string(a.Drain))
		n.duration("ramp", a.Ramp)
	case CircuitBreak:
		n.circuitBreak(a)
	case RateLimit:
		n.target(a.Target)
		n.text("caller", string(a.Caller))
		n.rate(a.PerSecond)
		n.count("burst", int64(a.Burst))
		n.duration("lease", a.Lease)
	case Scale:
		n.target(a.Target)
		n.add(Node{Name: "replicas", Kind: Number, Text: strconv.Itoa(a.Replicas)})
	case RollbackConfig:
		n.text("object", a.Object)
		n.text("revision", a.Revision)
	case Await:
		n.text("drain", string(a.Drain))
		n.text("until", string(a.Until))
	}
	return n
}

// borrowed returns how a restart's drain is spelled, "" if it has none.
func borrowed(r Restart) string {
	if r.NoDrain {
		return none
	}
	return string(r.Drain)
}

func (n *Node) circuitBreak(a CircuitBreak) {
	n.target(a.Target)
	n.text("caller", string(a.Caller))
	n.count("maxRequests", int64(a.MaxRequests))
	n.count("maxConnections", int64(a.MaxConnections))
	n.count("maxPending", int64(a.MaxPending))
	n.count("maxRetries", int64(a.MaxRetries))
	n.count("consecutive5xx", int64(a.Consecutive5xx))
	n.duration("lease", a.Lease)
}

// rate adds perSecond. What is no number (a program made in Go, refused later) becomes
// a string, which only a trusted decoder takes back.
func (n *Node) rate(perSecond float64) {
	kid := Node{Name: "perSecond", Kind: Number, Text: formatRate(perSecond)}
	if perSecond != perSecond || perSecond-perSecond != 0 { // NaN, infinite
		kid.Kind = String
	}
	n.add(kid)
}

func (n *Node) target(t Target) {
	var target Node
	target.text("service", string(t.Service))
	target.text("instance", t.Instance)
	target.text("uid", string(t.UID))
	target.text("zone", t.Zone)
	target.text("version", t.Version)
	texted(&target, "group", t.Group)
	texted(&target, "uids", t.UIDs)
	target.Name = "target"
	n.add(target)
}

// FormatJSON spells p as JSON, one step a line, with a final newline. ParseJSON reads
// it back as p if p has valid names and numbers.
func FormatJSON(p Program) []byte {
	root := Tree(p)
	out := make([]byte, 0, 256+128*len(p.Steps))
	out = append(out, '{')
	for i := range root.Kids {
		kid := &root.Kids[i]
		if i > 0 {
			out = append(out, ',')
			if kid.Kind == List && i > 0 && root.Kids[i-1].Kind == List {
				out = append(out, "\n "...)
			}
		}
		out = appendName(out, kid.Name)
		if kid.Kind != List {
			out = appendNode(out, kid)
			continue
		}
		out = appendLines(out, kid)
	}
	return append(out, "}\n"...)
}

// appendLines spells the steps one a line, other lists on one line.
func appendLines(out []byte, list *Node) []byte {
	if list.Name != "steps" || len(list.Kids) == 0 {
		return appendNode(out, list)
	}
	out = append(out, '[')
	for i := range list.Kids {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, "\n "...)
		out = appendNode(out, &list.Kids[i])
	}
	return append(out, ']')
}

func appendName(out []byte, name string) []byte {
	out = append(out, '"')
	out = append(out, name...)
	return append(out, '"', ':')
}

func appendNode(out []byte, n *Node) []byte {
	switch n.Kind {
	case Object:
		out = append(out, '{')
		for i := range n.Kids {
			if i > 0 {
				out = append(out, ',')
			}
			out = appendName(out, n.Kids[i].Name)
			out = appendNode(out, &n.Kids[i])
		}
		return append(out, '}')
	case List:
		out = append(out, '[')
		for i := range n.Kids {
			if i > 0 {
				out = append(out, ',')
			}
			out = appendNode(out, &n.Kids[i])
		}
		return append(out, ']')
	case String:
		return appendString(out, n.Text)
	}
	return append(out, n.Text...)
}

// appendString quotes text in ASCII; bytes that are no UTF-8 become U+FFFD.
func appendString(out []byte, text string) []byte {
	out = append(out, '"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			out = append(out, '\\', byte(r))
		case r >= 0x20 && r < 0x7f:
			out = append(out, byte(r))
		case r > 0xffff:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return append(out, '"')
}

// MarshalJSON implements json.Marshaler, for journals and records.
func (p Program) MarshalJSON() ([]byte, error) {
	root := Tree(p)
	return appendNode(nil, &root), nil
}

// UnmarshalJSON implements json.Unmarshaler. It reads what MarshalJSON wrote and no
// check but that of the form is made, so it is not for programs from outside: they go
// through ParseJSON.
func (p *Program) UnmarshalJSON(src []byte) error {
	return unmarshal(src, func(d *decoder, root *Node) { *p = d.program(root) })
}

// MarshalJSON implements json.Marshaler, for journals and records.
func (s Step) MarshalJSON() ([]byte, error) {
	root := stepTree(&s)
	return appendNode(nil, &root), nil
}

// UnmarshalJSON implements json.Unmarshaler, with as little checking as Program's.
func (s *Step) UnmarshalJSON(src []byte) error {
	return unmarshal(src, func(d *decoder, root *Node) { *s = d.step(root, "") })
}

func unmarshal(src []byte, read func(*decoder, *Node)) error {
	root, fault := jsonTree(src)
	if fault != nil {
		return *fault
	}
	d := decoder{positions: make(Positions), trusted: true}
	read(&d, &root)
	errs := make([]error, len(d.faults))
	for i := range d.faults {
		errs[i] = d.faults[i]
	}
	return errors.Join(errs...)
}
