package xds

import (
	"net/netip"
	"strconv"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluicemesh/sluice/mesh"
)

const (
	logFlush    = 100 * time.Millisecond
	sessionBeat = 5 * time.Second // a TCP session is logged on connect, each beat, at its end

	hcmFilter    = "envoy.filters.network.http_connection_manager"
	tcpFilter    = "envoy.filters.network.tcp_proxy"
	routerFilter = "envoy.filters.http.router"
)

// outListener serves one upstream to the proxy's application, or to the world outside.
func outListener(out mesh.Outbound, protocol mesh.Protocol) *listenerv3.Listener {
	name := outName(out.Service)
	if protocol == mesh.TCP {
		filter := tcpProxy(name, string(out.Service), holdRetries)
		filter.AccessLog = accessLog("envoy.access_loggers.tcp_grpc", &alsv3.TcpGrpcAccessLogConfig{
			CommonConfig: logConfig(),
		})
		filter.AccessLogOptions = &tcpv3.TcpProxy_TcpAccessLogOptions{
			AccessLogFlushInterval:    durationpb.New(sessionBeat),
			FlushAccessLogOnConnected: true,
		}
		return listener(name, out.Listen, corev3.TrafficDirection_OUTBOUND, network(tcpFilter, filter))
	}
	manager := connectionManager(name, name)
	manager.HttpFilters = append([]*hcmv3.HttpFilter{limiter()}, manager.HttpFilters...)
	manager.AccessLog = accessLog("envoy.access_loggers.http_grpc", &alsv3.HttpGrpcAccessLogConfig{
		CommonConfig: logConfig(),
		// A gRPC error without a body comes as headers only.
		AdditionalResponseHeadersToLog:  []string{"grpc-status"},
		AdditionalResponseTrailersToLog: []string{"grpc-status"},
	})
	return listener(name, out.Listen, corev3.TrafficDirection_OUTBOUND, network(hcmFilter, manager))
}

// inListener serves the application to its callers. A new cut replaces the listener,
// so that Envoy ends what still runs over the old one after its drain time: nothing
// else ends an open stream.
func inListener(address netip.AddrPort, protocol mesh.Protocol, cut uint64) *listenerv3.Listener {
	prefix := InboundListener
	if cut > 0 {
		prefix += "_cut" + strconv.FormatUint(cut, 10)
	}
	if protocol == mesh.TCP {
		return listener(InboundListener, address, corev3.TrafficDirection_INBOUND,
			network(tcpFilter, tcpProxy(prefix, AppCluster, appRetries)))
	}
	manager := connectionManager(prefix, InboundListener)
	manager.HttpFilters = append([]*hcmv3.HttpFilter{limiter()}, manager.HttpFilters...)
	manager.StreamIdleTimeout = durationpb.New(0) // the caller's side has the deadline
	return listener(InboundListener, address, corev3.TrafficDirection_INBOUND, network(hcmFilter, manager))
}

// parkListener is where a proxy's own held requests ask again and again.
func parkListener(address netip.AddrPort) *listenerv3.Listener {
	return listener(parkName, address, corev3.TrafficDirection_OUTBOUND,
		network(hcmFilter, connectionManager(parkName, parkName)))
}

func listener(name string, address netip.AddrPort, direction corev3.TrafficDirection, filter *listenerv3.Filter,
) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name:             name,
		Address:          socketAddress(address),
		TrafficDirection: direction,
		// Without it a second Envoy on the same port would take half of the connections
		// instead of an error.
		EnableReusePort: wrapperspb.Bool(false),
		FilterChains:    []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{filter}}},
	}
}

func network(name string, config proto.Message) *listenerv3.Filter {
	return &listenerv3.Filter{Name: name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(config)}}
}

// connectionManager speaks HTTP/1.x, HTTP/2 (gRPC) and websockets on one port, and
// leaves what the application said as it was.
func connectionManager(prefix, routeConfig string) *hcmv3.HttpConnectionManager {
	return &hcmv3.HttpConnectionManager{
		StatPrefix: prefix,
		CodecType:  hcmv3.HttpConnectionManager_AUTO,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
			ConfigSource: aggregated(), RouteConfigName: routeConfig,
		}},
		HttpFilters: []*hcmv3.HttpFilter{{
			Name: routerFilter,
			ConfigType: &hcmv3.HttpFilter_TypedConfig{
				TypedConfig: pack(&routerv3.Router{SuppressEnvoyHeaders: true}),
			},
		}},
		UpgradeConfigs:             []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
		HttpProtocolOptions:        &corev3.Http1ProtocolOptions{AcceptHttp_10: true, DefaultHostForHttp_10: "sluice"},
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
		PreserveExternalRequestId:  true,
	}
}

// tcpProxy passes a connection on. Attempts are made again with back-off, which also
// holds new connections while their only endpoint refuses (parked or restarting).
func tcpProxy(prefix, cluster string, retries uint32) *tcpv3.TcpProxy {
	return &tcpv3.TcpProxy{
		StatPrefix:         prefix,
		ClusterSpecifier:   &tcpv3.TcpProxy_Cluster{Cluster: cluster},
		MaxConnectAttempts: wrapperspb.UInt32(retries + 1),
		BackoffOptions:     connectBackoff(),
	}
}

func accessLog(name string, config proto.Message) []*accesslogv3.AccessLog {
	return []*accesslogv3.AccessLog{{
		Name: name, ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: pack(config)},
	}}
}

func logConfig() *alsv3.CommonGrpcAccessLogConfig {
	return &alsv3.CommonGrpcAccessLogConfig{
		LogName:             LogName,
		TransportApiVersion: corev3.ApiVersion_V3,
		BufferFlushInterval: durationpb.New(logFlush),
		GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
			EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: xdsCluster},
		}},
	}
}
