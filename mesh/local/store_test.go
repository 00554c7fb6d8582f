package local

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLogIsTurnedOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	child, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer child.Close()
	write := func(text string) {
		if _, err := child.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	write("first line\n0123456789\n")
	if err := turnLog(path, 100); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); got != "first line\n0123456789\n" {
		t.Errorf("a small log was changed to %q", got)
	}
	if err := turnLog(path, 11); err != nil {
		t.Fatal(err)
	}
	write("next\n") // through the descriptor that the child has had all along
	if old, now := read(t, path+".1"), read(t, path); old != "0123456789\n" || now != "next\n" {
		t.Errorf("old %q, now %q", old, now)
	}
	if got := tail(path, 1000, 5); got != "next" {
		t.Errorf("tail after turning over: %q", got)
	}
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	if err := os.WriteFile(path, []byte("old\none\ntwo\nthree\xff\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		from  int64
		count int
		want  string
	}{{4, 2, "two\nthree?"}, {4, 10, "one\ntwo\nthree?"}, {19, 3, ""}} {
		if got := tail(path, test.from, test.count); got != test.want {
			t.Errorf("tail from %d, %d lines: %q, want %q", test.from, test.count, got, test.want)
		}
	}
	if got := tail(path+"none", 0, 3); got != "" {
		t.Errorf("tail of no file: %q", got)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestPortsAreRememberedUnlessTaken(t *testing.T) {
	dir := t.TempDir()
	take := func(held bool) uint16 {
		p, err := openPorts(dir)
		if err != nil {
			t.Fatal(err)
		}
		one, err := p.take("a/app", held)
		if err != nil {
			t.Fatal(err)
		}
		two, err := p.take("b/app", false)
		if err != nil {
			t.Fatal(err)
		}
		if one == two || one.Port() < firstPort || one.Port() > lastPort {
			t.Fatalf("ports %s and %s", one, two)
		}
		if err := p.save(); err != nil {
			t.Fatal(err)
		}
		return one.Port()
	}
	first := take(false)
	if again := take(false); again != first {
		t.Errorf("port %d, before %d", again, first)
	}
	other, err := net.Listen("tcp4", loopback(first).String())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if held := take(true); held != first {
		t.Errorf("a living child's port %d became %d", first, held)
	}
	if now := take(false); now == first {
		t.Errorf("port %d is in use and was taken again", first)
	}
}

func TestBackoff(t *testing.T) {
	var got []string
	b := backoff{eager: true}
	for range 9 {
		got = append(got, b.next(time.Second).String())
	}
	got = append(got, b.next(calmAfter).String(), b.next(0).String())
	want := "0s 100ms 200ms 400ms 800ms 1.6s 3.2s 5s 5s 0s 100ms"
	if strings.Join(got, " ") != want {
		t.Errorf("got %s, want %s", got, want)
	}
	patient := backoff{}
	if first, second := patient.next(0), patient.next(0); first != firstPause || second != 2*firstPause {
		t.Errorf("got %s, %s", first, second)
	}
}

func TestEndpoints(t *testing.T) {
	home, err := FindHome(func(name string) string { return map[string]string{"HOME": t.TempDir()}[name] })
	if err != nil {
		t.Fatal(err)
	}
	one := Endpoint{Server: "http://127.0.0.1:1", TokenFile: "/a/tokens/admin", State: "/a"}
	two := Endpoint{Server: "http://127.0.0.1:2", TokenFile: "/b/tokens/admin", State: "/b"}
	for _, e := range []Endpoint{one, two} {
		if err := home.Publish(e); err != nil {
			t.Fatal(err)
		}
		if got, err := home.Current(); err != nil || got != e {
			t.Errorf("current %+v, %v; want %+v", got, err, e)
		}
	}
	info, err := os.Stat(filepath.Join(string(home), "endpoints", "127.0.0.1_2.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("endpoint file: %v, %v", info, err)
	}
	if err := home.Withdraw("/b"); err != nil {
		t.Fatal(err)
	}
	if got, err := home.Current(); err != nil || got != one {
		t.Errorf("after the other went: %+v, %v", got, err)
	}
	if err := home.Withdraw("/a"); err != nil {
		t.Fatal(err)
	}
	if _, err := home.Current(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after all went: %v", err)
	}
}

func TestResolve(t *testing.T) {
	names := []string{"a.x-0", "a.x-0.envoy", "b.x-0", "b.y-0", "outside.ingress", "sluiced"}
	for text, want := range map[string]string{
		"sluiced": "sluiced", "y-0": "b.y-0", "a/x-0": "a.x-0", "a.x-0.envoy": "a.x-0.envoy",
		"x-0.envoy": "a.x-0.envoy", "ingress": "outside.ingress", "x-0": "", "": "", "none": "",
	} {
		if got, err := Resolve(text, names); got != want || (err == nil) != (want != "") {
			t.Errorf("%q means %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("SLUICE_SERVER", "secret")
	t.Setenv("OTEL_SERVICE_NAME", "other")
	t.Setenv("KEPT", "1")
	got := "\n" + strings.Join(environment([]string{"KEPT=2", "NEW=a=b", "NEW=c"}), "\n") + "\n"
	for _, want := range []string{"\nKEPT=2\n", "\nNEW=c\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %q: %s", want, got)
		}
	}
	for _, not := range []string{"SLUICE_SERVER", "OTEL_SERVICE_NAME", "KEPT=1"} {
		if strings.Contains(got, not) {
			t.Errorf("has %q", not)
		}
	}
}
