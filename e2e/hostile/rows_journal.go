package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/driver"
	"github.com/sluicemesh/sluice/microkernel/journal"
)

// journalRows are crashes and failures of the journal (phase J).
func journalRows() []attack {
	core := func(row, name, expected string, run func(*trial) (result, error)) attack {
		return attack{row: row, name: name, door: "core", expected: expected, run: run}
	}
	return []attack{
		core("44", "killed between two events", "ONCE", killed(false)),
		core("44", "killed during compensation", "ONCE", killed(true)),
		core("45", "a torn tail", "TRUNCATED", damaged(tear, "TRUNCATED")),
		core("45", "a flipped bit in the middle", "FREEZE", damaged(flip, "FREEZE")),
		core("45", "an older copy is put back", "FREEZE", older),
		core("45", "the disk is full", "REJECT:frozen", failing(syscall.ENOSPC)),
		core("45", "a sync fails", "FREEZE", failing(syscall.EIO)),
	}
}

// mortal is a journal whose process dies at one of its appends: before that is durable,
// or after it and before any effect of it.
type mortal struct {
	driver.Journal
	left    atomic.Int64 // appends until death
	durable bool
	kill    context.CancelFunc
}

// Append implements driver.Journal.
func (m *mortal) Append(events ...microkernel.Event) (journal.Seq, error) {
	if m.left.Add(-1) > 0 {
		return m.Journal.Append(events...)
	}
	if m.durable && m.left.Load() == 0 {
		if _, err := m.Journal.Append(events...); err != nil {
			return 0, err
		}
	}
	m.kill()
	return 0, errors.New("the process is dead")
}

// AppendReserved implements driver.Journal: the dead write nothing.
func (m *mortal) AppendReserved(...microkernel.Event) (journal.Seq, error) {
	return 0, errors.New("the process is dead")
}

// killed kills the kernel at a random event of a plan, and once more during recovery
// for half of the variants; then a kernel lives to the end.
func killed(undoing bool) func(*trial) (result, error) {
	return func(t *trial) (result, error) {
		p, err := t.make(shop())
		if err != nil {
			return result{}, err
		}
		if undoing {
			p.platform.refuseRestart = func(mesh.Ref) error { return &driver.Refused{Reason: "out of memory"} }
		}
		id := t.id()
		at := 4 + t.IntN(9)
		if undoing {
			at = 7 + t.IntN(4)
		}
		lives := []int{at}
		if t.IntN(2) == 0 {
			lives = append(lives, 1+t.IntN(6))
		}
		for i, at := range lives {
			if err := t.live(p, at, func() { submit(p, id, i == 0) }); err != nil {
				return result{}, err
			}
		}
		p.journal = nil
		if err := p.startKernel(); err != nil {
			return result{}, err
		}
		if _, known := p.kernel.Record(microkernel.PlanID(id)); !known {
			submit(p, id, true)
		}
		return t.once(p, id, undoing)
	}
}

// submit proposes the restart of shop/single, as the API would, and lets it run.
func submit(p *plane, id string, first bool) {
	if first {
		program, _, _ := isa.ParseText([]byte("plan " + id + "\nr1 = restart shop/single"))
		_, _, err := p.kernel.Submit(context.Background(), secrets()[agent], program)
		if err != nil {
			return
		}
	}
	p.ended(id)
}

// live runs a kernel until its append numbered at; what it would still do goes nowhere.
func (t *trial) live(p *plane, at int, do func()) error {
	durable := t.IntN(2) == 0
	dead := make(chan struct{})
	p.journal = func(j driver.Journal) driver.Journal {
		m := &mortal{Journal: j, durable: durable, kill: func() {
			p.cancelOnce(dead)
		}}
		m.left.Store(int64(at))
		return m
	}
	err := p.startKernel()
	if err == nil {
		do()
	}
	p.stop()
	select {
	case <-dead:
		return nil
	default:
		return err
	}
}

// cancelOnce kills the kernel.
func (p *plane) cancelOnce(dead chan struct{}) {
	select {
	case <-dead:
	default:
		close(dead)
		if p.cancel != nil {
			p.cancel()
		}
	}
}

// once checks that the plan was finished or undone, and that nothing happened twice.
func (t *trial) once(p *plane, id string, undoing bool) (result, error) {
	end := p.ended(id)
	p.pass(time.Minute)
	r := result{got: "TWICE"}
	starts := 0
	for _, n := range p.platform.starts {
		starts += n
	}
	switch {
	case len(p.platform.Installed()) > 0 || !end.Phase.Final():
		return r, fmt.Errorf("%s, overlays left: %v", end.Phase, p.platform.Installed())
	case end.Phase == microkernel.Committed && starts == 1 && !undoing,
		end.Phase == microkernel.Compensated && starts <= 1, end.Phase == microkernel.Refused && starts == 0:
		r.got = "ONCE"
	default:
		return r, fmt.Errorf("%s after %d restarts", end.Phase, starts)
	}
	r, err := t.recorded(p, id, r, true)
	r.changed = false // but for the restart itself
	return r, err
}

// damaged spoils the journal of a kernel that has worked, and starts another on it.
func damaged(spoil func(*trial, string) error, expected string) func(*trial) (result, error) {
	return func(t *trial) (result, error) {
		p, err := t.start(shop())
		if err != nil {
			return result{}, err
		}
		id, source := t.plan("r1 = restart %s", pick(t, "shop/leaf", "shop/cart"))
		r, err := t.finish(p, id, p.propose(agent, source))
		if err != nil {
			return r, err
		}
		before := p.platform.state()
		if err := spoil(t, p.dir); err != nil {
			return r, err
		}
		if expected == "TRUNCATED" {
			return t.reopened(p, before, r.audit)
		}
		return t.frozen(p, before)
	}
}

// reopened expects a kernel that has lost nothing but the torn end.
func (t *trial) reopened(p *plane, before, audit string) (result, error) {
	r := result{got: "FREEZE", audit: audit}
	if err := p.startKernel(); err != nil {
		return r, err
	}
	if p.kernel.Status().Frozen == "" {
		r.got = "TRUNCATED"
	}
	program, _, _ := isa.ParseText([]byte("plan again\nr1 = restart shop/other"))
	verdict, _, err := p.kernel.Submit(context.Background(), secrets()[second], program)
	if err != nil || verdict.Outcome != microkernel.Admit {
		return r, fmt.Errorf("a plan afterwards: %s %s %w", verdict.Outcome, verdict.Code, err)
	}
	r.changed = p.platform.state() != before && len(p.platform.Installed()) > 1
	p.ended("again")
	return r, nil
}

// frozen expects a kernel that takes no plan, and gives back what is in force.
func (t *trial) frozen(p *plane, before string) (result, error) {
	r := result{got: "OPEN"}
	if err := p.startKernel(); err != nil {
		return r, err
	}
	status := p.kernel.Status()
	if status.Frozen != "" {
		r.got, r.code = "FREEZE", string(isa.CodeFrozen)
	}
	program, _, _ := isa.ParseText([]byte("plan again\nr1 = restart shop/other"))
	verdict, _, err := p.kernel.Submit(context.Background(), secrets()[second], program)
	if refused := (*driver.Refused)(nil); err == nil && verdict.Code != isa.CodeFrozen || err != nil && !errors.As(err, &refused) {
		return r, fmt.Errorf("a plan afterwards: %s %w", verdict.Outcome, err)
	}
	left := p.realUntil(func() bool { return len(p.platform.Installed()) == 0 })
	r.changed = p.platform.state() != before && !left
	return r, nil
}

// realUntil waits in real time: a kernel without a journal sweeps by the wall clock.
func (p *plane) realUntil(done func() bool) bool {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); <-tick.C {
		if done() {
			return true
		}
	}
	return done()
}

// segments returns the paths of the journal's segments.
func segments(dir string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err == nil && len(found) == 0 {
		err = errors.New("the journal has no segment")
	}
	slices.Sort(found)
	return found, err
}

// used returns how many bytes of a segment are written.
func used(data []byte) int {
	n := len(data)
	for n > 0 && data[n-1] == 0 {
		n--
	}
	return n
}

// tear takes the end of the last record away, as a crash during a write does: the rest
// of the block is still the zeros of the preallocated file.
func tear(t *trial, dir string) error {
	found, err := segments(dir)
	if err != nil {
		return err
	}
	path := found[len(found)-1]
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	end := used(data)
	clear(data[end-1-t.IntN(40) : end])
	return os.WriteFile(path, data, 0o600)
}

// flip flips one bit in the first half of what is written.
func flip(t *trial, dir string) error {
	found, err := segments(dir)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(found[0])
	if err != nil {
		return err
	}
	at := 64 + t.IntN(used(data)/2)
	for data[at] == 0 { // padding between records is not read
		at++
	}
	data[at] ^= 1 << t.IntN(8)
	return os.WriteFile(found[0], data, 0o600)
}

// older puts back a copy of the journal from before a drain that is in force.
func older(t *trial) (result, error) {
	p, err := t.start(shop())
	if err != nil {
		return result{}, err
	}
	id, source := t.plan("r1 = restart shop/leaf")
	if r, err := t.finish(p, id, p.propose(agent, source)); err != nil || r.got != "ADMIT" {
		return r, err
	}
	before := p.platform.state()
	copied := map[string][]byte{}
	found, err := segments(p.dir)
	if err != nil {
		return result{}, err
	}
	for _, path := range found {
		if copied[path], err = os.ReadFile(path); err != nil {
			return result{}, err
		}
	}
	if err := p.start(); err != nil {
		return result{}, err
	}
	if _, err := t.begun(p, agent, zoneA); err != nil {
		return result{}, err
	}
	p.stop()
	for _, path := range slices.Sorted(maps.Keys(copied)) {
		if err := os.WriteFile(path, copied[path], 0o600); err != nil {
			return result{}, err
		}
	}
	return t.frozen(p, before)
}

// failing lets the disk fail while a drain is in force.
func failing(cause syscall.Errno) func(*trial) (result, error) {
	return func(t *trial) (result, error) {
		p, err := t.make(shop())
		if err != nil {
			return result{}, err
		}
		var broken atomic.Bool
		p.disk = func(d journal.Disk) journal.Disk { return &brittle{Disk: d, broken: &broken, cause: cause} }
		if err := p.start(); err != nil {
			return result{}, err
		}
		id, err := t.begun(p, agent, zoneA)
		if err != nil {
			return result{}, err
		}
		broken.Store(true)
		a := p.propose(second, t.spelled("plan "+t.id()+"\nr1 = restart shop/slow"))        // at most held
		for i := 0; cause == syscall.ENOSPC && a.got() != "REJECT:frozen" && i < 300; i++ { // until the segment is full
			p.pass(time.Second)
			a = p.propose(second, t.spelled("plan "+t.id()+"\nr1 = restart shop/slow"))
		}
		r := result{got: a.got(), code: a.Code}
		if cause == syscall.EIO && r.got == "REJECT:frozen" && p.kernel.Status().Frozen != "" {
			r.got = "FREEZE"
		}
		p.until(time.Minute, func() bool { return len(p.platform.Installed()) == 0 })
		p.ended(id)
		r.changed = len(p.platform.Installed()) > 0 || len(p.platform.starts) > 0
		if !p.until(time.Second, p.paged) {
			return r, errors.New("nobody was paged")
		}
		p.stop()
		say, err := p.audit(id)
		r.audit = say.id
		if err == nil && cause == syscall.ENOSPC && (say.phase != microkernel.Compensated || !strings.Contains(say.reason, "no room")) {
			err = fmt.Errorf("the journal says %s: %s", say.phase, say.reason)
		}
		return r, err
	}
}

// brittle is a disk that fails from some moment on: no new file, or no sync.
type brittle struct {
	journal.Disk
	broken *atomic.Bool
	cause  syscall.Errno
}

// Create implements journal.Disk.
func (b *brittle) Create(name string, size int64) (journal.File, error) {
	if b.broken.Load() {
		return nil, b.cause
	}
	f, err := b.Disk.Create(name, size)
	return &brittleFile{File: f, disk: b}, err
}

// Open implements journal.Disk.
func (b *brittle) Open(name string) (journal.File, error) {
	f, err := b.Disk.Open(name)
	return &brittleFile{File: f, disk: b}, err
}

type brittleFile struct {
	journal.File
	disk *brittle
}

// Sync implements journal.File.
func (f *brittleFile) Sync() error {
	if f.disk.broken.Load() && f.disk.cause == syscall.EIO {
		return f.disk.cause
	}
	return f.File.Sync()
}
