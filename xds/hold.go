package xds

import (
	"math"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// A request is held by being retried: Envoy waits a uniformly random time in
// [0, interval) before each retry, and interval doubles from base to ceiling.
const (
	backoffBase    = 25 * time.Millisecond
	backoffCeiling = 250 * time.Millisecond
	holdRetries    = 160 // for MaxHold, see HoldCovers
	appRetries     = 30  // about 3 s for a sidecar's own application
)

// MaxHold is the longest hold that HoldCovers promises.
const MaxHold = 15 * time.Second

// HoldCovers reports whether a request that is parked is still being retried after d,
// but for one in 10,000 (four standard deviations of the sum of its back-offs).
func HoldCovers(d time.Duration) bool { return d <= holdFor(holdRetries) }

// holdFor returns for how long n retries last: mean less four standard deviations.
func holdFor(n int) time.Duration {
	var mean, variance float64
	interval := backoffBase.Seconds()
	for range n {
		mean += interval / 2
		variance += interval * interval / 12
		interval = math.Min(2*interval, backoffCeiling.Seconds())
	}
	return time.Duration((mean - 4*math.Sqrt(variance)) * float64(time.Second))
}

// holdRetry is the retry policy of the overlay route. Every condition means that no
// application has seen the request, so a POST is safe.
func holdRetry() *routev3.RetryPolicy {
	policy := appRetry()
	policy.RetryOn = "connect-failure,refused-stream,retriable-headers"
	policy.NumRetries = wrapperspb.UInt32(holdRetries)
	policy.RetriableHeaders = []*routev3.HeaderMatcher{{
		Name:                 ParkHeader,
		HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true},
	}}
	return policy
}

// appRetry lets a sidecar wait for its own application while that starts. It is what
// keeps the base whole when a lease lapses during a restart.
func appRetry() *routev3.RetryPolicy {
	return &routev3.RetryPolicy{
		RetryOn:    "connect-failure,refused-stream,reset-before-request",
		NumRetries: wrapperspb.UInt32(appRetries),
		RetryBackOff: &routev3.RetryPolicy_RetryBackOff{
			BaseInterval: durationpb.New(backoffBase),
			MaxInterval:  durationpb.New(backoffCeiling),
		},
	}
}

// connectBackoff is the same back-off for the connect attempts of raw TCP.
func connectBackoff() *corev3.BackoffStrategy {
	return &corev3.BackoffStrategy{
		BaseInterval: durationpb.New(backoffBase),
		MaxInterval:  durationpb.New(backoffCeiling),
	}
}
