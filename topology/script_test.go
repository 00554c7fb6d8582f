package topology

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/sluicemesh/sluice/mesh"
)

// script drives one graph through a file of testdata. Times are seconds since zero.
//
//	world                     service SERVICE [instances=N] [down=NAME,...] [versions=V,...] [zones=Z,...] [p99=DUR] [errors=SHARE]
//	                          upstream CALLER CALLEE [sticky]; gateway NAME SERVICE
//	undeclare                 registers the same world without upstreams
//	sticky CALLER CALLEE      learned sticky mark
//	calls from= to=           CALLER CALLEE each=N [errors=N] [latency=DUR] [source=] [instance=]: a second
//	group SERVICE onset= [at=] [others=a,b]
//	planned SERVICES at=
//	snapshot at=
type script struct {
	graph *Graph
	world *mesh.World
	epoch string
}

const scriptZero = 1_700_000_000

func second(s int) time.Time { return time.Unix(scriptZero+int64(s), 0) }

func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		s := &script{graph: NewGraph(), world: &mesh.World{}}
		datadriven.RunTest(t, path, s.run)
	})
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "world":
		s.declareWorld(t, d.Input)
		s.graph.Register(s.world)
		return ""
	case "undeclare":
		bare := &mesh.World{}
		for _, service := range s.world.Services {
			service.Upstreams = nil
			bare.Services = append(bare.Services, service)
		}
		for _, gateway := range s.world.Gateways {
			bare.Gateways = append(bare.Gateways, mesh.Gateway{Name: gateway.Name})
		}
		s.graph.Register(bare)
		return ""
	case "sticky":
		s.graph.MarkSticky(mesh.Service(d.CmdArgs[0].Key), mesh.Service(d.CmdArgs[1].Key))
		return ""
	case "calls":
		s.calls(t, d)
		return ""
	case "group":
		return s.group(t, d)
	case "planned":
		group := s.graph.Snapshot(second(number(t, d, "at"))).Planned(names(d.CmdArgs[0].Key))
		return describe(&group)
	case "snapshot":
		return s.snapshot(t, d)
	}
	t.Fatalf("unknown command %q", d.Cmd)
	return ""
}

// declareWorld reads the lines of a world.
func (s *script) declareWorld(t *testing.T, input string) {
	s.world = &mesh.World{}
	for line := range strings.Lines(input) {
		words := strings.Fields(line)
		switch words[0] {
		case "service":
			s.world.Services = append(s.world.Services, service(t, words[1:]))
		case "gateway":
			gateway := mesh.Gateway{Name: mesh.Service(words[1]), Service: mesh.Service(words[2])}
			s.world.Gateways = append(s.world.Gateways, gateway)
		case "upstream":
			up := mesh.Upstream{Service: mesh.Service(words[2]), Sticky: len(words) > 3}
			caller := s.world.Find(mesh.Service(words[1]))
			caller.Upstreams = append(caller.Upstreams, up)
		}
	}
}

// service reads one service line; its instances are NAME-0 ... with their names as UID.
func service(t *testing.T, words []string) mesh.ServiceState {
	state := mesh.ServiceState{Name: mesh.Service(words[0])}
	count, down := 1, []string{}
	var versions, zones []string
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		var err error
		switch key {
		case "instances":
			_, err = fmt.Sscan(value, &count)
		case "down":
			down = strings.Split(value, ",")
		case "versions":
			versions = strings.Split(value, ",")
		case "zones":
			zones = strings.Split(value, ",")
		case "p99":
			state.Objective.P99, err = time.ParseDuration(value)
		case "errors":
			_, err = fmt.Sscan(value, &state.Objective.Errors)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range count {
		name := fmt.Sprintf("%s-%d", state.Name.Name(), i)
		instance := mesh.Instance{Name: name, State: mesh.Ready}
		instance.Ref = mesh.Ref{Service: state.Name, UID: mesh.UID(name)}
		if i < len(versions) {
			instance.Version = versions[i]
		}
		if i < len(zones) {
			instance.Zone = zones[i]
		}
		if slices.Contains(down, name) {
			instance.State = mesh.Stopped
		}
		state.Instances = append(state.Instances, instance)
	}
	return state
}

// calls observes the same traffic in each second of [from, to).
func (s *script) calls(t *testing.T, d *datadriven.TestData) {
	for at := number(t, d, "from"); at < number(t, d, "to"); at++ {
		s.graph.Series().Advance(second(at))
		for line := range strings.Lines(d.Input) {
			s.observe(t, strings.Fields(line), second(at))
		}
	}
}

func (s *script) observe(t *testing.T, words []string, at time.Time) {
	call := Call{Caller: mesh.Service(words[0]), Callee: mesh.Service(words[1]), At: at, Source: AccessLog, Latency: 5 * time.Millisecond}
	if call.Caller == "-" {
		call.Caller = ""
	}
	each, errors := 0, 0
	for _, word := range words[2:] {
		key, value, _ := strings.Cut(word, "=")
		var err error
		switch key {
		case "each":
			_, err = fmt.Sscan(value, &each)
		case "errors":
			_, err = fmt.Sscan(value, &errors)
		case "latency":
			call.Latency, err = time.ParseDuration(value)
		case "instance":
			call.Instance = value
		case "source":
			call.Source = map[string]Source{"span": Span, "log": AccessLog, "tcp": AccessLog}[value]
			call.Connection = value == "tcp"
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range each {
		call.Failed = i < errors
		s.graph.Observe(call)
	}
}

func (s *script) group(t *testing.T, d *datadriven.TestData) string {
	symptom := Symptom{Service: mesh.Service(d.CmdArgs[0].Key), Onset: second(number(t, d, "onset"))}
	if d.HasArg("others") {
		var list string
		d.ScanArgs(t, "others", &list)
		symptom.Others = names(list)
	}
	group := s.graph.Snapshot(second(number(t, d, "at"))).Group(symptom)
	return describe(&group)
}

func (s *script) snapshot(t *testing.T, d *datadriven.TestData) string {
	snap := s.graph.Snapshot(second(number(t, d, "at")))
	verdict := "changed"
	if snap.Epoch() == s.epoch {
		verdict = "same"
	}
	s.epoch = snap.Epoch()
	var out strings.Builder
	fmt.Fprintf(&out, "epoch %s, %d services, %d requests\n", verdict, len(snap.Services()), snap.Requests())
	for _, e := range snap.Edges() {
		fmt.Fprintf(&out, "%s -> %s: %d calls, %d errors, %s", e.Caller, e.Callee, e.Calls, e.Errors, strings.Join(e.Sources.Names(), "+"))
		if e.Sticky {
			out.WriteString(", sticky")
		}
		out.WriteString("\n")
	}
	if q := s.graph.Quarantine(); q.Total() > 0 {
		fmt.Fprintf(&out, "quarantine %+v\n", q)
	}
	return out.String()
}

// describe prints a group.
func describe(g *Group) string {
	var out strings.Builder
	for _, suspect := range g.Suspects {
		fmt.Fprintf(&out, "suspect %s %s %s %.2f: %s\n", suspect.Level, suspect.Service,
			suspect.Instance+suspect.Version+suspect.Zone, suspect.Score, suspect.Reason)
	}
	for _, member := range g.Members {
		fmt.Fprintf(&out, "member %s %s", member.Level, member.Service)
		for _, e := range member.Why {
			fmt.Fprintf(&out, " (%s -> %s)", e.Caller.Name(), e.Callee.Name())
		}
		out.WriteString("\n")
	}
	fmt.Fprintf(&out, "restart set %v\ndrain   %v\nrestart %v\nrestore %v\n", g.RestartSet, g.DrainOrder, g.RestartOrder, g.RestoreOrder)
	fmt.Fprintf(&out, "blast %v, fan-in %d, drain required %v\n", g.BlastRadius, g.FanIn, g.DrainRequired)
	fmt.Fprintf(&out, "missed <= %.4f of %d", g.Missed.Upper95, g.Missed.N)
	return out.String()
}

func names(list string) []mesh.Service {
	var services []mesh.Service
	for name := range strings.SplitSeq(list, ",") {
		services = append(services, mesh.Service(name))
	}
	return services
}

func number(t *testing.T, d *datadriven.TestData, key string) (n int) {
	d.ScanArgs(t, key, &n)
	return n
}
