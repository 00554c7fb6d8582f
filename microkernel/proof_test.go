package microkernel_test

import (
	"testing"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// TestGrade changes one fact at a time of a perfect proof.
func TestGrade(t *testing.T) {
	perfect := mesh.Proof{Generation: 4, Required: 3, Acked: 3, Reported: 3, Quiet: 50 * time.Millisecond}
	tests := map[string]struct {
		change func(*mesh.Proof)
		want   mesh.Grade
	}{
		"perfect":                              {func(*mesh.Proof) {}, mesh.GradeA},
		"nobody calls it":                      {func(p *mesh.Proof) { p.Required, p.Acked, p.Reported = 0, 0, 0 }, mesh.GradeA},
		"one proxy has not ACKed":              {func(p *mesh.Proof) { p.Acked = 2 }, mesh.GradeD},
		"one has not, but it is quiet for 2 s": {func(p *mesh.Proof) { p.Acked, p.Quiet = 2, 2*time.Second }, mesh.GradeC},
		"one has not reported":                 {func(p *mesh.Proof) { p.Reported = 2 }, mesh.GradeB},
		"one request at the callers":           {func(p *mesh.Proof) { p.InFlight = 1 }, mesh.GradeD},
		"one request at the target":            {func(p *mesh.Proof) { p.Inbound = 1 }, mesh.GradeD},
		"no proxy at the target":               {func(p *mesh.Proof) { p.Inbound = -1 }, mesh.GradeD},
		"no proxy, quiet for 2 s":              {func(p *mesh.Proof) { p.Inbound, p.Quiet = -1, 2*time.Second }, mesh.GradeC},
		"no proxy anywhere":                    {func(p *mesh.Proof) { *p = mesh.Proof{Generation: 4, Inbound: -1, Quiet: time.Hour} }, mesh.GradeD},
		"quiet too briefly":                    {func(p *mesh.Proof) { p.Quiet = 49 * time.Millisecond }, mesh.GradeD},
		"an older generation":                  {func(p *mesh.Proof) { p.Generation = 3 }, mesh.GradeD},
		"a later generation":                   {func(p *mesh.Proof) { p.Generation = 5 }, mesh.GradeD},
		"lapsed":                               {func(p *mesh.Proof) { p.Lapsed = true }, mesh.GradeD},
		"more ACKs than proxies":               {func(p *mesh.Proof) { p.Acked = 4 }, mesh.GradeD},
		"fewer than no requests":               {func(p *mesh.Proof) { p.InFlight = -1 }, mesh.GradeD},
		"fewer than no requests at the target": {func(p *mesh.Proof) { p.Inbound = -2 }, mesh.GradeD},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			proof := perfect
			test.change(&proof)
			if got := microkernel.Grade(proof, 4, 50*time.Millisecond); got != test.want {
				t.Errorf("grade %s, want %s", got, test.want)
			}
		})
	}
}
