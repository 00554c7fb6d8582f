package microkernel

// Judge says what the verdict on a program would be, without taking it in: what Step
// answers to a Submitted that passes the door, before the mode turns an admission into
// less. It keeps its memory, so that one which is warm admits a program without allocating,
// but for ids of expanded steps that it has not made of late. The zero value is ready. A
// Judge is not safe for concurrent use.
type Judge struct {
	plan      plan
	judgement judgement
}

// Verdict judges ev in state s. It reads both and keeps neither.
func (j *Judge) Verdict(s *State, ev *Submitted) Verdict {
	j.plan.ID, j.plan.Proposer, j.plan.Written = PlanID(ev.Program.ID), ev.By, ev.Program
	j.plan.View, j.plan.Proposed = ev.View, s.now
	j.judgement.examine(s, &j.plan, budgeted)
	verdict := j.judgement.verdict(ev.View.Epoch)
	j.plan = plan{}
	return verdict
}
