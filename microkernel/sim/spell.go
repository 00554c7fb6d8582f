package sim

import (
	"fmt"
	"strings"

	"github.com/sluicemesh/sluice/microkernel"
)

func effectName(e microkernel.Effect) string {
	return strings.TrimPrefix(fmt.Sprintf("%T", e), "microkernel.")
}

func spellEffect(e microkernel.Effect) string {
	switch e := e.(type) {
	case microkernel.Answer:
		return fmt.Sprintf("Answer %s %s %s %v", e.Plan, e.Verdict.Outcome, e.Verdict.Code, e.Verdict.Faults)
	case microkernel.Apply:
		return fmt.Sprintf("Apply %s/%s %s generation %d %+v", e.Plan, e.Step, e.Overlay.Key.Callee, e.Overlay.Generation, e.Overlay.Drain)
	}
	return fmt.Sprintf("%s %+v", effectName(e), e)
}

func spellEvent(ev microkernel.Event) string {
	name := strings.TrimPrefix(fmt.Sprintf("%T", ev), "microkernel.")
	switch ev := ev.(type) {
	case microkernel.Submitted:
		return fmt.Sprintf("%s by %s %+v", name, ev.By.Name, ev.Program)
	case microkernel.Viewed:
		return fmt.Sprintf("%s %s %s", name, ev.Plan, ev.View.Epoch)
	case microkernel.Approved:
		return fmt.Sprintf("%s %s by %s", name, ev.Plan, ev.By.Name)
	case microkernel.Probed:
		return fmt.Sprintf("%s %d overlays", name, len(ev.Overlays))
	}
	return fmt.Sprintf("%s %+v", name, ev)
}
