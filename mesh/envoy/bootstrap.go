package envoy

import (
	"encoding/json"
	"net/netip"
	"strconv"
	"time"
)

// DrainTime is how long Envoy lets what runs over a replaced listener finish before
// it cuts it; Args passes it on. It bounds the stream policy "cut".
const DrainTime = 2 * time.Second

// Cluster is the name of the bootstrap's cluster that reaches the control plane:
// ADS, load reports and access logs all go over it.
const Cluster = "sluice_xds"

// Layer is the name of the runtime layer that carries overlays (RTDS, with TTL).
const Layer = "ov"

// Options is what a bootstrap depends on.
type Options struct {
	Node      string         // xDS node id
	Cluster   string         // the service that the proxy stands beside, "ns/name"
	Admin     netip.AddrPort // admin interface, on loopback
	XDSSocket string         // path of the control plane's Unix socket
	TLS       *TLS           // instead of XDSSocket; nil = the socket
	DrainTime time.Duration  // told to the control plane as node metadata; 0 = DrainTime
}

// object is a JSON object; encoding/json sorts its keys, so bytes are stable.
type object = map[string]any

// Bootstrap returns the JSON bootstrap for o. Equal options give equal bytes.
func Bootstrap(o Options) []byte {
	drain := o.DrainTime
	if drain == 0 {
		drain = DrainTime
	}
	ads := object{"ads": object{}, "resource_api_version": "V3"}
	config := object{
		"node": object{
			"id": o.Node, "cluster": o.Cluster,
			"metadata": object{"sluice.drain_time_s": drain.Seconds()},
		},
		"admin": object{"address": socketAddress(o.Admin)},
		"dynamic_resources": object{
			"ads_config": grpcSource("DELTA_GRPC"),
			"cds_config": ads,
			"lds_config": ads,
		},
		"overload_manager": object{"resource_monitors": []any{connectionLimit()}},
		"cluster_manager":  object{"load_stats_config": grpcSource("GRPC")},
		"static_resources": object{"clusters": []any{controlPlane(o)}},
		"layered_runtime": object{"layers": []any{
			object{"name": "base", "static_layer": object{}},
			object{"name": Layer, "rtds_layer": object{"name": Layer, "rtds_config": ads}},
			object{"name": "admin", "admin_layer": object{}},
		}},
	}
	out, err := json.MarshalIndent(config, "", " ")
	if err != nil {
		panic("envoy: bootstrap of plain values does not marshal: " + err.Error())
	}
	return append(out, '\n')
}

// connectionLimit is out of reach; without any, Envoy warns at each start.
func connectionLimit() object {
	const kind = "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
	return object{
		"name": "envoy.resource_monitors.global_downstream_max_connections",
		"typed_config": object{
			"@type": "type.googleapis.com/" + kind, "max_active_downstream_connections": 1_000_000,
		},
	}
}

// grpcSource is an ApiConfigSource over the control plane's cluster.
func grpcSource(kind string) object {
	source := object{
		"api_type": kind, "transport_api_version": "V3",
		"grpc_services": []any{object{"envoy_grpc": object{
			"cluster_name": Cluster,
			"retry_policy": object{"retry_back_off": object{
				"base_interval": duration(reconnectBase), "max_interval": duration(reconnectMost),
			}},
		}}},
	}
	if kind == "DELTA_GRPC" {
		source["set_node_on_first_message_only"] = true
	}
	return source
}

// Back-off of a proxy that has lost its control plane. Envoy's own goes up to 30 s, and for as
// long a plan waits for that proxy's ACK after a short restart.
const (
	reconnectBase = 200 * time.Millisecond
	reconnectMost = 2 * time.Second
)

// duration spells d as protobuf's JSON does.
func duration(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
}

// controlPlane is the HTTP/2 cluster behind the Unix socket, or over TLS.
func controlPlane(o Options) object {
	const protocols = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
	endpoint := object{"endpoint": object{"address": object{"pipe": object{"path": o.XDSSocket}}}}
	cluster := object{
		"name": Cluster, "type": "STATIC", "connect_timeout": "1s",
		"typed_extension_protocol_options": object{protocols: object{
			"@type":                "type.googleapis.com/" + protocols,
			"explicit_http_config": object{"http2_protocol_options": object{}},
		}},
		"load_assignment": object{
			"cluster_name": Cluster,
			"endpoints":    []any{object{"lb_endpoints": []any{endpoint}}},
		},
	}
	if o.TLS != nil {
		return o.TLS.over(cluster)
	}
	return cluster
}

// socketAddress is an Envoy Address for a.
func socketAddress(a netip.AddrPort) object {
	return object{"socket_address": object{"address": a.Addr().String(), "port_value": a.Port()}}
}

// Args returns the arguments, after the program's name, that run the bootstrap at
// path: so many workers, no hot restart (so no shared memory and no base id), DrainTime.
func Args(path string, workers int) []string {
	return []string{
		"-c", path, "--concurrency", strconv.Itoa(max(1, workers)), "--disable-hot-restart", "-l", "warning",
		"--drain-time-s", strconv.Itoa(int(DrainTime / time.Second)),
	}
}
