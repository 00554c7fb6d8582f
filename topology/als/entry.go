package als

import (
	"net/netip"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"

	"github.com/sluicemesh/sluice/topology"
)

// Bounds on what an entry may say about time.
const (
	// MaxSkew is how far an entry's end may be from our clock; beyond, it shows that
	// the edge exists and nothing else.
	MaxSkew = time.Minute
	// Patience is how long a caller must have waited before its giving up is the
	// callee's failure and not the caller's choice.
	Patience = time.Second
)

// fromHTTP reads one request. The caller is left to the stream.
func fromHTTP(entry *datav3.HTTPAccessLogEntry, now time.Time) (topology.Call, bool) {
	common := entry.GetCommonProperties()
	call, known := fromCommon(common, now)
	if !known {
		return call, false
	}
	code := entry.GetResponse().GetResponseCode().GetValue()
	if code == 101 {
		// An upgraded connection lives as long as its user likes.
		call.Latency = common.GetTimeToFirstUpstreamRxByte().AsDuration()
	}
	if common.GetIntermediateLogEntry() { //nolint:staticcheck // deprecated, and still what Envoy 1.40 sets
		call.Existence = true
	}
	call.Failed = code >= 500 || failedFlags(common.GetResponseFlags()) ||
		failedGRPC(entry.GetResponse()) || unanswered(code, call.Latency, common.GetResponseFlags())
	return call, true
}

// fromTCP reads one entry of a connection: it counts when the upstream is connected, and
// when it ends if it failed. In between it shows that the edge exists.
func fromTCP(entry *datav3.TCPAccessLogEntry, now time.Time) (topology.Call, bool) {
	common := entry.GetCommonProperties()
	call, known := fromCommon(common, now)
	if !known {
		return call, false
	}
	call.Connection = true
	call.Failed = failedFlags(common.GetResponseFlags())
	connected := common.GetAccessLogType() == datav3.AccessLogType_TcpUpstreamConnected
	if !connected && !call.Failed {
		call.Existence = true
	}
	// A connection's life says nothing about speed; the time to connect does.
	call.Latency = common.GetTimeToFirstUpstreamTxByte().AsDuration()
	return call, true
}

// fromCommon reads what requests and connections share; false if the upstream is no
// service of the mesh.
func fromCommon(common *datav3.AccessLogCommon, now time.Time) (topology.Call, bool) {
	callee, known := calleeOf(common.GetUpstreamCluster())
	if !known {
		return topology.Call{}, false
	}
	call := topology.Call{
		Callee: callee, Source: topology.AccessLog,
		Instance: address(common.GetUpstreamRemoteAddress()), Latency: latency(common),
	}
	call.At = common.GetStartTime().AsTime().Add(call.Latency)
	if away := now.Sub(call.At); common.GetStartTime() == nil || call.Latency < 0 || away > MaxSkew || away < -MaxSkew {
		call.At, call.Existence = now, true
	}
	return call, true
}

// latency returns the time until the caller had its answer.
func latency(common *datav3.AccessLogCommon) time.Duration {
	switch {
	case common.GetDuration() != nil:
		return common.GetDuration().AsDuration()
	case common.GetTimeToLastDownstreamTxByte() != nil:
		return common.GetTimeToLastDownstreamTxByte().AsDuration()
	}
	return common.GetTimeToLastUpstreamRxByte().AsDuration()
}

// failedFlags reports whether Envoy says that the upstream did not serve the call.
func failedFlags(f *datav3.ResponseFlags) bool {
	return f.GetNoHealthyUpstream() || f.GetUpstreamRequestTimeout() || f.GetLocalReset() ||
		f.GetUpstreamRemoteReset() || f.GetUpstreamConnectionFailure() ||
		f.GetUpstreamConnectionTermination() || f.GetUpstreamOverflow() ||
		f.GetUpstreamRetryLimitExceeded() || f.GetStreamIdleTimeout() || f.GetDurationTimeout() ||
		f.GetUpstreamMaxStreamDurationReached() || f.GetUpstreamProtocolError() ||
		f.GetFailedLocalHealthcheck() || f.GetNoClusterFound()
}

// failedGRPC reports whether grpc-status, if it was logged, is one of those for which
// OpenTelemetry blames the server.
func failedGRPC(response *datav3.HTTPResponseProperties) bool {
	code, found := response.GetResponseTrailers()["grpc-status"]
	if !found {
		code = response.GetResponseHeaders()["grpc-status"]
	}
	switch code {
	case "2", "4", "12", "13", "14", "15":
		return true
	}
	return false
}

// unanswered reports whether the caller gave up without an answer, after Patience.
func unanswered(code uint32, waited time.Duration, flags *datav3.ResponseFlags) bool {
	gone := flags.GetDownstreamConnectionTermination() || flags.GetDownstreamRemoteReset()
	return code == 0 && (!gone || waited >= Patience)
}

// address returns "ip:port", "" for anything else.
func address(a *corev3.Address) string {
	socket := a.GetSocketAddress()
	ip, err := netip.ParseAddr(socket.GetAddress())
	if err != nil || socket.GetPortValue() > 65535 {
		return ""
	}
	return netip.AddrPortFrom(ip, uint16(socket.GetPortValue())).String()
}
