package isa_test

import (
	stdjson "encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/sluicemesh/sluice/isa"
)

// TestDocument keeps the generated parts of docs/isa.md and the schema fresh; -update
// rewrites them.
func TestDocument(t *testing.T) {
	const page, schema = "../docs/isa.md", "../docs/plan.schema.json"
	old, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text := string(old)
	for name, body := range map[string]string{
		"grammar": "```ebnf\n" + isa.Grammar() + "```\n", "effects": isa.EffectTable(), "codes": isa.CodeTable(),
	} {
		marked := regexp.MustCompile(`(?s)(<!-- generated: ` + name + ` [^\n]*-->\n).*?(<!-- end -->)`)
		if !marked.MatchString(text) {
			t.Fatalf("%s has no place for %s", page, name)
		}
		text = marked.ReplaceAllStringFunc(text, func(part string) string {
			head, _, _ := strings.Cut(part, "\n")
			return head + "\n" + body + "<!-- end -->"
		})
	}
	fresh(t, page, text)
	fresh(t, schema, string(isa.Schema()))
}

func fresh(t *testing.T, path, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s is stale (%v): go test ./isa -run TestDocument -update", path, err)
	}
}

// TestDocumentExamples: every example of the page is a valid program.
func TestDocumentExamples(t *testing.T) {
	page, err := os.ReadFile("../docs/isa.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := 0
	for _, block := range strings.Split(string(page), "\n\n") {
		first := strings.TrimSpace(strings.SplitN(block, "\n", 2)[0])
		if !strings.HasPrefix(block, "    ") || !strings.HasPrefix(first, "plan ") && !strings.HasPrefix(first, "{") {
			continue
		}
		src := strings.TrimSpace(strings.ReplaceAll("\n"+block, "\n    ", "\n"))
		p, _, faults := isa.Parse([]byte(src))
		if faults = append(faults, isa.Validate(p, nil)...); len(faults) > 0 {
			t.Errorf("example\n%s\n%s", src, listFaults(faults))
		}
		examples++
	}
	if examples < 6 {
		t.Errorf("only %d examples found", examples)
	}
}

// TestMeanings: every code that is declared is in the enumeration, once.
func TestMeanings(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "code.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]int{}
	for _, m := range isa.Meanings() {
		listed[string(m.Code)]++
	}
	declared := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "Code") {
			return true
		}
		literal, ok := spec.Values[0].(*ast.BasicLit)
		if !ok {
			return true
		}
		declared++
		if code, _ := strconv.Unquote(literal.Value); listed[code] != 1 {
			t.Errorf("code %s is listed %d times", code, listed[code])
		}
		return true
	})
	if declared != len(isa.Meanings()) {
		t.Errorf("%d codes declared, %d listed", declared, len(isa.Meanings()))
	}
}

// TestSchemaFields holds the schema against the decoder: in each object both know the same
// fields, and both demand the same.
func TestSchemaFields(t *testing.T) {
	var schema struct {
		schemaObject
		Defs map[string]schemaObject `json:"$defs"`
	}
	if err := stdjson.Unmarshal(isa.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	compare := func(name, src string, want schemaObject) {
		_, _, faults := isa.ParseJSON([]byte(src))
		fields, missing := map[string]bool{}, map[string]bool{}
		for _, f := range faults {
			if strings.Contains(f.Reason, `"?"`) {
				for _, field := range strings.Split(strings.TrimPrefix(f.Remedy, "fields are "), ", ") {
					fields[field] = true
				}
			}
			if rest, found := strings.CutPrefix(f.Reason, `required field "`); found {
				field, _, _ := strings.Cut(rest, `"`)
				missing[field] = true
			}
		}
		for field := range want.Properties {
			if !fields[field] {
				t.Errorf("%s: the decoder does not know %s", name, field)
			}
			delete(fields, field)
		}
		for _, field := range want.Required {
			if !missing[field] {
				t.Errorf("%s: the decoder does not demand %s", name, field)
			}
			delete(missing, field)
		}
		if len(fields)+len(missing) > 0 {
			t.Errorf("%s: the schema lacks %v, required %v", name, fields, missing)
		}
	}
	compare("program", `{"?":1}`, schema.schemaObject)
	compare("check", `{"id":"p","steps":[],"verify":[{"?":1}]}`, schema.Defs["check"])
	compare("step", `{"id":"p","steps":[{"?":1}]}`, schema.Defs["step"])
	compare("target", `{"id":"p","steps":[{"id":"a","restart":{"target":{"?":1}}}]}`, schema.Defs["target"])
	for _, e := range isa.Effects() {
		src := fmt.Sprintf(`{"id":"p","steps":[{"id":"a","%s":{"?":1}}]}`, e.Kind)
		compare(string(e.Kind), src, schema.Defs[string(e.Kind)])
	}
}

type schemaObject struct {
	Properties map[string]any `json:"properties"`
	Required   []string       `json:"required"`
}
