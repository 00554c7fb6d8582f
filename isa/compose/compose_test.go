package compose_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/isa/compose"
	"github.com/sluicemesh/sluice/mesh"
)

// TestScripts composes programs for written groups. Each line names a service:
//
//	NAME [instances=N] [tcp] [all-fail] [component=N] [callers=A,B] [startup=DUR]
//
// and "set" lists the restart set, callers first. The program that comes out is printed
// and checked by isa's own checker; its faults follow, if there are any.
func TestScripts(t *testing.T) {
	datadriven.RunTest(t, "testdata/compose.txt", func(t *testing.T, d *datadriven.TestData) string {
		var orders compose.Orders
		style := compose.Style{}
		facts := map[mesh.Service]compose.Facts{}
		for line := range strings.Lines(d.Input) {
			words := strings.Fields(line)
			if words[0] == "set" {
				orders.RestartSet = services(words[1:])
				continue
			}
			facts[mesh.Service(words[0])] = fact(t, words[1:])
		}
		for _, argument := range d.CmdArgs {
			switch argument.Key {
			case "mode":
				style.Mode = isa.Mode(argument.Vals[0])
			case "to":
				style.To = mesh.Service(argument.Vals[0])
			case "on-empty":
				style.OnEmpty = mesh.OnEmpty(argument.Vals[0])
			case "streams":
				style.Streams = mesh.StreamPolicy(argument.Vals[0])
			}
		}
		orders.Drain = orders.RestartSet
		for i := range orders.RestartSet {
			last := orders.RestartSet[len(orders.RestartSet)-1-i]
			orders.Restart, orders.Restore = append(orders.Restart, last), append(orders.Restore, last)
		}
		program := style.Restart("x", orders, facts)
		if d.Cmd == "drain" {
			service := orders.RestartSet[0]
			program = style.Drain("x", isa.Target{Service: service}, facts[service])
		}
		return string(isa.FormatText(program)) + checked(program)
	})
}

func services(names []string) []mesh.Service {
	var out []mesh.Service
	for _, name := range names {
		out = append(out, mesh.Service(name))
	}
	return out
}

func fact(t *testing.T, words []string) compose.Facts {
	t.Helper()
	facts := compose.Facts{Protocol: mesh.HTTP, Instances: 1}
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		var err error
		switch key {
		case "tcp":
			facts.Protocol = mesh.TCP
		case "all-fail":
			facts.AllFail = true
		case "instances":
			facts.Instances, err = strconv.Atoi(value)
		case "component":
			facts.Component, err = strconv.Atoi(value)
		case "callers":
			facts.Callers = services(strings.Split(value, ","))
		case "startup":
			facts.Startup, err = time.ParseDuration(value)
		default:
			t.Fatalf("unknown word %q", word)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return facts
}

func checked(program isa.Program) string {
	out := ""
	for _, fault := range isa.Validate(program, nil) {
		out += fmt.Sprintf("FAULT %s\n", fault.Error())
	}
	return out
}

// Whatever the group, what comes out is well formed: every drain consumed once, every
// restart inside its drain, the orders kept, and the same input gives the same program.
func TestEveryProgramIsWellFormed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "services")
		facts := map[mesh.Service]compose.Facts{}
		var all, set []mesh.Service
		for i := range n {
			name := mesh.Service(fmt.Sprintf("shop/s%02d", i))
			f := compose.Facts{Protocol: mesh.HTTP, Instances: rapid.IntRange(0, 3).Draw(t, "instances")}
			if rapid.Bool().Draw(t, "tcp") {
				f.Protocol = mesh.TCP
			}
			for _, caller := range all { // callers come first: no cycle
				if rapid.IntRange(0, 3).Draw(t, "calls") == 0 {
					f.Callers = append(f.Callers, caller)
				}
			}
			facts[name] = f
			all = append(all, name)
			if rapid.IntRange(0, 2).Draw(t, "member") == 0 {
				set = append(set, name)
			}
		}
		orders := compose.Orders{RestartSet: set, Drain: set}
		for i := range set {
			orders.Restart = append(orders.Restart, set[len(set)-1-i])
		}
		orders.Restore = orders.Restart
		program := compose.Restart("x", orders, facts)
		env := &isa.Env{GraphSize: 1000, RestartSet: set, DrainOrder: all}
		for i, name := range all {
			env.RestartOrder = append(env.RestartOrder, all[len(all)-1-i])
			state := mesh.ServiceState{Name: name, Protocol: facts[name].Protocol}
			for k := range facts[name].Instances {
				state.Instances = append(state.Instances, mesh.Instance{
					Ref: mesh.Ref{Service: name, UID: mesh.UID(fmt.Sprintf("%s-%d", name.Name(), k))}, State: mesh.Ready,
				})
			}
			env.Services = append(env.Services, isa.ServiceFacts{ServiceState: state, Callers: facts[name].Callers, Takes: true})
		}
		env.RestoreOrder = env.RestartOrder
		for _, fault := range isa.Validate(program, env) {
			switch fault.Code {
			case isa.CodeBlastRadius: // policy, not form
			default:
				if len(set) > 0 {
					t.Fatalf("%s\n%s", fault.Error(), isa.FormatText(program))
				}
			}
		}
		if again := compose.Restart("x", orders, facts); string(isa.FormatText(again)) != string(isa.FormatText(program)) {
			t.Fatal("another program for the same input")
		}
	})
}
