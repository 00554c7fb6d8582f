package local

import (
	"fmt"

	"github.com/sluicemesh/sluice/mesh"
)

// check notes faults that only show when all services are known. It needs
// well-formed parts only where it looks at them.
func (d *decoder) check(file *File) {
	first := make(map[mesh.Service]int)
	total := 0
	for i := range file.Services {
		s := &file.Services[i]
		path := fmt.Sprintf("services[%d]", i)
		total += s.Instances
		if s.Name == "" {
			continue
		}
		if before, twice := first[s.Name]; twice {
			d.at(path+".name", fmt.Sprintf("%s is already declared as services[%d]", s.Name, before),
				"rename or remove one of them")
			continue
		}
		first[s.Name] = i
	}
	if total > MaxAllInstances {
		d.at("services", fmt.Sprintf("has %d instances in all, at most %d are allowed", total, MaxAllInstances),
			"lower instances")
	}
	for i := range file.Services {
		path := fmt.Sprintf("services[%d]", i)
		d.checkUpstreams(&file.Services[i], path, first)
		d.checkCounts(&file.Services[i], path)
		d.checkPlaceholders(&file.Services[i], path)
	}
	if in := file.Ingress; in != nil && in.Service != "" {
		if _, found := first[in.Service]; !found {
			d.at("ingress.service", string(in.Service)+" is not declared", "declare it under services")
		}
	}
}

// checkUpstreams notes upstreams that are not declared, or the service itself.
func (d *decoder) checkUpstreams(s *Spec, path string, declared map[mesh.Service]int) {
	for _, up := range s.Upstreams {
		at := path + ".upstreams." + string(up.Service)
		if up.Service == s.Name {
			d.at(at, "is the service itself", "remove it; a process reaches itself at {port}")
			continue
		}
		if _, found := declared[up.Service]; !found {
			d.at(at, string(up.Service)+" is not declared", "declare it under services or correct the name")
		}
	}
}

// checkCounts notes floors above the number of instances.
func (d *decoder) checkCounts(s *Spec, path string) {
	if s.MinAvailable > s.Instances {
		d.at(path+".minAvailable", fmt.Sprintf("%d is above instances, %d", s.MinAvailable, s.Instances),
			"lower it or raise instances")
	}
	if s.Quorum > s.Instances {
		d.at(path+".quorum", fmt.Sprintf("%d is above instances, %d", s.Quorum, s.Instances), "lower it or raise instances")
	}
}

// checkPlaceholders notes placeholders in command and env that mean nothing.
func (d *decoder) checkPlaceholders(s *Spec, path string) {
	known := func(name mesh.Service) bool {
		for _, up := range s.Upstreams {
			if up.Service == name {
				return true
			}
		}
		return false
	}
	for i, arg := range s.Command {
		if reason, remedy := placeholderFault(arg, known); reason != "" {
			d.at(fmt.Sprintf("%s.command[%d]", path, i), reason, remedy)
		}
	}
	for _, v := range s.Env {
		if reason, remedy := placeholderFault(v.Value, known); reason != "" {
			d.at(join(path+".env", v.Name), reason, remedy)
		}
	}
}
