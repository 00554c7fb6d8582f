package otlp

import (
	"testing"

	"github.com/sluicemesh/sluice/mesh"
)

func TestServiceAt(t *testing.T) {
	for path, want := range map[string]mesh.Service{
		"/ns/hotel/svc/profile":   "hotel/profile",
		"/ns/hotel/sa/profile":    "hotel/profile",
		"/ns/hotel/svc/profile/x": "",
		"/ns/hotel/svc/":          "",
		"/ns/Hotel/svc/profile":   "",
		"/ns/hotel/x/profile":     "",
		"ns/hotel/svc/profile":    "",
		"/sluice/control-plane":   "",
		"":                        "",
	} {
		if got, found := ServiceAt(path); got != want || found != (want != "") {
			t.Errorf("%q: %q %v, want %q", path, got, found, want)
		}
	}
}
