package isa_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

var update = flag.Bool("update", false, "rewrite scripts and generated documents")

func TestMain(m *testing.M) {
	flag.Parse()
	if *update {
		if err := flag.Set("rewrite", "true"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// TestScripts runs testdata/*.txt. Commands:
//
//	env                      sets the world of the commands that follow, one service a line
//	parse                    the program in JSON, or its faults
//	format                   the program in text, or its faults
//	check [env=none]         the faults of the program against the world
//	expand                   the expanded program in text, or its faults
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, path := range scripts {
		t.Run(filepath.Base(path), func(t *testing.T) { runScript(t, path) })
	}
}

func runScript(t *testing.T, path string) {
	var env *isa.Env
	datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "env":
			env = parseEnv(t, d.Input)
			return "ok\n"
		case "parse":
			return scriptParse(t, d.Input, isa.FormatJSON)
		case "format":
			return scriptParse(t, d.Input, isa.FormatText)
		case "check":
			if d.HasArg("env") {
				return scriptCheck(d.Input, nil)
			}
			return scriptCheck(d.Input, env)
		case "expand":
			return scriptExpand(d.Input, env)
		}
		t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
		return ""
	})
}

// scriptParse also checks that both spellings bring the program back.
func scriptParse(t *testing.T, src string, format func(isa.Program) []byte) string {
	t.Helper()
	p, _, faults := isa.Parse([]byte(src))
	if len(faults) > 0 {
		return listFaults(faults)
	}
	for _, f := range []func(isa.Program) []byte{isa.FormatJSON, isa.FormatText} {
		back, _, faults := isa.Parse(f(p))
		if len(faults) > 0 || !reflect.DeepEqual(p, back) {
			t.Errorf("no round trip through\n%s%v", f(p), faults)
		}
	}
	return string(format(p))
}

func scriptCheck(src string, env *isa.Env) string {
	p, positions, faults := isa.Parse([]byte(src))
	if len(faults) == 0 {
		faults = isa.Validate(p, env)
		positions.Place(faults)
	}
	return listFaults(faults)
}

func scriptExpand(src string, env *isa.Env) string {
	p, positions, faults := isa.Parse([]byte(src))
	if len(faults) == 0 {
		p, faults = isa.Expand(p, env)
		positions.Place(faults)
	}
	if len(faults) == 0 {
		return string(isa.FormatText(p)) + listFaults(isa.ValidateExpanded(p, env))
	}
	return listFaults(faults)
}

func listFaults(faults []isa.Fault) string {
	if len(faults) == 0 {
		return "ok\n"
	}
	var out strings.Builder
	for _, f := range faults {
		fmt.Fprintln(&out, f.Error())
	}
	return out.String()
}

// parseEnv reads one service a line: "shop/cart instances=2 callers=a/b,c/d takes ...", or
// "order a/b c/d" (restart order; drains go the other way), or "graph 500".
func parseEnv(t *testing.T, input string) *isa.Env {
	t.Helper()
	env := &isa.Env{}
	for line := range strings.Lines(input) {
		words := strings.Fields(line)
		switch words[0] {
		case "graph":
			env.GraphSize = number(t, words[1])
		case "order":
			env.RestartOrder = list(strings.Join(words[1:], ","))
			env.RestoreOrder = env.RestartOrder
			env.DrainOrder = slices.Clone(env.RestartOrder)
			slices.Reverse(env.DrainOrder)
		default:
			env.Services = append(env.Services, parseFacts(t, words))
		}
	}
	slices.SortFunc(env.Services, func(a, b isa.ServiceFacts) int {
		return strings.Compare(string(a.Name),
			string(b.Name))
	})
	env.GraphSize = max(env.GraphSize, len(env.Services))
	return env
}

func parseFacts(t *testing.T, words []string) isa.ServiceFacts {
	t.Helper()
	f := isa.ServiceFacts{ServiceState: mesh.ServiceState{Name: mesh.Service(words[0])}, Takes: true}
	instances, states, zones := 1, []string{}, []string{}
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "instances":
			instances = number(t, value)
		case "states":
			states = strings.Split(value, ",")
		case "zones":
			zones = strings.Split(value, ",")
		case "callers":
			f.Callers = list(value)
			f.FanIn = max(f.FanIn, len(f.Callers))
		case "component":
			f.Component = list(value)
		case "sticky":
			f.StickyCallers = list(value)
		case "fanin":
			f.FanIn = number(t, value)
		case "rate":
			f.Rate = float64(number(t, value))
		case "concurrency":
			f.Concurrency = float64(number(t, value))
		case "quorum":
			f.Quorum = number(t, value)
		case "least":
			f.MinAvailable = number(t, value)
		case "protected":
			f.Protected = true
		case "idle":
			f.Takes = false
		default:
			t.Fatalf("unknown fact %q", word)
		}
	}
	f.Instances = instancesOf(f.Name, instances, states, zones)
	f.Replicas = instances
	return f
}

func instancesOf(service mesh.Service, n int, states, zones []string) []mesh.Instance {
	out := make([]mesh.Instance, n)
	for i := range out {
		name := fmt.Sprintf("%s-%d", service.Name(), i)
		out[i] = mesh.Instance{Name: name, Ref: mesh.Ref{Service: service, UID: mesh.UID("u-" + name)},
			State: mesh.Ready}
		if len(states) > 0 {
			out[i].State = mesh.InstanceState(states[i%len(states)])
		}
		if len(zones) > 0 {
			out[i].Zone = zones[i%len(zones)]
		}
	}
	return out
}

func list(value string) []mesh.Service {
	var out []mesh.Service
	for _, name := range strings.Split(value, ",") {
		out = append(out, mesh.Service(name))
	}
	return out
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
