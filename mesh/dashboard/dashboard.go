// Package dashboard serves the web page of Sluice: the live call graph, plans with
// their gates and proofs, symptoms and proxies. It only hands out embedded files; the
// page itself speaks to the API alone, with the token of whoever looks: what that may not
// do, the page cannot do either.
//
//	page/index.html   the frame
//	page/style.css    light and dark
//	page/api.js       token, calls, polling with back-off
//	page/layout.js    layers and coordinates of the graph, pure
//	page/graph.js     the graph as SVG
//	page/plan.js      the plan's timeline and the list of plans
//	page/tables.js    symptoms, service details and proxies
//	page/act.js       approve, abort, pause: asked for once more, then sent
//	page/report.js    the incident report of a plan
//	page/main.js      state, deep links, wiring
package dashboard

import (
	"embed"
	"net/http"
)

//go:embed page
var files embed.FS

// policy lets the page load its own files and talk to its own server, nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// Handler returns the handler of the page, to be mounted at "/". It needs no token:
// the page has no data in it.
func Handler() http.Handler {
	mux := http.NewServeMux()
	for _, name := range []string{
		"style.css", "api.js", "layout.js", "graph.js", "plan.js", "tables.js", "act.js", "report.js", "main.js",
		"icon.svg",
	} {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) { serve(w, r, name) })
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { serve(w, r, "index.html") })
	return mux
}

func serve(w http.ResponseWriter, r *http.Request, name string) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("Cache-Control", "no-cache")
	http.ServeFileFS(w, r, files, "page/"+name)
}
