package fakeplane

import (
	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/isa"
)

// Config implements server.ProxyConfigs: one resource a proxy.
func (p *Plane) Config(string) []*sluicev1.ProxyResource {
	return []*sluicev1.ProxyResource{{Type: "rtds", Name: "ov", Version: "c0ffee", Body: "{\n  \"name\": \"ov\"\n}\n"}}
}

// Overlaid implements server.ProxyConfigs: one key is on.
func (p *Plane) Overlaid(node string) []*sluicev1.ProxyChange {
	return []*sluicev1.ProxyChange{keyOn("", node)}
}

// Preview implements server.ProxyConfigs: each step turns one key on at the ingress, and
// one change is left off.
func (p *Plane) Preview(program *isa.Program, _ int) ([]*sluicev1.ProxyChange, int, error) {
	var changes []*sluicev1.ProxyChange
	for i := range program.Steps {
		changes = append(changes, keyOn(program.Steps[i].ID, "ingress"))
	}
	return changes, 1, nil
}

func keyOn(step isa.StepID, node string) *sluicev1.ProxyChange {
	return &sluicev1.ProxyChange{
		Step: string(step), Node: node, Type: "rtds", Name: "ov", Change: "changed",
		Diff: "...\n   \"layer\": {\n+    \"sl.hotel.geo.o\": 100\n   },\n...\n",
	}
}
