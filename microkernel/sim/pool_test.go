package sim

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestPooledPartsAreTheWhole runs seeds in one go and in two parts.
func TestPooledPartsAreTheWhole(t *testing.T) {
	dir := t.TempDir()
	part := func(name string, from uint64, seeds int) string {
		path := filepath.Join(dir, name)
		if err := write(path, runAll(from, seeds)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	whole, a, b := part("whole.json", 1, 6), part("a.json", 1, 2), part("b.json", 3, 4)
	out := filepath.Join(dir, "pooled.json")
	pool([]string{b, a}, out, &bytes.Buffer{})
	read := func(path string) map[string]any {
		all, err := readAll([]string{path})
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(all[0])
		if err != nil {
			t.Fatal(err)
		}
		fields := map[string]any{}
		if err := json.Unmarshal(text, &fields); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"started", "seconds", "seeds_per_minute"} {
			delete(fields, name)
		}
		return fields
	}
	if got, want := read(out), read(whole); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	var says bytes.Buffer
	if code := pool([]string{whole, b}, "", &says); code != 2 || !strings.Contains(says.String(), "seed 3 is in two reports") {
		t.Errorf("overlapping reports: exit %d, %q", code, &says)
	}
	says.Reset()
	if code := pool([]string{a, part("c.json", 8, 1)}, "", &says); code != 2 || !strings.Contains(says.String(), "seeds 3 to 7 are in no report") {
		t.Errorf("a gap between reports: exit %d, %q", code, &says)
	}
}

// TestAPartThatIsThereIsNotRunAgain looks at what the second of two runs takes over: a part
// of this build, and none of another.
func TestAPartThatIsThereIsNotRunAgain(t *testing.T) {
	dir := t.TempDir()
	run := func() *report {
		rep, err := inParts(dir, 1, 3, &bytes.Buffer{})
		if err != nil {
			t.Fatal(err)
		}
		return rep
	}
	first := run()
	if again := run(); !again.Started.Equal(first.Started) || again.Events != first.Events {
		t.Errorf("started %v with %d events, then %v with %d; want the same", first.Started, first.Events, again.Started, again.Events)
	}
	old, path := *first, filepath.Join(dir, "part-1.json")
	old.Build, old.Events = "another", 0
	if err := write(path, &old); err != nil {
		t.Fatal(err)
	}
	if again := run(); again.Events != first.Events {
		t.Errorf("%d events, want %d: the part is of another build", again.Events, first.Events)
	}
}
