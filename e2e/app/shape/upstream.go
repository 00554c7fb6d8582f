package shape

import (
	"cmp"
	"slices"
	"time"
)

// Upstream is what a service needs of another, over all its operations.
type Upstream struct {
	Name    string
	Timeout time.Duration // longest of its calls; 0 = unbounded (a stream)
	Sticky  bool          // the service holds a session of it
}

// Upstreams lists what s calls, sorted by name.
func (s *Service) Upstreams() []Upstream {
	found := map[string]Upstream{}
	add := func(name string, timeout time.Duration, stream bool) {
		upstream, known := found[name]
		unbounded := stream || (known && upstream.Timeout == 0)
		upstream.Name, upstream.Sticky = name, name == s.Session
		upstream.Timeout = max(upstream.Timeout, timeout)
		if unbounded {
			upstream.Timeout = 0
		}
		found[name] = upstream
	}
	for _, steps := range s.Operations {
		for _, step := range steps {
			for _, call := range step.Calls() {
				add(call.To, call.Timeout, call.Via == Stream)
			}
		}
	}
	for _, store := range s.ReadsOnce {
		add(store, DefaultTimeout, false)
	}
	if s.Session != "" {
		add(s.Session, DefaultTimeout, false)
	}
	list := make([]Upstream, 0, len(found))
	for _, upstream := range found {
		list = append(list, upstream)
	}
	slices.SortFunc(list, func(a, b Upstream) int { return cmp.Compare(a.Name, b.Name) })
	return list
}
