package envoy

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// pod is one pod template under injection.
type pod struct {
	*injector
	object, template, spec *yaml.Node
	namespace              string // "" = whatever the manifest is applied to
}

func (p *pod) annotation(name string) string {
	return text(p.template, "metadata", "annotations", name)
}

func (p *pod) wrong(at *yaml.Node, reason, remedy string) { p.fault(p.object, at, reason, remedy) }

// inject adds the sidecar, or notes what is wrong.
func (p *pod) inject() {
	before := len(p.faults)
	if p.annotation(annotationInbound) != "" || p.container(ProxyContainer) != nil && p.annotation(annotationGateway) == "" {
		p.wrong(p.template, "has a sidecar already", "inject the manifest as it was before")
		return
	}
	if text(p.spec, "hostNetwork") == "true" {
		p.wrong(p.spec, "hostNetwork: the sidecar would be the node's",
			"leave it out of the mesh with the annotation "+annotationInject+`: "false"`)
	}
	calls, err := parseCalls(p.annotation(annotationCalls))
	if err != nil {
		p.wrong(p.template, annotationCalls+": "+err.Error(), "write NAMESPACE/NAME:PORT [timeout=DURATION] [sticky], ...")
	}
	if gateway := p.annotation(annotationGateway); gateway != "" {
		if p.gateway(calls); len(p.faults) == before {
			p.finish(calls, "outside/"+gateway)
		}
		return
	}
	name := p.serviceName()
	app := p.appPort(name)
	if len(p.faults) > before {
		return
	}
	annotations := p.annotations()
	set(annotations, annotationInbound, strconv.Itoa(inboundPort))
	set(annotations, annotationApp, app)
	set(annotations, annotationService, name)
	for i := range calls {
		calls[i].listen = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i + 1)}), calls[i].port)
	}
	p.addContainers(app, "$(POD_NAMESPACE)/"+name)
	p.aliases(calls)
	p.finish(calls, "")
}

// finish adds what sidecars and gateways have in common.
func (p *pod) finish(calls []call, gateway string) {
	annotations := p.annotations()
	if len(calls) > 0 {
		set(annotations, annotationUpstreams, upstreamsOf(calls))
	}
	secrets := p.tls().Secrets()
	set(annotations, annotationOwn, string(secrets[secretOwn+".json"]))
	set(annotations, annotationTrust, string(secrets[secretTrust+".json"]))
	volumes := branch(p.spec, "volumes", yaml.SequenceNode)
	volumes.Content = append(volumes.Content, nodeOf(p.volume()))
	if gateway != "" {
		container := p.container(ProxyContainer)
		parts := p.proxy(gateway, int(calls[0].listen.Port()))
		for _, key := range slices.Sorted(maps.Keys(parts)) {
			if key != "restartPolicy" && key != "startupProbe" && key != "name" {
				set(container, key, parts[key])
			}
		}
		if value(container, "readinessProbe") == nil {
			set(container, "readinessProbe", object{"periodSeconds": 1, "tcpSocket": object{"port": int(calls[0].listen.Port())}})
		}
	}
	p.unprivileged(calls)
}

func (p *pod) annotations() *yaml.Node {
	metadata := branch(p.template, "metadata", yaml.MappingNode)
	return branch(metadata, "annotations", yaml.MappingNode)
}

// container returns the container called name.
func (p *pod) container(name string) *yaml.Node {
	for _, list := range []string{"containers", "initContainers"} {
		if found := child(p.spec, list); found != nil {
			for _, c := range found.Content {
				if text(c, "name") == name {
					return c
				}
			}
		}
	}
	return nil
}

// serviceName is the Service that the pods are instances of: as annotated, else the only
// one of the manifest that selects them.
func (p *pod) serviceName() string {
	if name := p.annotation(annotationService); name != "" {
		return name
	}
	labels := stringsOf(child(p.template, "metadata", "labels"))
	var names []string
	for i := range p.services {
		if s := &p.services[i]; s.selects(p.namespace, labels) {
			names = append(names, s.name)
		}
	}
	slices.Sort(names)
	switch names = slices.Compact(names); len(names) {
	case 1:
		return names[0]
	case 0:
		p.wrong(p.template, "no Service of the manifest selects these pods",
			"annotate the template with "+annotationService+": NAME")
	default:
		p.wrong(p.template, "several Services select these pods: "+strings.Join(names, ", "),
			"annotate the template with "+annotationService+": NAME")
	}
	return ""
}

// appPort is where the application listens: as annotated, as the Service targets it, or the
// only port of the containers.
func (p *pod) appPort(name string) string {
	if port := p.annotation(annotationApp); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			p.wrong(p.template, fmt.Sprintf("%s: %.20q is no port", annotationApp, port), "write a number from 1 to 65535")
		}
		return port
	}
	ports := p.ports()
	for i := range p.services {
		s := &p.services[i]
		if s.name != name || s.namespace != p.namespace || s.target == nil {
			continue
		}
		if named, found := ports[s.target.Value]; found {
			return named
		}
		if _, err := strconv.ParseUint(s.target.Value, 10, 16); err == nil {
			return s.target.Value
		}
	}
	distinct := map[string]bool{}
	for _, port := range ports {
		distinct[port] = true
	}
	if len(distinct) == 1 {
		for port := range distinct {
			return port
		}
	}
	p.wrong(p.spec, fmt.Sprintf("the containers have %d ports, and no Service of the manifest says which one counts", len(distinct)),
		"annotate the template with "+annotationApp+": PORT")
	return ""
}

// ports are the container ports by name, and by number.
func (p *pod) ports() map[string]string {
	found := map[string]string{}
	list := child(p.spec, "containers")
	if list == nil {
		return found
	}
	for _, c := range list.Content {
		ports := child(c, "ports")
		if ports == nil {
			continue
		}
		for _, port := range ports.Content {
			number := text(port, "containerPort")
			found[cmp.Or(text(port, "name"), number)] = number
		}
	}
	return found
}

// gateway checks a pod that is an Envoy alone: its only container is ours to fill in.
func (p *pod) gateway(calls []call) {
	list := child(p.spec, "containers")
	if list == nil || len(list.Content) != 1 || text(list.Content[0], "name") != ProxyContainer ||
		text(list.Content[0], "image") != "auto" {
		p.wrong(p.spec, "a gateway is an Envoy alone", "give it one container {name: "+ProxyContainer+", image: auto}")
	}
	if len(calls) == 0 {
		p.wrong(p.template, "a gateway that sends nowhere", "annotate the template with "+annotationCalls+": NAMESPACE/NAME:PORT")
	}
	for i := range calls {
		calls[i].listen = netip.AddrPortFrom(netip.IPv4Unspecified(), calls[i].port)
		for _, other := range calls[:i] {
			if other.port == calls[i].port {
				p.wrong(p.template, fmt.Sprintf("%s and %s at the same port", other.service, calls[i].service), "give each its own")
			}
		}
	}
}

// addContainers adds the redirect and the sidecar before all other init containers.
func (p *pod) addContainers(app, cluster string) {
	list := branch(p.spec, "initContainers", yaml.SequenceNode)
	var added []*yaml.Node
	if !p.NoRedirect {
		added = append(added, nodeOf(p.redirect(app)))
	}
	added = append(added, nodeOf(p.proxy(cluster, inboundPort)))
	list.Content = append(added, list.Content...)
}

// unprivileged lets the sidecar, which is not root, listen at low ports.
func (p *pod) unprivileged(calls []call) {
	const name = "net.ipv4.ip_unprivileged_port_start"
	low := slices.ContainsFunc(calls, func(c call) bool { return c.port < 1024 })
	if !low {
		return
	}
	context := branch(p.spec, "securityContext", yaml.MappingNode)
	list := branch(context, "sysctls", yaml.SequenceNode)
	for _, entry := range list.Content {
		if text(entry, "name") == name {
			return
		}
	}
	list.Content = append(list.Content, nodeOf(object{"name": name, "value": "0"}))
}
