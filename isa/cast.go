package isa

import "github.com/sluicemesh/sluice/mesh"

// cast is the services that one program names, each looked up once.
type cast struct {
	env     *Env // nil = nothing is known of any
	limits  *Limits
	members []member
	last    int                  // the member that was found last
	index   map[mesh.Service]int // of large casts; small ones are searched
}

// member is one service of a cast.
type member struct {
	name   mesh.Service
	facts  *ServiceFacts // nil = it is not listed
	fault  string        // what is wrong with its name, "" = nothing
	guard  Code          // what keeps it from being a target, "" = nothing
	secret bool          // and policy does, so that whether it exists is not for the asker to learn
}

// smallCast is how many services are searched one by one.
const smallCast = 12

// begin empties k.
func (k *cast) begin(env *Env, limits *Limits) {
	k.end()
	k.env, k.limits = env, limits
}

// end empties k and lets go of the world.
func (k *cast) end() {
	clear(k.members)
	clear(k.index)
	k.env, k.members, k.last = nil, k.members[:0], 0
}

// find returns the number of service in k, -1 if it was not named yet.
func (k *cast) find(service mesh.Service) int {
	if k.last < len(k.members) && k.members[k.last].name == service {
		return k.last
	}
	if len(k.index) > 0 {
		if i, found := k.index[service]; found {
			return i
		}
		return -1
	}
	for i := range k.members {
		if k.members[i].name == service {
			k.last = i
			return i
		}
	}
	return -1
}

// number returns the number of service in k, and makes it a member if it was none.
func (k *cast) number(service mesh.Service) int {
	i := k.find(service)
	if i >= 0 {
		return i
	}
	i = len(k.members)
	m := member{name: service, fault: serviceFault(string(service))}
	if k.env != nil {
		m.facts = k.env.Find(service)
	}
	m.guard = k.limits.guard(service, false)
	m.secret = m.guard != ""
	if !m.secret && m.facts != nil && m.facts.Protected {
		m.guard = CodeProtected
	}
	k.members = append(k.members, m)
	if i == smallCast {
		if k.index == nil {
			k.index = make(map[mesh.Service]int)
		}
		for j := range k.members {
			k.index[k.members[j].name] = j
		}
	} else if i > smallCast {
		k.index[service] = i
	}
	return i
}

// member returns service as a member of k, valid until the next one is.
func (k *cast) member(service mesh.Service) *member { return &k.members[k.number(service)] }
