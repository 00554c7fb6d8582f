// Package lease knows how long overlays may stay. A lease is granted and extended by
// the leader; while it runs, the server renews the overlay's TTL at each proxy by
// heartbeats, and when it has run out the server withdraws the overlay itself. The TTL
// at the proxies is the lease's shadow: it ends the overlay when no server is left. It
// is not for timing anything: it reads no clock and starts no timer.
//
//	a proxy:  (nothing armed) -Armed-> armed -Renewed-> armed
//	          armed -no renewal within the TTL, or a renewal refused-> lapsed
//	          lapsed -Armed (a new generation)-> armed;  any -Disarmed-> (nothing armed)
package lease
