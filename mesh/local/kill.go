package local

import (
	"net/http"
	"slices"
	"strings"
	"syscall"
)

// signals are those that may be sent to a child, by name.
func signals() map[string]syscall.Signal {
	return map[string]syscall.Signal{
		"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "KILL": syscall.SIGKILL,
		"USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "TERM": syscall.SIGTERM,
		"STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT,
	}
}

// kill signals the process group of the child that order names.
func (s *supervisor) kill(order killOrder) error {
	signal, known := signals()[strings.TrimPrefix(order.Signal, "SIG")]
	if !known {
		return refused(http.StatusBadRequest,
			"signal %s is unknown; use HUP, INT, QUIT, KILL, USR1, USR2, TERM, STOP or CONT", quote(order.Signal))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	processes := make(map[string]*process)
	names := make([]string, 0, len(s.apps)+len(s.daemons))
	for _, a := range s.apps {
		processes[a.child] = a.proc
		names = append(names, a.child)
	}
	for _, d := range s.daemons {
		processes[d.name] = d.proc
		names = append(names, d.name)
	}
	name, err := Resolve(order.Name, names)
	if err != nil {
		return err
	}
	p := processes[name]
	if !p.alive() {
		return refused(http.StatusConflict, "%s does not run", name)
	}
	s.log.Info("child is signalled on request", "child", name, "pid", p.PID, "signal", order.Signal)
	p.signal(signal)
	return nil
}

// Resolve returns the one of names that text means: itself, with a slash for a dot
// (shop/cart-0), or without its namespace (cart-0, cart-0.envoy, ingress). The
// error is a *RefusedError.
func Resolve(text string, names []string) (string, error) {
	full := strings.ReplaceAll(text, "/", ".")
	if slices.Contains(names, full) {
		return full, nil
	}
	var found []string
	for _, name := range names {
		if _, rest, _ := strings.Cut(name, "."); full != "" && rest == full {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	switch len(found) {
	case 0:
		return "", refused(http.StatusNotFound, "no child is called %s; `sluice local ps` lists them", quote(text))
	case 1:
		return found[0], nil
	}
	return "", refused(http.StatusConflict, "%s is ambiguous: %s", quote(text), strings.Join(found, ", "))
}
