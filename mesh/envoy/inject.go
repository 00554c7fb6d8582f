package envoy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Annotations by which a pod template is injected, and by which the control plane then knows
// its sidecar (the adapter for Kubernetes reads them; docs/kubernetes.md explains them).
const (
	annotationPrefix    = "sluicemesh.io/"
	annotationInject    = annotationPrefix + "inject"    // "false": leave it as it is
	annotationCalls     = annotationPrefix + "calls"     // what the application calls
	annotationService   = annotationPrefix + "service"   // NAME of the pods' Service
	annotationGateway   = annotationPrefix + "gateway"   // NAME of a gateway
	annotationApp       = annotationPrefix + "app"       // port of the application
	annotationInbound   = annotationPrefix + "inbound"   // written
	annotationUpstreams = annotationPrefix + "upstreams" // written
	annotationOwn       = annotationPrefix + "sds-own"   // written: files of TLS.Secrets
	annotationTrust     = annotationPrefix + "sds-trust"
)

// Names of what is added to a pod, and of whom it runs as.
const (
	ProxyContainer    = "sluice-proxy"
	RedirectContainer = "sluice-redirect"
	tlsVolume         = "sluice-tls"
	tlsDir            = "/run/sluice/tls"
	proxyUser         = 1337
	inboundPort       = 15006
)

// maxManifest bounds a manifest, in bytes.
const maxManifest = 8 << 20

// Injection is what a sidecar depends on besides its pod.
type Injection struct {
	ControlPlane string // host:port of xDS over mutual TLS
	Server       string // SPIFFE id of the control plane
	Secret       string // with tls.crt, tls.key, ca.crt: the pods' identity and their authorities
	ProxyImage   string // has /envoy as its entry point
	InitImage    string // has a shell and iptables
	PullPolicy   string // imagePullPolicy of both, "" = the cluster's default
	NoRedirect   bool   // without the init container: callers outside the mesh pass the sidecar by
}

// check returns all faults joined.
func (i Injection) check() error {
	var faults []error
	if _, _, err := net.SplitHostPort(i.ControlPlane); err != nil {
		faults = append(faults, fmt.Errorf("control plane %q: want HOST:PORT", i.ControlPlane))
	}
	if !strings.HasPrefix(i.Server, "spiffe://") {
		faults = append(faults, fmt.Errorf("identity of the control plane %q: want spiffe://DOMAIN/PATH", i.Server))
	}
	for what, value := range map[string]string{"secret": i.Secret, "proxy image": i.ProxyImage, "init image": i.InitImage} {
		if value == "" {
			faults = append(faults, fmt.Errorf("the %s is empty", what))
		}
	}
	switch i.PullPolicy {
	case "", "Always", "IfNotPresent", "Never":
	default:
		faults = append(faults, fmt.Errorf("pull policy %q: want Always, IfNotPresent or Never", i.PullPolicy))
	}
	return errors.Join(faults...)
}

// ManifestError is a fault of a manifest: where, what, and what to do about it.
type ManifestError struct {
	Object       string // kind/name, "" = not known
	Line, Column int    // 0 = not known
	Reason       string
	Remedy       string
}

// Error implements error.
func (e *ManifestError) Error() string {
	text := ""
	if e.Line > 0 {
		text = fmt.Sprintf("line %d, column %d: ", e.Line, e.Column)
	}
	if e.Object != "" {
		text += e.Object + ": "
	}
	text += e.Reason
	if e.Remedy != "" {
		text += "; " + e.Remedy
	}
	return text
}

// Inject adds a sidecar to every pod template of a manifest (YAML or JSON, one document or
// several) and returns it as YAML, comments and order kept; other objects stay as they are.
// The sidecar is a native one (an init container that is always restarted): it is ready
// before the application starts and ends after it. All faults found are joined, each a
// *ManifestError; nothing is returned then.
func Inject(manifest []byte, i Injection) ([]byte, error) {
	if err := i.check(); err != nil {
		return nil, err
	}
	documents, err := decodeManifest(manifest)
	if err != nil {
		return nil, err
	}
	j := injector{Injection: i, services: servicesOf(documents)}
	found := false
	for _, document := range documents {
		found = j.document(document.Content[0]) || found
	}
	if len(j.faults) > 0 {
		return nil, errors.Join(j.faults...)
	}
	if !found {
		return nil, &ManifestError{Reason: "no pod template to inject",
			Remedy: "give a Pod, Deployment, StatefulSet, ReplicaSet, DaemonSet, Job or CronJob"}
	}
	return encodeManifest(documents)
}

// decodeManifest returns the documents of a manifest; each is a mapping.
func decodeManifest(manifest []byte) ([]*yaml.Node, error) {
	if len(manifest) > maxManifest {
		return nil, &ManifestError{Reason: fmt.Sprintf("more than %d bytes", maxManifest), Remedy: "split it"}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(manifest))
	var documents []*yaml.Node
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return documents, nil
		}
		if err != nil {
			return nil, &ManifestError{Reason: err.Error(), Remedy: "correct the YAML"}
		}
		top := document.Content[0]
		if top.Kind == yaml.ScalarNode && top.Tag == "!!null" {
			continue // an empty document between two marks
		}
		if top.Kind != yaml.MappingNode {
			return nil, &ManifestError{Line: top.Line, Column: top.Column, Reason: "a document is no mapping",
				Remedy: "give objects of Kubernetes"}
		}
		if err := plain(top); err != nil {
			return nil, err
		}
		documents = append(documents, &document)
	}
}

// maxDepth bounds the nesting of a manifest.
const maxDepth = 100

// plain refuses what could make an edit hit another place than the one that is read: keys
// that come twice, and aliases.
func plain(node *yaml.Node) error { return plainTo(node, maxDepth) }

func plainTo(node *yaml.Node, depth int) error {
	fault := func(at *yaml.Node, reason, remedy string) error {
		return &ManifestError{Line: at.Line, Column: at.Column, Reason: reason, Remedy: remedy}
	}
	if depth == 0 {
		return fault(node, "nested too deep", "flatten it")
	}
	if node.Kind == yaml.AliasNode {
		return fault(node, "an alias", "write the value out")
	}
	seen := map[string]bool{}
	for n, child := range node.Content {
		if node.Kind == yaml.MappingNode && n%2 == 0 {
			if seen[child.Value] || child.Kind != yaml.ScalarNode {
				return fault(child, fmt.Sprintf("key %.80q comes twice, or is none", child.Value), "leave one")
			}
			seen[child.Value] = true
		}
		if err := plainTo(child, depth-1); err != nil {
			return err
		}
	}
	return nil
}

func encodeManifest(documents []*yaml.Node) ([]byte, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	for _, document := range documents {
		if err := encoder.Encode(document); err != nil {
			return nil, fmt.Errorf("write the manifest: %w", err)
		}
	}
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("write the manifest: %w", err)
	}
	return out.Bytes(), nil
}

// injector works through the documents of one manifest.
type injector struct {
	Injection
	services []service
	faults   []error
}

// document injects the object, if it has a pod template, and reports whether it has one.
func (j *injector) document(object *yaml.Node) bool {
	kind := text(object, "kind")
	var template *yaml.Node
	switch kind {
	case "Pod":
		template = object
	case "Deployment", "StatefulSet", "ReplicaSet", "DaemonSet", "Job":
		template = child(object, "spec", "template")
	case "CronJob":
		template = child(object, "spec", "jobTemplate", "spec", "template")
	case "List":
		j.fault(object, object, "a List", "give its items as documents of their own")
		return true
	default:
		return false
	}
	if template == nil || child(template, "spec") == nil {
		j.fault(object, object, "has no pod template", "complete the object")
		return true
	}
	p := pod{injector: j, object: object, template: template, spec: child(template, "spec"),
		namespace: text(object, "metadata", "namespace")}
	if p.annotation(annotationInject) != "false" {
		p.inject()
	}
	return true
}

// fault notes a fault of object at a node.
func (j *injector) fault(object, at *yaml.Node, reason, remedy string) {
	name := cmp.Or(text(object, "metadata", "name"), text(object, "metadata", "generateName"), "?")
	j.faults = append(j.faults, &ManifestError{Object: text(object, "kind") + "/" + name,
		Line: at.Line, Column: at.Column, Reason: reason, Remedy: remedy})
}

// service is a Service of the manifest.
type service struct {
	namespace, name string
	selector        map[string]string
	target          *yaml.Node // of its first port, nil = none
}

// servicesOf lists the Services that are among the documents.
func servicesOf(documents []*yaml.Node) []service {
	var found []service
	for _, document := range documents {
		object := document.Content[0]
		if text(object, "kind") != "Service" {
			continue
		}
		s := service{namespace: text(object, "metadata", "namespace"), name: text(object, "metadata", "name"),
			selector: stringsOf(child(object, "spec", "selector"))}
		if ports := child(object, "spec", "ports"); ports != nil && len(ports.Content) > 0 {
			s.target = child(ports.Content[0], "targetPort")
			if s.target == nil {
				s.target = child(ports.Content[0], "port")
			}
		}
		found = append(found, s)
	}
	return found
}

// selects reports whether pods with labels are the service's.
func (s *service) selects(namespace string, labels map[string]string) bool {
	for key, value := range s.selector {
		if labels[key] != value {
			return false
		}
	}
	return len(s.selector) > 0 && s.namespace == namespace
}
