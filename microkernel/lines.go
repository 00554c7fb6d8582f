package microkernel

import "github.com/sluicemesh/sluice/isa"

// line returns the line with id, -1 if there is none.
func (j *judgement) line(id isa.StepID) int {
	for i := range j.list.Lines {
		if j.list.Lines[i].ID == id {
			return i
		}
	}
	return -1
}

// apart reports whether drain i is given back before step k begins.
func (j *judgement) apart(i, k int) bool {
	r := j.restore(j.list.Lines[i].ID)
	return r >= 0 && j.checker.Precedes(r, k)
}

// restore returns the line that gives back drain, -1 if there is none.
func (j *judgement) restore(drain isa.StepID) int {
	for i := range j.list.Lines {
		if line := &j.list.Lines[i]; line.Op == isa.OpRestore && j.list.Restores[line.At].Drain == drain {
			return i
		}
	}
	return -1
}

// together reports whether lines i and k may be under way at once.
func (j *judgement) together(i, k int) bool {
	return !j.checker.Precedes(i, k) && !j.checker.Precedes(k, i)
}
