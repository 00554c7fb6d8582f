// Package rules holds the import rules of the module (imports.txt) and the test that
// enforces them. It is not for anything that ships.
package rules

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sluicemesh/sluice"

// rule is one line of imports.txt.
type rule struct {
	pure    bool
	allowed []string
}

// impure are the standard packages that pure code must not import.
var impure = []string{
	"context", "io/fs", "log", "log/slog", "math/rand", "math/rand/v2", "net", "net/http",
	"os", "os/exec", "sync", "sync/atomic", "runtime",
}

// clock are the members of package time that pure code must not use.
var clock = []string{
	"Now", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Since", "Until",
}

func TestEveryDirectoryKeepsItsImportRule(t *testing.T) {
	rules := readRules(t)
	used := map[string]bool{}
	for _, p := range listPackages(t) {
		r, ok := rules[p.dir]
		if !ok {
			t.Errorf("%s: no rule in internal/rules/imports.txt: add one that says what it may import", p.dir)
			continue
		}
		used[p.dir] = true
		for _, imported := range p.imports {
			checkImport(t, p.dir, r, imported)
		}
		if r.pure {
			checkClock(t, p.dir, p.files)
		}
	}
	for dir := range rules {
		if !used[dir] {
			if _, err := os.Stat(filepath.Join("..", "..", dir)); err == nil {
				continue // exists, but has no Go file for this build
			}
			t.Errorf("%s: rule for a directory that does not exist", dir)
		}
	}
}

func checkImport(t *testing.T, dir string, r rule, imported string) {
	t.Helper()
	if rest, ours := strings.CutPrefix(imported, module+"/"); ours {
		if !r.allows(rest) {
			t.Errorf("%s imports %s: not in its rule; depend on an inner package, or change the rule and say why", dir, rest)
		}
		return
	}
	if r.pure && slices.Contains(impure, imported) {
		t.Errorf("%s is pure and imports %s: pass the value in, or move the code to an adapter", dir, imported)
	}
}

func (r rule) allows(dir string) bool {
	for _, a := range r.allowed {
		tree, whole := strings.CutSuffix(a, "/...")
		if dir == a || whole && (dir == tree || strings.HasPrefix(dir, tree+"/")) {
			return true
		}
	}
	return false
}

func checkClock(t *testing.T, dir string, files []string) {
	t.Helper()
	for _, name := range files {
		path := filepath.Join("..", "..", dir, name)
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clock, n.Sel.Name) {
					t.Errorf("%s: pure code uses time.%s", fset.Position(n.Pos()), n.Sel.Name)
				}
			case *ast.GoStmt:
				t.Errorf("%s: pure code starts a goroutine", fset.Position(n.Pos()))
			}
			return true
		})
	}
}

// listed is a package as the go command sees it, without its tests.
type listed struct {
	dir     string
	imports []string
	files   []string
}

func listPackages(t *testing.T) []listed {
	t.Helper()
	format := `{{.ImportPath}}|{{join .Imports ","}}|{{join .GoFiles ","}}`
	cmd := exec.Command("go", "list", "-e", "-f", format, "./...")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var list []listed
	for line := range strings.Lines(string(out)) {
		part := strings.Split(strings.TrimSpace(line), "|")
		list = append(list, listed{
			dir:     strings.TrimPrefix(part[0], module+"/"),
			imports: strings.Split(part[1], ","),
			files:   strings.FieldsFunc(part[2], func(r rune) bool { return r == ',' }),
		})
	}
	return list
}

func readRules(t *testing.T) map[string]rule {
	t.Helper()
	f, err := os.Open("imports.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rules := map[string]rule{}
	scanner := bufio.NewScanner(f)
	for scanner.Scan() {
		words := strings.Fields(scanner.Text())
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if len(words) < 3 || words[1] != "pure" && words[1] != "-" {
			t.Fatalf("imports.txt: want DIRECTORY pure|- IMPORTS...: %q", scanner.Text())
		}
		rules[words[0]] = rule{pure: words[1] == "pure", allowed: words[2:]}
	}
	return rules
}
