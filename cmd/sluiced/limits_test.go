package main

import (
	"io"
	"strings"
	"testing"

	"github.com/sluicemesh/sluice/microkernel"
)

func TestLimits(t *testing.T) {
	given := []string{"--state", "s", "--supervisor", "s", "--xds", "x"}
	for _, bad := range []string{"restarts=9", "restarts-per-service", "restarts-per-service=0", "restarts-per-service=1e3", "group-size=100001"} {
		var said strings.Builder
		if _, err := parse(append(given, "--limit", bad), &said); err == nil || !strings.Contains(said.String(), "want") {
			t.Errorf("--limit %s: error %v, said %q: want a remedy", bad, err, said.String())
		}
	}
	o, err := parse(append(given, "--limit", "restarts-per-service=20", "--limit", "drains-per-target=30"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	got, want := microkernel.DefaultPolicy(), microkernel.DefaultPolicy()
	o.limits.set(&got)
	if got.RestartsPerService != 20 || got.DrainsPerTarget != 30 || got.MaxGroupSize != want.MaxGroupSize {
		t.Errorf("policy is %+v", got)
	}
	if text := o.limits.String(); text != "drains-per-target=30 restarts-per-service=20" {
		t.Errorf("limits are printed as %q", text)
	}
}
