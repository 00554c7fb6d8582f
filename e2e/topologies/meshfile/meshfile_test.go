package meshfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWrite(t *testing.T) {
	out := filepath.Join(t.TempDir(), "mesh.yaml")
	settings := Settings{Topology: filepath.Join("..", "hotel.yaml"), App: "bin/e2e-app", Faults: "/f", Out: out}
	topology, err := Write(settings)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"service: hotel/memcached-profile\n          timeout: 12s\n          sticky: true",
		"UPSTREAM_hotel_memcached_profile: '{upstream:hotel/memcached-profile}'",
		"E2E_FAULTS: /f",
		"objective: {errors: 1%, p99: 500ms}",
		"service: hotel/attractions\n          timeout: 0s",
		"instances: 3",
		"protocol: tcp",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the mesh file lacks %q", want)
		}
	}
	if n := strings.Count(string(text), "command:"); n != len(topology.Services) {
		t.Errorf("%d services in the mesh file, want %d", n, len(topology.Services))
	}
	if strings.Contains(string(text), "[bin/") {
		t.Error("the binary's path is relative")
	}
}

func TestFindNamesTheRemedy(t *testing.T) {
	if _, err := Find("nowhere"); err == nil || !strings.Contains(err.Error(), "repository's root") {
		t.Errorf("error is %v, want the remedy", err)
	}
}
