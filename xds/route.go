package xds

import (
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluicemesh/sluice/mesh"
)

// retryAfter is what a shed request is told, in seconds.
const retryAfter = 5

// outRoutes sends an upstream's requests to the twin while its runtime key is on, else
// to the base; if ejects, to the cluster that ejects failing endpoints while that key is on.
func outRoutes(out mesh.Outbound, ejects bool) *routev3.RouteConfiguration {
	twin := forward(Twin(out.Service), out.Timeout, holdRetry())
	overlay := &routev3.Route{
		Name:   "overlay",
		Match:  while(everything(), overlayKey(out.Service)),
		Action: twin,
		// Removal comes before addition, so an application cannot choose the callee.
		RequestHeadersToRemove: []string{CalleeHeader, ParkHeader},
		RequestHeadersToAdd:    []*corev3.HeaderValueOption{header(CalleeHeader, string(out.Service))},
	}
	base := &routev3.Route{
		Name:                   "base",
		Match:                  everything(),
		Action:                 forward(string(out.Service), out.Timeout, nil),
		RequestHeadersToRemove: []string{CalleeHeader, ParkHeader},
	}
	refuse := answer("refuse", while(streams(out), refuseKey(out.Service)), header("retry-after", strconv.Itoa(retryAfter)))
	if !ejects {
		return routes(outName(out.Service), refuse, overlay, base)
	}
	breaker := &routev3.Route{
		Name:                   "break",
		Match:                  while(everything(), breakKey(out.Service)),
		Action:                 forward(Breaker(out.Service), out.Timeout, nil),
		RequestHeadersToRemove: []string{CalleeHeader, ParkHeader},
	}
	return routes(outName(out.Service), refuse, overlay, breaker, base)
}

// inRoutes sends everything to the application.
func inRoutes() *routev3.RouteConfiguration {
	return routes(InboundListener, &routev3.Route{
		Name:                   "app",
		Match:                  everything(),
		Action:                 forward(AppCluster, 0, appRetry()),
		RequestHeadersToRemove: []string{CalleeHeader, ParkHeader},
	})
}

// parkRoutes answers a proxy's own held requests, callee by callee: wait on, go away,
// or (the keys are off, the lease is gone) go to the base.
func parkRoutes(outbound []mesh.Outbound) *routev3.RouteConfiguration {
	var list []*routev3.Route
	for _, out := range outbound {
		hold := answer("hold "+string(out.Service), while(asCallee(out.Service), holdKey(out.Service)),
			header(ParkHeader, "1"))
		shed := answer("shed "+string(out.Service), while(asCallee(out.Service), shedKey(out.Service)),
			header("retry-after", strconv.Itoa(retryAfter)))
		list = append(list, hold, shed, &routev3.Route{
			Name:                   "base " + string(out.Service),
			Match:                  asCallee(out.Service),
			Action:                 forward(string(out.Service), out.Timeout, nil),
			RequestHeadersToRemove: []string{CalleeHeader},
		})
	}
	config := routes(parkName, list...)
	config.ResponseHeadersToRemove = nil // the proxy itself must see the park's header
	return config
}

// routes is a route configuration for any host.
func routes(name string, list ...*routev3.Route) *routev3.RouteConfiguration {
	return &routev3.RouteConfiguration{
		Name:                    name,
		VirtualHosts:            []*routev3.VirtualHost{{Name: name, Domains: []string{"*"}, Routes: list}},
		ResponseHeadersToRemove: []string{ParkHeader},
	}
}

// streams matches what may stay open for long: websockets and other upgrades, and all
// calls of an upstream whose requests have no deadline.
func streams(out mesh.Outbound) *routev3.RouteMatch {
	match := everything()
	if out.Timeout > 0 {
		match.Headers = []*routev3.HeaderMatcher{{
			Name: "upgrade", HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true},
		}}
	}
	return match
}

func everything() *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
}

// asCallee matches requests that were parked on the way to service.
func asCallee(service mesh.Service) *routev3.RouteMatch {
	match := everything()
	match.Headers = []*routev3.HeaderMatcher{{
		Name: CalleeHeader,
		HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_Exact{Exact: string(service)},
		}},
	}}
	return match
}

// while restricts match to the percentage that the runtime key holds, by default none.
func while(match *routev3.RouteMatch, key string) *routev3.RouteMatch {
	match.RuntimeFraction = &corev3.RuntimeFractionalPercent{
		DefaultValue: &typev3.FractionalPercent{Denominator: typev3.FractionalPercent_HUNDRED},
		RuntimeKey:   key,
	}
	return match
}

// forward sends to cluster; timeout 0 is unbounded, also when nothing moves (streams).
func forward(cluster string, timeout time.Duration, retry *routev3.RetryPolicy) *routev3.Route_Route {
	action := &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster},
		Timeout:          durationpb.New(timeout),
		RetryPolicy:      retry,
	}
	if timeout == 0 {
		action.IdleTimeout = durationpb.New(0)
	}
	return &routev3.Route_Route{Route: action}
}

// answer is a route that answers 503 by itself.
func answer(name string, match *routev3.RouteMatch, h *corev3.HeaderValueOption) *routev3.Route {
	return &routev3.Route{
		Name:                 name,
		Match:                match,
		Action:               &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 503}},
		ResponseHeadersToAdd: []*corev3.HeaderValueOption{h},
	}
}

func header(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}
