package server

import (
	"net"
	"net/http"
	"slices"
	"strings"
)

// guard sets the security headers and refuses requests that a web page of somebody
// else may have sent: those for a host name that is not ours (DNS rebinding) and
// cross-origin ones.
func guard(hosts []string, next http.Handler) http.Handler {
	allowed := []string{"localhost", "127.0.0.1", "::1"}
	for _, host := range hosts {
		allowed = append(allowed, strings.ToLower(hostname(host)))
	}
	sameOrigin := http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secure(w.Header())
		if !slices.Contains(allowed, strings.ToLower(hostname(r.Host))) {
			http.Error(w, "this host name is not served here: use the address that the server listens on",
				http.StatusMisdirectedRequest)
			return
		}
		sameOrigin.ServeHTTP(w, r)
	})
}

// secure sets headers for every answer; a handler may replace them.
func secure(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cache-Control", "no-store")
}

// hostname returns authority without its port and brackets.
func hostname(authority string) string {
	if host, _, err := net.SplitHostPort(authority); err == nil {
		return host
	}
	return strings.Trim(authority, "[]")
}
