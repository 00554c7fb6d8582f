package mesh

import (
	"fmt"
	"strings"
	"time"
)

// MaxLabel is the longest DNS-1123 label (RFC 1123, section 2.1), in bytes.
const MaxLabel = 63

// Service names a service as "namespace/name"; both parts are DNS-1123 labels.
// Callers outside the mesh are "outside/<gateway>".
type Service string

// OutsideNamespace is the namespace of callers that are not in the mesh.
const OutsideNamespace = "outside"

// Namespace returns the part before the slash, "" if there is none.
func (s Service) Namespace() string {
	namespace, _, _ := strings.Cut(string(s), "/")
	return namespace
}

// Name returns the part after the slash, "" if there is none.
func (s Service) Name() string {
	_, name, _ := strings.Cut(string(s), "/")
	return name
}

// ParseService checks that text is "namespace/name" with two DNS-1123 labels in
// ASCII and returns it unchanged; nothing is trimmed, folded or repaired.
func ParseService(text string) (Service, error) {
	namespace, name, found := strings.Cut(text, "/")
	if !found {
		return "", &NameError{Text: text, Reason: "want NAMESPACE/NAME"}
	}
	if reason := labelFault(namespace); reason != "" {
		return "", &NameError{Text: text, Reason: "namespace " + reason}
	}
	if reason := labelFault(name); reason != "" {
		return "", &NameError{Text: text, Reason: "name " + reason}
	}
	return Service(text), nil
}

// CheckLabel reports why text is not a DNS-1123 label, nil if it is one.
func CheckLabel(text string) error {
	if reason := labelFault(text); reason != "" {
		return &NameError{Text: text, Reason: reason}
	}
	return nil
}

// NameError says that Text is not a valid name, and why. Its message quotes Text
// with every non-ASCII or control byte escaped and cut to 80 bytes.
type NameError struct {
	Text   string
	Reason string
}

// Error implements error.
func (e *NameError) Error() string {
	text := e.Text
	if len(text) > 80 {
		text = text[:80]
	}
	return fmt.Sprintf("name %+q: %s", text, e.Reason)
}

// labelFault returns "" for a DNS-1123 label, else what is wrong with it.
func labelFault(label string) string {
	switch {
	case label == "":
		return "is empty"
	case len(label) > MaxLabel:
		return fmt.Sprintf("is %d bytes long, at most %d are allowed", len(label), MaxLabel)
	case label[0] == '-' || label[len(label)-1] == '-':
		return "begins or ends with a hyphen"
	}
	for i := range len(label) {
		c := label[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Sprintf("has byte %#02x at offset %d; allowed are a-z, 0-9 and '-'", c, i)
		}
	}
	return ""
}

// Protocol says what a service speaks at its port.
type Protocol string

// Protocols. gRPC and websockets run over HTTP.
const (
	HTTP Protocol = "http"
	TCP  Protocol = "tcp"
)

// DefaultUpstreamTimeout bounds a request to an upstream that declares none.
const DefaultUpstreamTimeout = 15 * time.Second

// Upstream is a declared dependency: calls of the declaring service go to Service.
type Upstream struct {
	Service Service
	Timeout time.Duration // of one request; 0 = unbounded (streams)
	Sticky  bool          // the caller does not survive a restart of Service
}

// Objective is what a service promises; the zero value promises nothing, so the
// service is only observed.
type Objective struct {
	P99    time.Duration // 0 = no latency objective
	Errors float64       // greatest share of failed requests, 0..1; 0 = no error objective
}

// Set reports whether o promises anything.
func (o Objective) Set() bool { return o.P99 > 0 || o.Errors > 0 }
