package xds

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tracev3 "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/sluicemesh/sluice/mesh"
)

// samplingKey is the runtime key of the share of requests that begin a trace, in percent;
// Envoy gives it its name.
const samplingKey = "tracing.random_sampling"

// Tracing makes proxies send a CLIENT span of calls over HTTP to an OTLP receiver.
type Tracing struct {
	Cluster string  // of the proxies' bootstrap, which reaches the receiver over gRPC
	Percent float64 // of the requests that bring no trace context; with one, that decides
	// Boosted are the services whose proxies begin a trace for each request. The boost is in
	// the overlay layer and lapses with it.
	Boosted map[mesh.Service]bool
}

// traced adds the tracer to an outbound listener of caller's proxies.
func (t *Tracing) traced(listener *listenerv3.Listener, caller mesh.Service) *listenerv3.Listener {
	filter := listener.GetFilterChains()[0].GetFilters()[0]
	manager := new(hcmv3.HttpConnectionManager)
	if err := filter.GetTypedConfig().UnmarshalTo(manager); err != nil {
		return listener // raw TCP has no spans
	}
	manager.Tracing = &hcmv3.HttpConnectionManager_Tracing{
		RandomSampling: &typev3.Percent{Value: t.Percent},
		ClientSampling: &typev3.Percent{Value: 0}, // or a header of anybody's would begin a trace
		Provider: &tracev3.Tracing_Http{
			Name: "envoy.tracers.opentelemetry",
			ConfigType: &tracev3.Tracing_Http_TypedConfig{TypedConfig: pack(&tracev3.OpenTelemetryConfig{
				ServiceName: string(caller),
				GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
					EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: t.Cluster},
				}},
			})},
		},
	}
	filter.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: pack(manager)}
	return listener
}

// boost turns the sampling up if caller's proxies are to.
func (k runtimeKeys) boost(t *Tracing, caller mesh.Service) {
	if t != nil && t.Boosted[caller] {
		k[samplingKey] = 100
	}
}
