package prom

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/topology"
)

// Dialect names the metrics that a mesh exports.
type Dialect string

// Dialects that are read.
const (
	Istio        Dialect = "istio"         // istio_requests_total, istio_tcp_connections_opened_total
	Linkerd      Dialect = "linkerd"       // response_total, of outbound proxies
	LinkerdRoute Dialect = "linkerd-route" // outbound_http_route_*, outbound_grpc_route_*
	// ServiceGraph is traces_service_graph_request_*, of OpenTelemetry's connector or Tempo.
	// It counts spans, which may be sampled; ServiceGraphAll asserts that they are not.
	ServiceGraph    Dialect = "servicegraph"
	ServiceGraphAll Dialect = "servicegraph-unsampled"
)

// Dialects lists all.
func Dialects() []Dialect {
	return []Dialect{Istio, Linkerd, LinkerdRoute, ServiceGraph, ServiceGraphAll}
}

// ParseDialects reads names between commas.
func ParseDialects(text string) ([]Dialect, error) {
	var list []Dialect
	for name := range strings.SplitSeq(text, ",") {
		d := Dialect(strings.TrimSpace(name))
		if d.families() == nil {
			return nil, fmt.Errorf("dialect %q: want some of %v", d, Dialects())
		}
		list = append(list, d)
	}
	return list, nil
}

// family is a counter of calls and what goes with it.
type family struct {
	counter  string   // name of the metric
	selector string   // of all its series, without braces
	failed   []string // further selectors of failed calls; no series matches two
	failures string   // instead of failed: a counter of its own
	buckets  string   // name of the histogram's buckets, "" = none
	unit     time.Duration
	caller   []pair // labels that may name the caller, the best first
	callee   []pair
	// rank is a label whose values say who reports; of an edge the best report counts.
	rank       string
	ranks      []string // the best first
	source     topology.Source
	connection bool
	existence  string // a label and value of calls that only show existence, "" = none
}

// pair is the label of a namespace and that of a name; without the former, name holds both.
type pair struct{ namespace, name string }

// families returns the metrics of d, nil if there is no such dialect.
func (d Dialect) families() []family {
	switch d {
	case Istio:
		return istio()
	case Linkerd:
		return []family{linkerd()}
	case LinkerdRoute:
		return []family{linkerdRoute("http", "http_status"), linkerdRoute("grpc", "grpc_status")}
	case ServiceGraph:
		return []family{serviceGraph(topology.Span)}
	case ServiceGraphAll:
		return []family{serviceGraph(topology.MeshMetric)}
	}
	return nil
}

// failedGRPC are the codes for which OpenTelemetry blames the server.
const failedGRPC = "2|4|12|13|14|15"

// istio are Istio's standard metrics. A request is reported by both ends: the caller's
// proxy sees failures that never reach the callee.
func istio() []family {
	requests := family{
		counter: "istio_requests_total", selector: `source_workload!="unknown"`,
		failed:  []string{`response_code=~"0|5.*"`, `response_code!~"0|5.*",grpc_response_status=~"` + failedGRPC + `"`},
		buckets: "istio_request_duration_milliseconds_bucket", unit: time.Millisecond,
		caller: []pair{
			{"source_workload_namespace", "source_canonical_service"}, {"source_workload_namespace", "source_workload"},
		},
		callee: []pair{
			{"destination_service_namespace", "destination_service_name"},
			{"destination_workload_namespace", "destination_canonical_service"},
			{"destination_workload_namespace", "destination_workload"},
		},
		rank: "reporter", ranks: []string{"source", "waypoint", "destination"}, source: topology.MeshMetric,
	}
	connections := requests
	connections.counter, connections.connection = "istio_tcp_connections_opened_total", true
	connections.failed, connections.buckets = nil, ""
	return []family{requests, connections}
}

// workloads are the labels that Linkerd's scrape configuration gives a pod.
func workloads(prefix string) []pair {
	var list []pair
	for _, kind := range []string{"deployment", "statefulset", "daemonset", "replicationcontroller", "job"} {
		list = append(list, pair{prefix + "namespace", prefix + kind})
	}
	return list
}

// linkerd is what Linkerd's outbound proxies count of responses.
func linkerd() family {
	return family{
		counter: "response_total", selector: `direction="outbound"`, failed: []string{`classification="failure"`},
		buckets: "response_latency_ms_bucket", unit: time.Millisecond,
		caller: workloads(""), callee: append([]pair{{"dst_namespace", "dst_service"}}, workloads("dst_")...),
		source: topology.MeshMetric,
	}
}

// linkerdRoute is what Linkerd's outbound proxies count by route, of one protocol.
func linkerdRoute(protocol, code string) family {
	failed := []string{code + `=~"5.*"`, code + `!~"5.*",error!=""`}
	if protocol == "grpc" {
		const names = "UNKNOWN|DEADLINE_EXCEEDED|UNIMPLEMENTED|INTERNAL|UNAVAILABLE|DATA_LOSS"
		codes := `~"(?i:` + names + "|" + failedGRPC + `)"`
		failed = []string{code + "=" + codes, code + "!" + codes + `,error!=""`}
	}
	return family{
		counter: "outbound_" + protocol + "_route_request_statuses_total", selector: `parent_kind="Service"`,
		failed:  failed,
		buckets: "outbound_" + protocol + "_route_request_duration_seconds_bucket", unit: time.Second,
		caller: workloads(""), callee: []pair{{"parent_namespace", "parent_name"}}, source: topology.MeshMetric,
	}
}

// serviceGraph is what OpenTelemetry's connector and Tempo count of pairs of spans.
func serviceGraph(source topology.Source) family {
	return family{
		counter: "traces_service_graph_request_total", failures: "traces_service_graph_request_failed_total",
		buckets: "traces_service_graph_request_server_seconds_bucket", unit: time.Second,
		caller: []pair{{"", "client"}, {"client_service_namespace", "client"}},
		callee: []pair{{"", "server"}, {"server_service_namespace", "server"}},
		source: source, rank: "connection_type", existence: "messaging_system",
	}
}
