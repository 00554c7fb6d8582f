package isa

import (
	"fmt"
	"strings"
)

// Grammar returns the grammar of the compact text in EBNF (ISO 14977 without commas).
func Grammar() string {
	var out strings.Builder
	rule := func(name, body string) { fmt.Fprintf(&out, "%-9s = %s ;\n", name, body) }
	rule("program", `plan { step | verify }`)
	rule("plan", `"plan" id { "epoch" token | "deadline" duration } newline`)
	rule("step", `id "=" action [ "after" id { "," id } ] newline`)
	rule("verify", `"verify" service "for" duration newline`)
	var names []string
	for _, f := range forms() {
		names = append(names, f.word)
	}
	rule("action", strings.Join(names, " | "))
	for _, f := range forms() {
		rule(f.word, formGrammar(f))
	}
	rule("target", `service [ "#" label | "@" token | subset [ "@[" token { "," token } "]" ] ]`+
		"\n          | \"[\" service { \",\" service } \"]\"")
	rule("subset", `"{" ( "zone" | "version" ) "=" value [ "," ( "zone" | "version" ) "=" value ] "}"`)
	rule("service", `label "/" label`)
	rule("object", `label "/" label "/" label`)
	return out.String()
}

// formGrammar spells one action; what must be there stands outside of braces.
func formGrammar(f form) string {
	must := fmt.Sprintf("%q %s", f.word, map[string]string{"target": "target", "drain": "id",
		"object": "object"}[f.first])
	var may []string
	for _, o := range f.operands {
		switch o.field {
		case "perSecond", "replicas", "revision", "until":
			must += " " + operandGrammar(o)
		default:
			may = append(may, operandGrammar(o))
		}
	}
	if len(may) == 0 {
		return must
	}
	return must + "\n            { " + strings.Join(may, "\n            | ") + " }"
}

func operandGrammar(o operand) string {
	switch {
	case o.suffix != "":
		return fmt.Sprintf("%s %q", o.grammar, o.suffix)
	case o.word != "":
		return fmt.Sprintf("%q %s", o.word, o.grammar)
	}
	words := make([]string, len(o.flags))
	for i, flag := range o.flags {
		words[i] = fmt.Sprintf("%q", flag)
	}
	return strings.Join(words, " | ")
}

// EffectTable returns the effect table in Markdown.
func EffectTable() string {
	out := "| action | text | operands | effect class | write set | undone by |\n|---|---|---|---|---|---|\n"
	for _, e := range Effects() {
		out += fmt.Sprintf("| `%s` | `%s` | %s | %s | %s | %s |\n", e.Kind, e.Word, e.Operands, e.Class,
			e.Writes, e.UndoneBy)
	}
	return out
}

// CodeTable returns the enumeration of codes in Markdown.
func CodeTable() string {
	out := "| code | verdict as a rule | meaning |\n|---|---|---|\n"
	for _, m := range Meanings() {
		out += fmt.Sprintf("| `%s` | %s | %s |\n", m.Code, m.Verdict, m.Text)
	}
	return out
}
