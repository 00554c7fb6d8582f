package xds

import (
	"net/netip"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluicemesh/sluice/mesh"
)

const (
	connectTimeout = time.Second
	// manyRequests is a circuit breaker threshold that nothing reaches. Envoy's own
	// default (1024) refuses held requests; its default of 3 retries refuses the hold.
	manyRequests = 1 << 20
	// appIdle is shorter than any usual server's keep-alive (gunicorn: 2 s), so that a
	// request does not meet a connection that its application is just closing.
	appIdle = time.Second

	httpOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
)

// edsCluster is the cluster called name with endpoints by EDS. The name of its EDS
// resource carries a hash of the cluster: a change in place then asks for a new
// resource, without which Envoy would wait 15 s for endpoints that it already has.
func edsCluster(name string, protocol mesh.Protocol) (cluster *clusterv3.Cluster, assignment string) {
	return named(name, protocol, func(*clusterv3.Cluster) {})
}

// named is an edsCluster with changes of its own.
func named(name string, protocol mesh.Protocol, change func(*clusterv3.Cluster)) (*clusterv3.Cluster, string) {
	c := baseCluster(name, protocol, 0)
	change(c)
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
	c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: aggregated()}
	bytes, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil {
		panic("xds: a cluster of our own does not marshal: " + err.Error())
	}
	c.EdsClusterConfig.ServiceName = name + "@" + digest(bytes, 8)
	return c, c.EdsClusterConfig.ServiceName
}

const (
	ejectTime    = 10 * time.Second // of the first ejection; each further one is as much longer
	ejectAtMost  = 50               // percent of the endpoints; of a single one, none
	ejectCertain = 100              // percent
)

// breakerCluster is the base cluster of service with outlier detection. It is a cluster of
// its own, so that the base is never changed, and its ejections end with the lease; it has
// no park, which would be ejected. Its statistics are the base's.
func breakerCluster(service mesh.Service, b *mesh.BreakOverlay) (cluster *clusterv3.Cluster, assignment string) {
	return named(Breaker(service), mesh.HTTP, func(c *clusterv3.Cluster) {
		c.AltStatName = string(service)
		c.OutlierDetection = &clusterv3.OutlierDetection{
			Consecutive_5Xx:                wrapperspb.UInt32(b.Consecutive5xx),
			EnforcingConsecutive_5Xx:       wrapperspb.UInt32(ejectCertain),
			EnforcingSuccessRate:           wrapperspb.UInt32(0),
			ConsecutiveGatewayFailure:      wrapperspb.UInt32(b.Consecutive5xx),
			EnforcingFailurePercentage:     wrapperspb.UInt32(0),
			Interval:                       durationpb.New(time.Second),
			BaseEjectionTime:               durationpb.New(ejectTime),
			MaxEjectionPercent:             wrapperspb.UInt32(ejectAtMost),
			SplitExternalLocalOriginErrors: false, // a refused connection counts as 5xx
		}
	})
}

// appCluster is a sidecar's way to its own application.
func appCluster(app netip.AddrPort, protocol mesh.Protocol) *clusterv3.Cluster {
	c := baseCluster(AppCluster, protocol, appIdle)
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
	c.LoadAssignment = &endpointv3.ClusterLoadAssignment{
		ClusterName: AppCluster,
		Endpoints:   []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{endpoint(app)}}},
	}
	return c
}

// baseCluster is what all clusters share. Panic is off, else Envoy sends to DRAINING
// endpoints when no other is left.
func baseCluster(name string, protocol mesh.Protocol, idle time.Duration) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name:           name,
		ConnectTimeout: durationpb.New(connectTimeout),
		CommonLbConfig: &clusterv3.Cluster_CommonLbConfig{
			HealthyPanicThreshold: &typev3.Percent{Value: 0},
			UpdateMergeWindow:     durationpb.New(0),
		},
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections:     wrapperspb.UInt32(manyRequests),
			MaxPendingRequests: wrapperspb.UInt32(manyRequests),
			MaxRequests:        wrapperspb.UInt32(manyRequests),
			RetryBudget: &clusterv3.CircuitBreakers_Thresholds_RetryBudget{
				BudgetPercent:       &typev3.Percent{Value: 100},
				MinRetryConcurrency: wrapperspb.UInt32(manyRequests),
			},
		}}},
	}
	if protocol != mesh.TCP {
		c.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptions: pack(sameProtocol(idle))}
	}
	return c
}

// sameProtocol speaks upstream what was spoken downstream: HTTP/1.1, or HTTP/2 (gRPC).
func sameProtocol(idle time.Duration) *httpv3.HttpProtocolOptions {
	options := &httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_UseDownstreamProtocolConfig{
			UseDownstreamProtocolConfig: &httpv3.HttpProtocolOptions_UseDownstreamHttpConfig{
				HttpProtocolOptions:  &corev3.Http1ProtocolOptions{},
				Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
			},
		},
	}
	if idle > 0 {
		options.CommonHttpProtocolOptions = &corev3.HttpProtocolOptions{IdleTimeout: durationpb.New(idle)}
	}
	return options
}

// aggregated points to the ADS stream.
func aggregated() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	}
}

// endpoint is an endpoint at address.
func endpoint(address netip.AddrPort) *endpointv3.LbEndpoint {
	return &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
		Endpoint: &endpointv3.Endpoint{Address: socketAddress(address)},
	}}
}

func socketAddress(a netip.AddrPort) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       a.Addr().String(),
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port())},
	}}}
}
