package plans

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

// foreign returns a fault for each step that names something outside of namespace.
func foreign(p *isa.Program, namespace string) []isa.Fault {
	var faults []isa.Fault
	outside := func(path string, names ...mesh.Service) {
		for _, name := range names {
			if name != "" && name.Namespace() != namespace {
				faults = append(faults, isa.Fault{
					Code: isa.CodeAuthz, Path: path, Reason: fmt.Sprintf("%s is not in namespace %s, where the plan is", name, namespace),
					Remedy: "create the plan in the control plane's namespace, if you may",
				})
			}
		}
	}
	for i := range p.Steps {
		path := fmt.Sprintf("steps[%d]", i)
		switch a := p.Steps[i].Action.(type) {
		case isa.Restart:
			outside(path, named(&a.Target)...)
		case isa.Drain:
			outside(path, append(named(&a.Target), a.To)...)
		case isa.CircuitBreak:
			outside(path, append(named(&a.Target), a.Caller)...)
		case isa.RateLimit:
			outside(path, append(named(&a.Target), a.Caller)...)
		case isa.Scale:
			outside(path, named(&a.Target)...)
		case isa.RollbackConfig:
			// "kind/namespace/name"; whatever else it is, it is not in this namespace.
			_, rest, _ := strings.Cut(a.Object, "/")
			outside(path, mesh.Service(rest+"/"))
		}
	}
	return faults
}

func named(t *isa.Target) []mesh.Service { return append(slices.Clone(t.Group), t.Service) }
