package disk

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/sluicemesh/sluice/api/v1alpha1"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/journal"
)

// server is a fake API server that compares resource versions on update, as a real one does.
type server struct {
	client  *fake.FakeDynamicClient
	version int
	fail    func() error // of the next updates, nil = none
	lost    bool         // the answer to the next update is lost: it is done all the same
}

func newServer() *server {
	resource := v1alpha1.Resources(v1alpha1.KindJournal)
	s := &server{client: fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
		map[schema.GroupVersionResource]string{resource: "RecoveryJournalList"})}
	s.client.PrependReactor("*", "recoveryjournals", func(action clienttesting.Action) (bool, runtime.Object, error) {
		write, isWrite := action.(clienttesting.CreateAction) // an update is one by its methods
		if !isWrite || action.GetVerb() != "create" && action.GetVerb() != "update" {
			return false, nil, nil
		}
		return s.write(action, write.GetObject())
	})
	return s
}

func (s *server) write(action clienttesting.Action, object runtime.Object) (bool, runtime.Object, error) {
	access, err := meta.Accessor(object)
	if err != nil {
		return true, nil, err
	}
	if s.fail != nil {
		if err := s.fail(); err != nil {
			return true, nil, err
		}
	}
	tracker, resource := s.client.Tracker(), action.GetResource()
	if action.GetVerb() == "update" {
		have, err := tracker.Get(resource, action.GetNamespace(), access.GetName())
		if err != nil {
			return true, nil, err
		}
		former, err := meta.Accessor(have)
		if err != nil {
			return true, nil, err
		}
		if former.GetResourceVersion() != access.GetResourceVersion() {
			return true, nil, apierrors.NewConflict(resource.GroupResource(), access.GetName(), errors.New("changed"))
		}
	}
	s.version++
	copied := object.DeepCopyObject()
	out, _ := meta.Accessor(copied)
	out.SetResourceVersion(fmt.Sprint(s.version))
	out.SetNamespace(action.GetNamespace())
	if action.GetVerb() == "create" {
		err = tracker.Create(resource, copied, action.GetNamespace())
	} else {
		err = tracker.Update(resource, copied, action.GetNamespace())
	}
	if s.lost {
		s.lost = false
		return true, nil, apierrors.NewTimeoutError("answer lost", 0)
	}
	return true, copied, err
}

func (s *server) open(t *testing.T, holder string) *Disk {
	t.Helper()
	d, err := Open(Settings{Objects: s.objects(), Name: "sluice", Holder: holder, Patience: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (s *server) objects() dynamic.ResourceInterface {
	return s.client.Resource(v1alpha1.Resources(v1alpha1.KindJournal)).Namespace("sluice-system")
}

func openLog(t *testing.T, d *Disk) *journal.Log {
	t.Helper()
	log, err := journal.Open(d, journal.Settings{Segment: Segment, Reserve: Reserve})
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func led(term uint64) microkernel.Event { return microkernel.Led{Term: term} }

func resumed(n int) microkernel.Event {
	return microkernel.Resumed{By: microkernel.Principal{Name: fmt.Sprint("somebody-", n), Role: microkernel.Admin}}
}

// names lists who resumed, by the journal of a new reader.
func names(t *testing.T, d *Disk) []string {
	t.Helper()
	var out []string
	if err := openLog(t, d).Replay(func(e journal.Entry) error {
		if r, ok := e.Event.(microkernel.Resumed); ok {
			out = append(out, r.By.Name)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestJournalOutlivesItsWriter(t *testing.T) {
	s := newServer()
	log := openLog(t, s.open(t, "a"))
	if _, err := log.Append(led(1)); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if _, err := log.Append(resumed(i)); err != nil {
			t.Fatal(err)
		}
	}
	got := names(t, s.open(t, "b"))
	if len(got) != 100 || got[0] != "somebody-0" || got[99] != "somebody-99" {
		t.Errorf("got %d records: %v", len(got), got)
	}
	if sum, err := journal.VerifyDisk(s.open(t, "c")); err != nil || sum.Records != 101 {
		t.Errorf("verify: %+v, %v", sum, err)
	}
}

// From the first write of the next leader on, the former one's fail, and nothing of them is
// in the journal.
func TestSupersededLeaderConflicts(t *testing.T) {
	s := newServer()
	former := openLog(t, s.open(t, "a"))
	if _, err := former.Append(led(1), resumed(1)); err != nil {
		t.Fatal(err)
	}
	next := openLog(t, s.open(t, "b"))
	if _, err := former.Append(resumed(2)); err != nil {
		t.Fatal(err) // the next has not written yet
	}
	if _, err := next.Append(led(2)); !apierrors.IsConflict(err) {
		t.Fatalf("the next leader writes over what it has not read: %v", err)
	}
	next = openLog(t, s.open(t, "b")) // as the process does: it ends, and begins anew
	if _, err := next.Append(led(2), resumed(3)); err != nil {
		t.Fatal(err)
	}
	broken := (*journal.SyncError)(nil)
	if _, err := former.Append(resumed(4)); !errors.As(err, &broken) || !apierrors.IsConflict(err) {
		t.Errorf("the former leader: got %v, want a conflict that is final", err)
	}
	if got := fmt.Sprint(names(t, s.open(t, "c"))); got != "[somebody-1 somebody-2 somebody-3]" {
		t.Errorf("journal: %s", got)
	}
}

func TestLostAnswerIsNoConflict(t *testing.T) {
	s := newServer()
	log := openLog(t, s.open(t, "a"))
	if _, err := log.Append(led(1)); err != nil {
		t.Fatal(err)
	}
	s.lost = true
	for i := range 2 {
		if _, err := log.Append(resumed(i)); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
	}
	if got := names(t, s.open(t, "b")); len(got) != 2 {
		t.Errorf("journal: %v", got)
	}
}

func TestServerAwayForAMoment(t *testing.T) {
	s := newServer()
	log := openLog(t, s.open(t, "a"))
	n := 0
	s.fail = func() error {
		if n++; n < 4 {
			return errors.New("connection refused")
		}
		return nil
	}
	if _, err := log.Append(led(1)); err != nil {
		t.Errorf("got %v", err)
	}
	s.fail = func() error { return apierrors.NewForbidden(schema.GroupResource{}, "sluice", errors.New("no")) }
	if _, err := log.Append(resumed(1)); !apierrors.IsForbidden(err) {
		t.Errorf("got %v, want that it is forbidden, at once", err)
	}
}

func TestFullJournal(t *testing.T) {
	s := newServer()
	d := s.open(t, "a")
	f, err := d.Create("0000000000000001.seg", 4<<20)
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 1<<20) // that cannot be compressed
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	if _, err := f.WriteAt(noise, 0); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v, want a full disk", err)
	}
	if _, err := f.WriteAt([]byte("short"), 0); err != nil {
		t.Errorf("what was refused is still there: %v", err)
	}
	if err := f.Sync(); err != nil {
		t.Error(err)
	}
}

func TestCompactionPutsAway(t *testing.T) {
	s := newServer()
	log := openLog(t, s.open(t, "a"))
	if _, err := log.Append(led(1), resumed(1)); err != nil {
		t.Fatal(err)
	}
	for range archives + 3 {
		if _, err := log.Append(resumed(2)); err != nil {
			t.Fatal(err)
		}
		state := microkernel.New(microkernel.DefaultPolicy())
		if _, err := log.Compact(microkernel.Compacted{State: state.Compact()}); err != nil {
			t.Fatal(err)
		}
	}
	d := s.open(t, "b")
	if len(d.archived) != archives {
		t.Errorf("%d archives, want %d", len(d.archived), archives)
	}
	if sum, err := journal.VerifyDisk(d); err != nil || sum.Records < archives {
		t.Errorf("verify: %+v, %v", sum, err)
	}
	if got := names(t, d); len(got) != 0 {
		t.Errorf("a replay reads what was put away: %v", got)
	}
}
