package xds

import (
	"math"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluicemesh/sluice/mesh"
)

const (
	limitFilter     = "envoy.filters.http.local_ratelimit"
	limitStat       = "sluice_limit"
	limitRetryAfter = "1"                   // seconds, what a refused request is told
	leastFill       = 50 * time.Millisecond // Envoy's shortest interval of refilling
	longestFill     = 24 * time.Hour
)

// limiter is the filter that every HTTP listener has from the start; it does nothing
// until a route configuration brings a bucket and the runtime turns it on.
func limiter() *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: limitFilter, ConfigType: &hcmv3.HttpFilter_TypedConfig{
		TypedConfig: pack(&ratelimitv3.LocalRateLimit{StatPrefix: limitStat}),
	}}
}

// limited gives all routes of config one bucket, which is in use while the runtime key
// is on: so it ends with the lease. A limit of nil changes nothing.
func limited(config *routev3.RouteConfiguration, limit *share, key string) *routev3.RouteConfiguration {
	if limit == nil {
		return config
	}
	percent := func(n uint32) *corev3.RuntimeFractionalPercent {
		return &corev3.RuntimeFractionalPercent{
			RuntimeKey:   key,
			DefaultValue: &typev3.FractionalPercent{Numerator: n, Denominator: typev3.FractionalPercent_HUNDRED},
		}
	}
	filter := &ratelimitv3.LocalRateLimit{
		StatPrefix:                     limitStat,
		TokenBucket:                    limit.bucket(),
		FilterEnabled:                  percent(0),
		FilterEnforced:                 percent(100),
		ResponseHeadersToAdd:           []*corev3.HeaderValueOption{header("retry-after", limitRetryAfter)},
		RateLimitedAsResourceExhausted: true, // for gRPC; others get 429
	}
	for _, host := range config.GetVirtualHosts() {
		host.TypedPerFilterConfig = map[string]*anypb.Any{limitFilter: pack(filter)}
	}
	return config
}

// share is one proxy's part of a rate limit.
type share struct {
	perSecond float64
	burst     uint32
}

// sharers counts the proxies among which a limit on key is divided, at least 1. A limit
// on all callers is kept by the callee's own proxies, which share its requests evenly; one
// on an edge by the proxies of that caller.
func sharers(world *mesh.World, key mesh.OverlayKey) int {
	n := 0
	if key.Caller != "" {
		for i := range world.Proxies {
			if Concerns(key, &world.Proxies[i]) {
				n++
			}
		}
		return max(n, 1)
	}
	state := world.Find(key.Callee)
	if state == nil {
		return 1
	}
	if n = state.ReadyCount(); n == 0 {
		n = len(state.Instances)
	}
	return max(n, 1)
}

// shareOf is what one of n proxies may let pass; nil for no limit.
func shareOf(limit *mesh.LimitOverlay, n int) *share {
	if limit == nil {
		return nil
	}
	burst := float64(limit.Burst)
	if burst == 0 {
		burst = limit.PerSecond
	}
	return &share{
		perSecond: limit.PerSecond / float64(n),
		burst:     uint32(min(max(math.Ceil(burst/float64(n)), 1), math.MaxUint32)),
	}
}

// bucket refills as rarely as it must, and by as little, for the rate to be met.
func (s *share) bucket() *typev3.TokenBucket {
	tokens := min(max(math.Ceil(s.perSecond*leastFill.Seconds()), 1), math.MaxUint32)
	interval := min(tokens/s.perSecond, longestFill.Seconds())
	return &typev3.TokenBucket{
		MaxTokens:     max(s.burst, uint32(tokens)),
		TokensPerFill: wrapperspb.UInt32(uint32(tokens)),
		FillInterval:  durationpb.New(time.Duration(interval * float64(time.Second)).Round(time.Microsecond)),
	}
}
