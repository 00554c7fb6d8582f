package isa

import (
	"strconv"
	"strings"
)

// form is how an action is spelled in compact text.
type form struct {
	word     string // the action's keyword
	kind     Kind
	first    string // field of the operand that follows the keyword
	operands []operand
}

// operand is one further operand: a keyword and its value, one of some words that
// stand for themselves, or a value with a suffix.
type operand struct {
	field   string
	word    string   // keyword, "" if it has none
	flags   []string // words that stand for themselves
	suffix  string   // of a number: "%" or "/s"
	number  bool     // the value after word is a number
	grammar string   // the value's nonterminal in docs/isa.md
}

func (o operand) kind() NodeKind {
	if o.number {
		return Number
	}
	return String
}

// forms is the grammar of actions; docs/isa.md is generated from it.
func forms() []form {
	deadline := operand{field: "deadline", word: "deadline", grammar: "duration"}
	lease := operand{field: "lease", word: "lease", grammar: "duration"}
	from := operand{field: "caller", word: "from", grammar: "service"}
	return []form{
		{"restart", KindRestart, "target", []operand{
			{field: "mode", flags: []string{"rolling", "replace", "in-place"}},
			{field: "drain", word: "with", grammar: `( id | "none" )`}, deadline,
		}},
		{"drain", KindDrain, "target", []operand{
			{field: "share", suffix: "%", grammar: "number"},
			{field: "to", word: "to", grammar: "service"},
			{field: "onEmpty", flags: []string{"hold", "shed"}},
			{field: "streams", word: "streams", grammar: `( "wait" | "ask" | "cut" | "refuse" )`}, deadline, lease,
		}},
		{"restore", KindRestoreTraffic, "drain", []operand{{field: "ramp", word: "ramp", grammar: "duration"}}},
		{"break", KindCircuitBreak, "target", []operand{from,
			{field: "maxRequests", word: "requests", number: true, grammar: "number"},
			{field: "maxConnections", word: "connections", number: true, grammar: "number"},
			{field: "maxPending", word: "pending", number: true, grammar: "number"},
			{field: "maxRetries", word: "retries", number: true, grammar: "number"},
			{field: "consecutive5xx", word: "5xx", number: true, grammar: "number"}, lease,
		}},
		{"limit", KindRateLimit, "target", []operand{from,
			{field: "perSecond", suffix: "/s", grammar: "decimal"},
			{field: "burst", word: "burst", number: true, grammar: "number"}, lease,
		}},
		{"scale", KindScale, "target", []operand{{field: "replicas", word: "to", number: true, grammar: "number"}}},
		{"rollback", KindRollbackConfig, "object", []operand{{field: "revision", word: "to", grammar: "token"}}},
		{"await", KindAwait, "drain", []operand{{field: "until", word: "until", grammar: `( "restore" | "lease" )`}}},
	}
}

func formOf(word string) *form {
	for _, f := range forms() {
		if f.word == word {
			return &f
		}
	}
	return nil
}

func formWords() []string {
	var words []string
	for _, f := range forms() {
		words = append(words, f.word)
	}
	return words
}

// operandRemedy lists what could stand there.
func operandRemedy(known []operand) string {
	var words []string
	for _, o := range known {
		switch {
		case o.word != "":
			words = append(words, o.word+" ...")
		case o.suffix != "":
			words = append(words, "NUMBER"+o.suffix)
		}
		words = append(words, o.flags...)
	}
	return "expected: " + strings.Join(words, ", ")
}

func itemPath(list string, i int) string { return list + "[" + strconv.Itoa(i) + "]" }
