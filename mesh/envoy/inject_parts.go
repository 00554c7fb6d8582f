package envoy

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluicemesh/sluice/mesh"
)

// call is one entry of annotationCalls.
type call struct {
	service mesh.Service
	port    uint16
	listen  netip.AddrPort
	timeout string
	sticky  bool
}

// maxCalls bounds the calls of a pod.
const maxCalls = 250

// parseCalls reads an annotationCalls strictly.
func parseCalls(text string) ([]call, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var calls []call
	for entry := range strings.SplitSeq(text, ",") {
		c, err := parseCall(strings.Fields(entry))
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(calls, func(o call) bool { return o.service == c.service }) {
			return nil, fmt.Errorf("%s comes twice", c.service)
		}
		calls = append(calls, c)
	}
	if len(calls) > maxCalls {
		return nil, fmt.Errorf("%d calls, at most %d are served", len(calls), maxCalls)
	}
	slices.SortFunc(calls, func(a, b call) int { return strings.Compare(string(a.service), string(b.service)) })
	return calls, nil
}

func parseCall(words []string) (call, error) {
	if len(words) == 0 {
		return call{}, fmt.Errorf("an entry is empty")
	}
	name, port, found := strings.Cut(words[0], ":")
	number, err := strconv.ParseUint(port, 10, 16)
	if !found || err != nil || number == 0 {
		return call{}, fmt.Errorf("%+.80q has no port", words[0])
	}
	service, err := mesh.ParseService(name)
	if err != nil {
		return call{}, err
	}
	c := call{service: service, port: uint16(number)}
	for _, word := range words[1:] {
		switch timeout, is := strings.CutPrefix(word, "timeout="); {
		case is:
			if d, err := time.ParseDuration(timeout); err != nil || d < 0 {
				return call{}, fmt.Errorf("%s: timeout %+.20q is no duration of 0s or more", service, timeout)
			}
			c.timeout = timeout
		case word == "sticky":
			c.sticky = true
		default:
			return call{}, fmt.Errorf("%s: %+.40q is neither timeout=DURATION nor sticky", service, word)
		}
	}
	return c, nil
}

// upstreamsOf is the annotationUpstreams of calls.
func upstreamsOf(calls []call) string {
	type upstream struct {
		Service string `json:"service"`
		Listen  string `json:"listen"`
		Timeout string `json:"timeout,omitempty"`
		Sticky  bool   `json:"sticky,omitempty"`
	}
	list := make([]upstream, len(calls))
	for i, c := range calls {
		list[i] = upstream{Service: string(c.service), Listen: c.listen.String(), Timeout: c.timeout, Sticky: c.sticky}
	}
	out, err := json.Marshal(list)
	if err != nil {
		panic("envoy: plain values do not marshal: " + err.Error())
	}
	return string(out)
}

// aliases gives each call's loopback address the names by which the application knows the
// service: so it finds its sidecar without a change.
func (p *pod) aliases(calls []call) {
	if len(calls) == 0 {
		return
	}
	list := branch(p.spec, "hostAliases", yaml.SequenceNode)
	for _, c := range calls {
		name, namespace := c.service.Name(), c.service.Namespace()
		names := []string{name + "." + namespace, name + "." + namespace + ".svc", name + "." + namespace + ".svc.cluster.local"}
		if namespace == p.namespace {
			names = append([]string{name}, names...)
		}
		list.Content = append(list.Content, nodeOf(object{"ip": c.listen.Addr().String(), "hostnames": names}))
	}
}

// tls is how sidecars reach the control plane.
func (p *pod) tls() TLS { return TLS{Address: p.ControlPlane, Server: p.Server, Dir: tlsDir} }

// volume holds the pod's identity, with the files that tell Envoy to watch it. All of them
// change at once, by a rename that Envoy sees.
func (p *pod) volume() object {
	item := func(key, path string) object { return object{"key": key, "path": path} }
	field := func(path, annotation string) object {
		return object{"path": path, "fieldRef": object{"fieldPath": "metadata.annotations['" + annotation + "']"}}
	}
	return object{"name": tlsVolume, "projected": object{"sources": []any{
		object{"secret": object{"name": p.Secret, "items": []any{
			item("tls.crt", SecretCert), item("tls.key", SecretKey), item("ca.crt", SecretCA),
		}}},
		object{"downwardAPI": object{"items": []any{
			field(secretOwn+".json", annotationOwn), field(secretTrust+".json", annotationTrust),
		}}},
	}}}
}

// proxy is the sidecar's container. Its node id is the pod's, by the downward API; cluster is
// the service that it stands beside. It is up when the control plane has configured it:
// then it listens at port.
func (p *pod) proxy(cluster string, port int) object {
	secure := p.tls()
	bootstrap := Bootstrap(Options{TLS: &secure, Admin: netip.MustParseAddrPort("127.0.0.1:15000")})
	var compact any
	if err := json.Unmarshal(bootstrap, &compact); err != nil {
		panic("envoy: bootstrap is no JSON: " + err.Error())
	}
	inline, err := json.Marshal(compact)
	if err != nil {
		panic("envoy: bootstrap does not marshal: " + err.Error())
	}
	args := []string{"--config-yaml", string(inline),
		"--service-node", "$(POD_NAMESPACE)/$(POD_NAME)/$(POD_UID)", "--service-cluster", cluster,
		"--concurrency", "1", "--disable-hot-restart", "-l", "warning",
		"--drain-time-s", strconv.Itoa(int(DrainTime / time.Second))}
	from := func(name, path string) object {
		return object{"name": name, "valueFrom": object{"fieldRef": object{"fieldPath": path}}}
	}
	c := object{
		"name": ProxyContainer, "image": p.ProxyImage, "restartPolicy": "Always", "args": args,
		"env":       []any{from("POD_NAMESPACE", "metadata.namespace"), from("POD_NAME", "metadata.name"), from("POD_UID", "metadata.uid")},
		"resources": object{"requests": object{"cpu": "20m", "memory": "64Mi"}},
		"securityContext": object{
			"allowPrivilegeEscalation": false, "capabilities": object{"drop": []string{"ALL"}},
			"readOnlyRootFilesystem": true, "runAsNonRoot": true, "runAsUser": proxyUser, "runAsGroup": proxyUser,
			"seccompProfile": object{"type": "RuntimeDefault"},
		},
		"startupProbe": object{"tcpSocket": object{"port": port}, "periodSeconds": 1, "failureThreshold": 120},
		"volumeMounts": []any{object{"name": tlsVolume, "mountPath": tlsDir, "readOnly": true}},
	}
	if p.PullPolicy != "" {
		c["imagePullPolicy"] = p.PullPolicy
	}
	return c
}

// redirect sends what comes for the application to the sidecar, also from callers outside
// the mesh, so that the sidecar's count of requests is whole.
func (p *pod) redirect(app string) object {
	rule := "iptables -w -t nat -A PREROUTING -p tcp --dport " + app + " -j REDIRECT --to-ports " + strconv.Itoa(inboundPort)
	c := object{
		"name": RedirectContainer, "image": p.InitImage, "command": []string{"/bin/sh", "-ec", rule},
		"resources": object{"requests": object{"cpu": "10m", "memory": "16Mi"}},
		"securityContext": object{
			"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": false, "runAsUser": 0,
			"capabilities":   object{"drop": []string{"ALL"}, "add": []string{"NET_ADMIN", "NET_RAW"}},
			"seccompProfile": object{"type": "RuntimeDefault"},
		},
	}
	if p.PullPolicy != "" {
		c["imagePullPolicy"] = p.PullPolicy
	}
	return c
}
