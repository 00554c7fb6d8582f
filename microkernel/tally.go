package microkernel

import "github.com/sluicemesh/sluice/mesh"

// tally counts how often each UID comes up. Its memory is used again.
type tally struct {
	uids   []mesh.UID
	counts []int
	index  map[mesh.UID]int // of many; few are searched one by one
}

// fewUIDs is how many are searched one by one.
const fewUIDs = 16

func (t *tally) reset() {
	t.uids, t.counts = t.uids[:0], t.counts[:0]
	clear(t.index)
}

// add counts uid once more, and returns how often it came up.
func (t *tally) add(uid mesh.UID) int {
	i := t.find(uid)
	if i < 0 {
		i = len(t.uids)
		t.uids, t.counts = append(t.uids, uid), append(t.counts, 0)
		t.remember(i)
	}
	t.counts[i]++
	return t.counts[i]
}

func (t *tally) find(uid mesh.UID) int {
	if len(t.index) > 0 {
		if i, found := t.index[uid]; found {
			return i
		}
		return -1
	}
	for i := range t.uids {
		if t.uids[i] == uid {
			return i
		}
	}
	return -1
}

// remember puts number i into the index; the first one that is too many brings those before it.
func (t *tally) remember(i int) {
	if i < fewUIDs {
		return
	}
	if t.index == nil {
		t.index = make(map[mesh.UID]int)
	}
	if i == fewUIDs {
		for k := range i {
			t.index[t.uids[k]] = k
		}
	}
	t.index[t.uids[i]] = i
}
