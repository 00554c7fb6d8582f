package local

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluicemesh/sluice/mesh"
)

// Bounds on the lists of a mesh file.
const (
	maxServices  = 256
	maxArgs      = 1024
	maxUpstreams = 64
	maxVars      = 256
)

// variable is what a shell takes as the name of a variable.
var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)

// file decodes the root.
func (d *decoder) file(root *yaml.Node, file *File) {
	d.fields(root, "", []field{
		{"services", func(n *yaml.Node, p string) {
			d.list(n, p, maxServices, func(n *yaml.Node, p string) {
				file.Services = append(file.Services, d.service(n, p))
			})
			if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
				d.fault(n, p, "is empty", "declare at least one service")
			}
		}},
		{"ingress", func(n *yaml.Node, p string) { file.Ingress = d.ingress(n, p) }},
	}, "services")
}

// service decodes one item of services.
func (d *decoder) service(node *yaml.Node, path string) Spec {
	s := Spec{
		Instances: 1, Protocol: mesh.HTTP, Grace: DefaultGrace,
		Ready: Probe{Timeout: DefaultTimeout, Interval: DefaultInterval},
	}
	d.fields(node, path, []field{
		{"name", func(n *yaml.Node, p string) { s.Name = d.name(n, p) }},
		{"command", func(n *yaml.Node, p string) { s.Command = d.command(n, p) }},
		{"instances", func(n *yaml.Node, p string) { s.Instances = d.whole(n, p, 1, MaxInstances) }},
		{"protocol", func(n *yaml.Node, p string) { s.Protocol = d.protocol(n, p) }},
		{"ready", func(n *yaml.Node, p string) { s.Ready = d.probe(n, p) }},
		{"upstreams", func(n *yaml.Node, p string) { s.Upstreams = d.upstreams(n, p) }},
		{"env", func(n *yaml.Node, p string) { s.Env = d.env(n, p) }},
		{"dir", func(n *yaml.Node, p string) { s.Dir = d.filled(n, p) }},
		{"objective", func(n *yaml.Node, p string) { s.Objective = d.objective(n, p) }},
		{"startup", func(n *yaml.Node, p string) { s.Startup = d.duration(n, p, 1, maxStartup) }},
		{"grace", func(n *yaml.Node, p string) { s.Grace = d.duration(n, p, 0, maxGrace) }},
		{"minAvailable", func(n *yaml.Node, p string) { s.MinAvailable = d.whole(n, p, 0, MaxInstances) }},
		{"quorum", func(n *yaml.Node, p string) { s.Quorum = d.whole(n, p, 0, MaxInstances) }},
		{"protected", func(n *yaml.Node, p string) { s.Protected = d.flag(n, p) }},
	}, "name", "command")
	return s
}

// name decodes NAMESPACE/NAME.
func (d *decoder) name(node *yaml.Node, path string) mesh.Service {
	text, ok := d.text(node, path)
	if !ok {
		return ""
	}
	name, err := mesh.ParseService(text)
	if err != nil {
		d.fault(node, path, err.Error(), "write NAMESPACE/NAME in a-z, 0-9 and '-', such as shop/cart")
		return ""
	}
	if name.Namespace() == mesh.OutsideNamespace {
		d.fault(node, path, "namespace outside is kept for callers outside the mesh", "choose another namespace")
		return ""
	}
	return name
}

// filled decodes a string that is not empty.
func (d *decoder) filled(node *yaml.Node, path string) string {
	text, ok := d.text(node, path)
	if ok && text == "" {
		d.fault(node, path, "is empty", "write a value or remove the field")
	}
	return text
}

// command decodes argv.
func (d *decoder) command(node *yaml.Node, path string) []string {
	var argv []string
	d.list(node, path, maxArgs, func(n *yaml.Node, p string) {
		text, _ := d.text(n, p)
		argv = append(argv, text)
	})
	if node.Kind == yaml.SequenceNode && (len(argv) == 0 || argv[0] == "") {
		d.fault(node, path, "names no program", "write [PROGRAM, ARGUMENT, ...]")
	}
	return argv
}

// protocol decodes http or tcp.
func (d *decoder) protocol(node *yaml.Node, path string) mesh.Protocol {
	text, ok := d.text(node, path)
	protocol := mesh.Protocol(text)
	if ok && protocol != mesh.HTTP && protocol != mesh.TCP {
		d.fault(node, path, quote(text)+" is not a protocol", "write http or tcp; gRPC and websockets are http")
	}
	return protocol
}

// probe decodes ready.
func (d *decoder) probe(node *yaml.Node, path string) Probe {
	probe := Probe{Timeout: DefaultTimeout, Interval: DefaultInterval}
	ways := 0
	ok := d.fields(node, path, []field{
		{"http", func(n *yaml.Node, p string) {
			ways++
			probe.HTTP = d.target(n, p)
		}},
		{"tcp", func(n *yaml.Node, p string) {
			ways++
			if before := len(d.faults); !d.flag(n, p) && len(d.faults) == before {
				d.fault(n, p, "is false", "write tcp: true, or http: /path instead")
			}
		}},
		{"timeout", func(n *yaml.Node, p string) { probe.Timeout = d.duration(n, p, minProbeInterval, maxProbe) }},
		{"interval", func(n *yaml.Node, p string) { probe.Interval = d.duration(n, p, minProbeInterval, maxProbe) }},
	})
	if ok && ways != 1 {
		d.fault(node, path, fmt.Sprintf("has %d of http and tcp, want one", ways), "write {http: /path} or {tcp: true}")
	}
	return probe
}

// target decodes the path of an HTTP probe.
func (d *decoder) target(node *yaml.Node, path string) string {
	text, ok := d.text(node, path)
	if ok && (!strings.HasPrefix(text, "/") || len(text) > 1024 || strings.ContainsFunc(text, notVisible)) {
		d.fault(node, path, quote(text)+" is not a path", "write a path that begins with /, such as /ready")
	}
	return text
}

// notVisible reports whether r may not stand in a request target.
func notVisible(r rune) bool { return r <= ' ' || r > '~' || r == '#' }

// upstreams decodes the declared dependencies, sorted by service.
func (d *decoder) upstreams(node *yaml.Node, path string) []mesh.Upstream {
	var list []mesh.Upstream
	d.list(node, path, maxUpstreams, func(n *yaml.Node, p string) {
		up := mesh.Upstream{Timeout: mesh.DefaultUpstreamTimeout}
		if n.Kind != yaml.MappingNode {
			up.Service = d.name(n, p)
		} else {
			d.fields(n, p, []field{
				{"service", func(n *yaml.Node, p string) { up.Service = d.name(n, p) }},
				{"timeout", func(n *yaml.Node, p string) { up.Timeout = d.duration(n, p, 0, maxUpstreamWait) }},
				{"sticky", func(n *yaml.Node, p string) { up.Sticky = d.flag(n, p) }},
			}, "service")
		}
		if up.Service == "" {
			return
		}
		d.mark(n, path+"."+string(up.Service))
		same := func(u mesh.Upstream) bool { return u.Service == up.Service }
		if slices.ContainsFunc(list, same) {
			d.fault(n, p, string(up.Service)+" is given twice", "keep one of them")
			return
		}
		list = append(list, up)
	})
	slices.SortFunc(list, func(a, b mesh.Upstream) int { return cmp.Compare(a.Service, b.Service) })
	return list
}

// env decodes variables in the order of the file.
func (d *decoder) env(node *yaml.Node, path string) []Var {
	if node.Kind != yaml.MappingNode {
		d.wrongType(node, path, "a mapping", "write NAME: value pairs")
		return nil
	}
	if len(node.Content)/2 > maxVars {
		d.fault(node, path, fmt.Sprintf("has more than %d variables", maxVars), "remove some")
		return nil
	}
	var vars []Var
	seen := make(map[string]bool)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if !d.fresh(key, path, seen) {
			continue
		}
		at := join(path, key.Value)
		d.mark(value, at)
		switch {
		case !variable.MatchString(key.Value):
			d.fault(key, at, quote(key.Value)+" is not a variable's name", "use letters, digits and '_'")
		case key.Value == markerVar || key.Value == instanceVar:
			d.fault(key, at, key.Value+" is set by the supervisor", "use another name")
		}
		text, _ := d.text(value, at)
		vars = append(vars, Var{Name: key.Value, Value: text})
	}
	return vars
}

// objective decodes p99 and errors.
func (d *decoder) objective(node *yaml.Node, path string) mesh.Objective {
	var o mesh.Objective
	ok := d.fields(node, path, []field{
		{"p99", func(n *yaml.Node, p string) { o.P99 = d.duration(n, p, 1, maxObjective) }},
		{"errors", func(n *yaml.Node, p string) { o.Errors = d.share(n, p) }},
	})
	if ok && len(node.Content) == 0 {
		d.fault(node, path, "promises nothing", "write p99, errors or both, or remove the field")
	}
	return o
}

// ingress decodes ingress.
func (d *decoder) ingress(node *yaml.Node, path string) *Ingress {
	in := &Ingress{Name: DefaultGateway, Timeout: mesh.DefaultUpstreamTimeout}
	d.fields(node, path, []field{
		{"service", func(n *yaml.Node, p string) { in.Service = d.name(n, p) }},
		{"port", func(n *yaml.Node, p string) { in.Port = d.whole(n, p, 0, 65535) }},
		{"timeout", func(n *yaml.Node, p string) { in.Timeout = d.duration(n, p, 0, maxUpstreamWait) }},
		{"name", func(n *yaml.Node, p string) { in.Name = d.label(n, p) }},
	}, "service")
	return in
}

// label decodes a DNS-1123 label.
func (d *decoder) label(node *yaml.Node, path string) string {
	text, ok := d.text(node, path)
	if !ok {
		return ""
	}
	if err := mesh.CheckLabel(text); err != nil {
		d.fault(node, path, err.Error(), "write a name in a-z, 0-9 and '-'")
	}
	return text
}
