package journal

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// planEvents are about what one plan of five services leaves.
func planEvents(n int) []microkernel.Event {
	view := microkernel.View{Epoch: "sha256:373753fcad60134649a1801f1740323c3329bdeedf4a5ba93fc81599999dae17"}
	for i := range 5 {
		name := mesh.Service(fmt.Sprintf("shop/service-%d", i))
		view.RestartSet = append(view.RestartSet, name)
		view.Services = append(view.Services, microkernel.ServiceView{
			ServiceState: mesh.ServiceState{Name: name, Protocol: mesh.HTTP, Replicas: 3, Instances: []mesh.Instance{
				{Ref: mesh.Ref{Service: name, UID: "a", Incarnation: 1}, Name: "service-0", State: mesh.Ready, Proxy: "service-0"},
				{Ref: mesh.Ref{Service: name, UID: "b", Incarnation: 1}, Name: "service-1", State: mesh.Ready, Proxy: "service-1"},
				{Ref: mesh.Ref{Service: name, UID: "c", Incarnation: 1}, Name: "service-2", State: mesh.Ready, Proxy: "service-2"},
			}},
			Callers: []mesh.Service{"shop/front", "shop/search"}, Component: []mesh.Service{name},
		})
	}
	program := isa.Program{ID: fmt.Sprintf("plan-%d", n), Steps: make([]isa.Step, 5)}
	for i := range program.Steps {
		program.Steps[i] = isa.Step{ID: "r", Action: isa.Restart{Target: isa.Target{Service: view.RestartSet[i]}}}
	}
	events := []microkernel.Event{
		microkernel.Submitted{Program: program, View: view}, microkernel.Viewed{Plan: "plan", View: view},
	}
	for range 40 {
		events = append(events, microkernel.Proved{Plan: "plan", Step: "d1", Proof: mesh.Proof{
			Key: mesh.OverlayKey{Kind: mesh.OverlayDrain, Callee: "shop/service-0"}, Generation: 1, Required: 2, Acked: 2,
		}})
	}
	return events
}

func openDirectory(b *testing.B) (*Log, string) {
	b.Helper()
	path := b.TempDir()
	disk, err := Directory(path)
	if err != nil {
		b.Fatal(err)
	}
	l, err := Open(disk, Settings{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	return l, path
}

// BenchmarkCommit appends one event; BenchmarkDevice is what the device takes to sync
// as many bytes of a preallocated file.
func BenchmarkCommit(b *testing.B) {
	l, _ := openDirectory(b)
	ev := planEvents(0)[2]
	for b.Loop() {
		if _, err := l.Append(ev); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDevice(b *testing.B) {
	f, err := os.Create(b.TempDir() + "/file")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := zero(f, 0, 4<<20); err != nil {
		b.Fatal(err)
	}
	record, at := make([]byte, 320), int64(0)
	for b.Loop() {
		if _, err := f.WriteAt(record, at); err != nil {
			b.Fatal(err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
		at = (at + 320) % (4<<20 - 320)
	}
}

// BenchmarkReopen checks and replays what 100 plans left.
func BenchmarkReopen(b *testing.B) {
	l, path := openDirectory(b)
	for i := range 100 {
		if _, err := l.Append(planEvents(i)...); err != nil {
			b.Fatal(err)
		}
	}
	sum, err := Verify(path)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Verify(path); err != nil {
			b.Fatal(err)
		}
	}
	used := int64(len(l.segments)-1)*l.settings.Segment + l.end
	b.ReportMetric(float64(used)/100, "bytes/plan")
	b.ReportMetric(float64(sum.Records)/100, "records/plan")
}
