package microkernel

// pause stops everything, or one plan, from beginning anything new but restores.
func (t *turn) pause(ev Paused) {
	if !operates(ev.By) {
		return
	}
	reason := "by " + ev.By.Name
	if ev.Reason != "" {
		reason += ": " + ev.Reason
	}
	if ev.Plan == "" {
		t.paused = reason
		return
	}
	if p := t.edit(ev.Plan); p != nil && !p.Phase.Final() {
		p.paused = reason
	}
}

// resume ends a pause; by an admin also a freeze, of everything or of one plan.
func (t *turn) resume(ev Resumed) {
	if !operates(ev.By) {
		return
	}
	if ev.Plan != "" {
		t.resumePlan(ev)
		return
	}
	t.paused = ""
	if ev.By.Role == Admin {
		t.frozen = ""
	}
	for _, q := range t.plans {
		if p := t.edit(q.ID); p != nil {
			t.advance(p)
		}
	}
}

func (t *turn) resumePlan(ev Resumed) {
	p := t.edit(ev.Plan)
	if p == nil {
		return
	}
	p.paused = ""
	if p.Phase != Frozen {
		t.advance(p)
		return
	}
	if ev.By.Role != Admin {
		return
	}
	p.Phase = Compensating
	p.Ended = 0
	for i := range p.steps {
		s := &p.steps[i]
		s.undoing, s.gaveUp, s.attempts = false, false, 0
	}
	t.undo(p)
}

func operates(by Principal) bool { return by.Role == Approver || by.Role == Admin }
