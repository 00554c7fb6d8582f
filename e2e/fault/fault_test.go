package fault

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
)

func target() Target {
	return Target{Service: "shop/cart", Instances: 3, Store: "shop/db", Callers: []string{"shop/front"}}
}

// Equal seeds give equal faults; over a few seeds something differs.
func TestChooseIsRepeatable(t *testing.T) {
	for _, kind := range Kinds() {
		sizes := map[string]bool{}
		for seed := range uint64(20) {
			first, err := Choose(kind, target(), seed)
			if err != nil {
				t.Fatal(err)
			}
			second, _ := Choose(kind, target(), seed)
			if !reflect.DeepEqual(first, second) {
				t.Errorf("%s with seed %d differs between two calls", kind, seed)
			}
			if !strings.HasPrefix(first.ID, string(kind)) || len(first.Blows) == 0 {
				t.Errorf("%s with seed %d is %+v", kind, seed, first)
			}
			text, _ := json.Marshal(struct {
				I string
				B []Blow
			}{first.Instance, first.Blows})
			sizes[strings.ReplaceAll(string(text), first.ID, "")] = true
		}
		if len(sizes) < 2 && kind != Poison {
			t.Errorf("%s does not depend on its seed", kind)
		}
	}
}

func TestChooseBlows(t *testing.T) {
	for kind, want := range map[Kind][]string{
		Crash:      {"shop/cart KILL "},
		Hang:       {"shop/cart STOP "},
		Latency:    {"shop/cart  delay"},
		Poison:     {"shop/cart  strict", "shop/db  garbage"},
		RetryStorm: {"shop/front  retry", "shop/cart  overload"},
	} {
		f, err := Choose(kind, target(), 1)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, blow := range f.Blows {
			got = append(got, blow.Service+" "+blow.Signal+" "+blow.Order.Do)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s does %q, want %q", kind, got, want)
		}
		if (kind == Crash || kind == Hang) != f.Silent {
			t.Errorf("%s: silent is %t", kind, f.Silent)
		}
	}
	bad, _ := Choose(BadInstance, target(), 7)
	if !strings.HasPrefix(bad.Instance, "cart-") || bad.Blows[0].Instance != bad.Instance {
		t.Errorf("the bad instance is %q, struck %q", bad.Instance, bad.Blows[0].Instance)
	}
}

func TestChooseRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		kind   Kind
		target Target
	}{
		"no service": {Crash, Target{}},
		"no store":   {Poison, Target{Service: "shop/cart"}},
		"no kind":    {"flood", target()},
	} {
		if _, err := Choose(c.kind, c.target, 1); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// An order reaches the registered process; a signal kills the process that was meant,
// and a register entry of a process that is gone is not used.
func TestInject(t *testing.T) {
	dir := Dir(t.TempDir())
	got := make(chan string, 8)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- string(body)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	control := strings.TrimPrefix(server.URL, "http://")
	started, err := StartOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, service := range []string{"shop/cart", "shop/db"} {
		p := Process{Service: service, Instance: "x-0", PID: os.Getpid(), Started: started, Control: control}
		if err := dir.Register(p); err != nil {
			t.Fatal(err)
		}
	}
	f, _ := Choose(Poison, target(), 3)
	if err := dir.Inject(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	for _, do := range []string{DoStrict, DoGarbage} {
		if order := <-got; !strings.Contains(order, do) || !strings.Contains(order, "poison-3") {
			t.Errorf("order is %s, want %s of poison-3", order, do)
		}
	}
	if marker, err := dir.Marked(); err != nil || marker == nil || marker.Service != "shop/cart" {
		t.Errorf("marker is %v, error %v", marker, err)
	}
}

func TestInjectKillsOnlyTheProcessMeant(t *testing.T) {
	dir := Dir(t.TempDir())
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	started, err := StartOf(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	p := Process{Service: "shop/cart", Instance: "cart-0", PID: child.Process.Pid, Started: started + 1}
	if err := dir.Register(p); err != nil {
		t.Fatal(err)
	}
	crash := Fault{ID: "crash-1", Blows: []Blow{{Service: "shop/cart", Signal: "KILL"}}}
	if err := dir.Inject(t.Context(), crash); err == nil {
		t.Error("a process with another start time was struck")
	}
	p.Started = started
	if err := dir.Register(p); err != nil {
		t.Fatal(err)
	}
	if err := dir.Inject(t.Context(), crash); err != nil {
		t.Error(err)
	}
	if err := child.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the child ended with %v, want killed", err)
	}
}

func TestDirRefusesWhatItDidNotWrite(t *testing.T) {
	dir := Dir(t.TempDir())
	if err := os.WriteFile(string(dir)+"/a"+suffix, []byte(`{"pid": 1, "extra": 2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Processes(); err == nil || !strings.Contains(err.Error(), "extra") {
		t.Errorf("error is %v, want the unknown field", err)
	}
}
