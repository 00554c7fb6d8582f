package local

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// order says what process to start.
type order struct {
	Name        string
	Role        Role
	Path        string   // of the program, absolute
	Argv        []string // with the program's name
	Env         []string // besides what is inherited
	Dir         string   // "" = the state directory
	Salt        []byte   // further content that makes it another process: a bootstrap
	Incarnation uint64   // applications only
	Restarts    int
}

// digest tells orders apart by what they would run.
func (o *order) digest() string {
	hash := sha256.New()
	fmt.Fprintf(hash, "%q %q %q %q %q", o.Path, o.Argv, o.Env, o.Dir, o.Salt)
	return hex.EncodeToString(hash.Sum(nil)[:16])
}

// record is children/NAME.json: enough to adopt a child.
type record struct {
	Name        string    `json:"name"`
	Role        Role      `json:"role"`
	PID         int       `json:"pid"`
	Start       uint64    `json:"start"` // clock ticks since boot
	Boot        string    `json:"boot"`  // of the machine: ticks count from it
	Digest      string    `json:"digest"`
	Incarnation uint64    `json:"incarnation"`
	Restarts    int       `json:"restarts"`
	Started     time.Time `json:"started"`
}

// process is a living child, or one that has just ended.
type process struct {
	record
	own  *os.Process   // nil = adopted
	done chan struct{} // closed when it and its process group are gone
	exit string        // how it ended; valid once done is closed
	log  string        // path
	from int64         // where its own lines begin in the log
}

// nursery starts, records and adopts the children of one state directory.
type nursery struct {
	dir    string
	marker string // in the environment of every child
	boot   string
	log    *slog.Logger
	now    func() time.Time
}

// newNursery returns the nursery of dir.
func newNursery(dir string, log *slog.Logger) *nursery {
	sum := sha256.Sum256([]byte(dir))
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return &nursery{
		dir: dir, marker: hex.EncodeToString(sum[:8]), boot: strings.TrimSpace(string(boot)), log: log, now: time.Now,
	}
}

// quietNursery returns the nursery of dir, without a log.
func quietNursery(dir string) *nursery { return newNursery(dir, slog.New(slog.DiscardHandler)) }

// recordPath is where the child called name is recorded.
func (n *nursery) recordPath(name string) string {
	return filepath.Join(n.dir, "children", name+".json")
}

// logPath is where the child called name writes.
func (n *nursery) logPath(name string) string { return filepath.Join(n.dir, "logs", name+".log") }

// spawn starts a child in a session of its own, writing to its log.
func (n *nursery) spawn(o order) (*process, error) {
	out, err := os.OpenFile(n.logPath(o.Name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", o.Name, err)
	}
	defer out.Close()
	from, err := out.Seek(0, 2)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", o.Name, err)
	}
	dir := o.Dir
	if dir == "" {
		dir = n.dir
	}
	own, err := os.StartProcess(o.Path, o.Argv, &os.ProcAttr{
		Dir: dir, Env: environment(append(slices.Clone(o.Env), markerVar+"="+n.marker+"/"+o.Name)),
		Files: []*os.File{nil, out, out}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", o.Name, err)
	}
	p := &process{
		own: own, done: make(chan struct{}), log: n.logPath(o.Name), from: from,
		record: record{
			Name: o.Name, Role: o.Role, PID: own.Pid, Boot: n.boot, Digest: o.digest(),
			Incarnation: o.Incarnation, Restarts: o.Restarts, Started: n.now(),
		},
	}
	return p, n.follow(p)
}

// follow records a child just started and waits for its end in the background.
func (n *nursery) follow(p *process) error {
	watch, err := n.identify(p)
	if err != nil {
		p.signal(syscall.SIGKILL)
		go n.reap(p, nil)
		return err
	}
	if err := saveJSON(n.recordPath(p.Name), p.record); err != nil {
		p.signal(syscall.SIGKILL)
		go n.reap(p, nil)
		return err
	}
	go n.reap(p, watch)
	return nil
}

// identify notes p's start time. A child that has ended already is a zombie, which
// has none: it gets no watch and is reported like any other end.
func (n *nursery) identify(p *process) (*exitWatch, error) {
	var err error
	if p.Start, err = startTime(p.PID); err == nil {
		var watch *exitWatch
		if watch, err = watchExit(p.PID, p.Start); err == nil {
			return watch, nil
		}
	}
	if ended(err) {
		return nil, nil
	}
	return nil, fmt.Errorf("watch %s: %w", p.Name, err)
}

// reap waits for the end of p, clears what it left of its process group and closes
// p.done.
func (n *nursery) reap(p *process, watch *exitWatch) {
	if watch != nil {
		watch.wait()
	}
	// Before the leader is reaped its pid, and so the group's, cannot be reused.
	p.signal(syscall.SIGKILL)
	p.exit = "adopted, its exit status is unknown"
	if p.own != nil {
		if state, err := p.own.Wait(); err == nil {
			p.exit = state.String()
		}
	}
	if err := n.forget(p); err != nil {
		n.log.Error("child's record stays", "child", p.Name, "error", err)
	}
	close(p.done)
}

// forget removes p's record, unless it is that of a later process.
func (n *nursery) forget(p *process) error {
	var now record
	path := n.recordPath(p.Name)
	if err := loadJSON(path, &now); err == nil && now.PID != p.PID {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove record: %w", err)
	}
	return nil
}

// adopt returns the recorded children that still live, by name, and ends marked
// ones without a record: their supervisor died between starting and recording them.
func (n *nursery) adopt() (map[string]*process, error) {
	paths, err := filepath.Glob(filepath.Join(n.dir, "children", "*.json"))
	if err != nil {
		return nil, fmt.Errorf("records of children: %w", err)
	}
	living := make(map[string]*process)
	pids := make(map[int]bool)
	for _, path := range paths {
		p, err := n.adoptOne(path)
		if err != nil {
			return nil, err
		}
		if p == nil {
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("record of an ended child: %w", err)
			}
			continue
		}
		living[p.Name], pids[p.PID] = p, true
	}
	for pid, name := range marked(n.marker) {
		if !pids[pid] {
			n.log.Warn("ends a child without a record", "child", name, "pid", pid)
			signalGroup(pid, syscall.SIGKILL)
		}
	}
	return living, nil
}

// adoptOne returns the living child of a record, nil if it has ended.
func (n *nursery) adoptOne(path string) (*process, error) {
	var r record
	if err := loadJSON(path, &r); err != nil || r.PID <= 1 || r.Boot != n.boot {
		return nil, nil // what it does not tell, marked finds
	}
	watch, err := watchExit(r.PID, r.Start)
	if err != nil {
		if ended(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("adopt %s: %w", r.Name, err)
	}
	p := &process{record: r, done: make(chan struct{}), log: n.logPath(r.Name)}
	if info, err := os.Stat(p.log); err == nil {
		p.from = info.Size()
	}
	go n.reap(p, watch)
	return p, nil
}

// alive reports whether p has not ended.
func (p *process) alive() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// signal sends a signal to p's process group.
func (p *process) signal(signal syscall.Signal) { signalGroup(p.PID, signal) }

// signalGroup signals the process group of a session leader; one that has gone is
// no error.
func signalGroup(pid int, signal syscall.Signal) {
	if pid > 1 {
		_ = syscall.Kill(-pid, signal) // ESRCH: it has gone
	}
}

// stop ends p: SIGTERM, after grace SIGKILL; it returns when p is gone.
func (p *process) stop(grace time.Duration) {
	if !p.alive() {
		return
	}
	if grace > 0 {
		p.signal(syscall.SIGTERM)
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-p.done:
			return
		case <-timer.C:
		}
	}
	p.signal(syscall.SIGKILL)
	<-p.done
}

// environment is this process's environment, without what is meant for it alone,
// overlaid by extra, of which a later value of the same name wins.
func environment(extra []string) []string {
	values := make(map[string]string)
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "SLUICE_") && !strings.HasPrefix(variable, "OTEL_") {
			name, value, _ := strings.Cut(variable, "=")
			values[name] = value
		}
	}
	for _, variable := range extra {
		name, value, _ := strings.Cut(variable, "=")
		values[name] = value
	}
	env := make([]string, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		env = append(env, name+"="+values[name])
	}
	return env
}
