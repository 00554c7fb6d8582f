package isa

import (
	"bytes"
	"strconv"
)

// Patterns of the strings in a program (ECMA 262). The decoder is the authority; a test
// compares the two.
const (
	idPattern       = "^[a-z0-9-]{1,64}$"
	labelPattern    = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
	tokenPattern    = "^[A-Za-z0-9._:-]{1,128}$"
	selectorPattern = "^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
	durationPattern = "^([0-9]+(\\.[0-9]*)?(ns|us|ms|s|m|h))+$"
)

// Schema returns the JSON Schema (draft 2020-12) of the JSON and YAML spellings, with a
// final newline. It describes the form only; references, orders and limits of policy are
// for Validate.
func Schema() []byte {
	root := object(
		property{"id", definition("id"), true},
		property{"epoch", definition("token"), false},
		property{"deadline", definition("duration"), false},
		property{"steps", array(definition("step"), MaxSteps), true},
		property{"verify", array(definition("check"), MaxSteps), false},
	)
	root.Kids = append([]Node{
		str("$schema", "https://json-schema.org/draft/2020-12/schema"),
		str("$id", "https://sluicemesh.io/schemas/v1alpha1/plan.schema.json"),
		str("title", "Sluice plan"),
		str("description", "A program of the seven-action instruction set; see docs/isa.md."),
	}, root.Kids...)
	root.Kids = append(root.Kids, named("$defs", definitions()))
	var out bytes.Buffer
	indent(&out, &root, 0)
	out.WriteByte('\n')
	return out.Bytes()
}

// property is a field of an object.
type property struct {
	name     string
	schema   Node
	required bool
}

func definitions() Node {
	defs := Node{Kind: Object}
	add := func(name string, n Node) { defs.Kids = append(defs.Kids, named(name, n)) }
	add("id", pattern(idPattern))
	add("service", pattern("^"+labelPattern+"/"+labelPattern+"$"))
	add("token", pattern(tokenPattern))
	add("selector", pattern(selectorPattern))
	add("duration", pattern(durationPattern))
	add("check", object(property{"service", definition("service"), true}, property{"for", definition("duration"),
		true}))
	add("target", targetSchema())
	add("step", stepSchema())
	for _, kind := range actions() {
		add(string(kind), object(operandSchemas(kind)...))
	}
	return defs
}

func stepSchema() Node {
	properties := []property{{"id", definition("id"), true}, {"after", array(definition("id"), MaxSteps), false}}
	one := Node{Kind: List}
	for _, kind := range actions() {
		properties = append(properties, property{string(kind), definition(string(kind)), false})
		one.Kids = append(one.Kids, Node{Kind: Object, Kids: []Node{named("required", textList(string(kind)))}})
	}
	step := object(properties...)
	step.Kids = append(step.Kids, named("oneOf", one))
	return step
}

func targetSchema() Node {
	target := object(
		property{"service", definition("service"), false},
		property{"instance", pattern("^" + labelPattern + "$"), false},
		property{"uid", definition("token"), false},
		property{"uids", array(definition("token"), MaxExpandedSteps), false},
		property{"zone", definition("selector"), false},
		property{"version", definition("selector"), false},
		property{"group", array(definition("service"), MaxGroup), false},
	)
	one := Node{Kind: List, Kids: []Node{
		{Kind: Object, Kids: []Node{named("required", textList("service"))}},
		{Kind: Object, Kids: []Node{named("required", textList("group"))}},
	}}
	target.Kids = append(target.Kids, named("oneOf", one))
	return target
}

// operandSchemas lists the operands of an action; the decoder has the same.
func operandSchemas(kind Kind) []property {
	target := property{"target", definition("target"), true}
	drain := property{"drain", definition("id"), true}
	caller := property{"caller", definition("service"), false}
	deadline := property{"deadline", definition("duration"), false}
	lease := property{"lease", definition("duration"), false}
	threshold := func(name string) property { return property{name, integer(1, MaxThreshold), false} }
	switch kind {
	case KindRestart:
		drain.required = false
		return []property{target, {"mode", enum("rolling", "replace", "in-place"), false}, drain, deadline}
	case KindDrain:
		return []property{target, {"share", integer(1, 100), false}, {"to", definition("service"), false},
			{"onEmpty", enum("hold", "shed"), false}, {"streams", enum("wait", "ask", "cut", "refuse"),
				false}, deadline, lease}
	case KindRestoreTraffic:
		return []property{drain, {"ramp", definition("duration"), false}}
	case KindCircuitBreak:
		return []property{target, caller, threshold("maxRequests"), threshold("maxConnections"),
			threshold("maxPending"),
			threshold("maxRetries"), threshold("consecutive5xx"), lease}
	case KindRateLimit:
		rate := Node{Kind: Object, Kids: []Node{str("type", "number"), num("minimum", 0), num("maximum", MaxPerSecond)}}
		return []property{target, caller, {"perSecond", rate, true}, threshold("burst"), lease}
	case KindScale:
		return []property{target, {"replicas", integer(0, MaxReplicas), true}}
	case KindRollbackConfig:
		object := pattern("^" + labelPattern + "/" + labelPattern + "/" + labelPattern + "$")
		return []property{{"object", object, true}, {"revision", definition("token"), true}}
	}
	return []property{drain, {"until", enum("restore", "lease"), true}}
}

func object(properties ...property) Node {
	fields, required := Node{Kind: Object}, Node{Kind: List}
	for _, p := range properties {
		fields.Kids = append(fields.Kids, named(p.name, p.schema))
		if p.required {
			required.Kids = append(required.Kids, Node{Kind: String, Text: p.name})
		}
	}
	out := Node{Kind: Object, Kids: []Node{str("type", "object"), named("additionalProperties", Node{Kind: Bool,
		Text: "false"})}}
	if len(required.Kids) > 0 {
		out.Kids = append(out.Kids, named("required", required))
	}
	out.Kids = append(out.Kids, named("properties", fields))
	return out
}

func array(items Node, most int) Node {
	return Node{Kind: Object, Kids: []Node{str("type", "array"), num("maxItems", int64(most)), named("items", items)}}
}

func pattern(expression string) Node {
	return Node{Kind: Object, Kids: []Node{str("type", "string"), str("pattern", expression)}}
}

func enum(words ...string) Node {
	return Node{Kind: Object, Kids: []Node{named("enum", textList(words...))}}
}

func integer(least, most int64) Node {
	return Node{Kind: Object, Kids: []Node{str("type", "integer"), num("minimum", least), num("maximum", most)}}
}

func definition(name string) Node {
	return Node{Kind: Object, Kids: []Node{str("$ref", "#/$defs/"+name)}}
}

func textList(texts ...string) Node {
	out := Node{Kind: List}
	for _, text := range texts {
		out.Kids = append(out.Kids, Node{Kind: String, Text: text})
	}
	return out
}

func str(name, text string) Node { return Node{Kind: String, Name: name, Text: text} }

func num(name string, n int64) Node {
	return Node{Kind: Number, Name: name, Text: strconv.FormatInt(n, 10)}
}

func named(name string, n Node) Node {
	n.Name = name
	return n
}

// indent writes n over several lines; what has no inner object stays on one.
func indent(out *bytes.Buffer, n *Node, depth int) {
	if flat(n) {
		out.Write(appendNode(nil, n))
		return
	}
	opening, closing := byte('{'), byte('}')
	if n.Kind == List {
		opening, closing = '[', ']'
	}
	out.WriteByte(opening)
	for i := range n.Kids {
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteByte('\n')
		out.Write(bytes.Repeat([]byte("  "), depth+1))
		if n.Kind == Object {
			out.Write(appendName(nil, n.Kids[i].Name))
			out.WriteByte(' ')
		}
		indent(out, &n.Kids[i], depth+1)
	}
	out.WriteByte('\n')
	out.Write(bytes.Repeat([]byte("  "), depth))
	out.WriteByte(closing)
}

// flat reports whether n is short enough for one line.
func flat(n *Node) bool {
	return n.Kind != Object && n.Kind != List || len(appendNode(nil, n)) <= 100
}
