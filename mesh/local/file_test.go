package local

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

func TestMeshFiles(t *testing.T) {
	datadriven.Walk(t, "testdata/file", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			input := d.Input
			if d.Cmd != "parse" {
				d.Fatalf(t, "unknown command %s", d.Cmd)
			}
			if d.HasArg("raw") {
				input = strings.NewReplacer(`\t`, "\t", `\0`, "\x00", `\xff`, "\xff", `\n`, "\n").Replace(input)
			}
			file, err := ParseFile("mesh.yaml", []byte(input))
			if err != nil {
				return err.Error()
			}
			return describe(file)
		})
	})
}

// describe prints a file with all its defaults.
func describe(f *File) string {
	var b strings.Builder
	for i := range f.Services {
		s := f.Services[i]
		fmt.Fprintf(&b, "%s x%d %s %q dir=%q ready=%+v objective=%+v\n", s.Name, s.Instances, s.Protocol, s.Command,
			s.Dir, s.Ready, s.Objective)
		fmt.Fprintf(&b, "  startup=%s grace=%s minAvailable=%d quorum=%d protected=%t\n", s.Startup, s.Grace,
			s.MinAvailable, s.Quorum, s.Protected)
		for _, u := range s.Upstreams {
			fmt.Fprintf(&b, "  -> %s timeout=%s sticky=%t\n", u.Service, u.Timeout, u.Sticky)
		}
		for _, v := range s.Env {
			fmt.Fprintf(&b, "  %s=%q\n", v.Name, v.Value)
		}
	}
	if f.Ingress != nil {
		fmt.Fprintf(&b, "ingress %+v\n", *f.Ingress)
	}
	return b.String()
}

// FuzzParseFile: whatever parses is complete, parses again to the same, and every
// fault has a position, a reason and a remedy in printable ASCII.
func FuzzParseFile(f *testing.F) {
	f.Add([]byte("services:\n- {name: shop/db, command: [./db, \"{port}\"], ready: {http: /ready}}\n" +
		"ingress: {service: shop/db, port: 0}\n"))
	f.Add([]byte("services: &a\n- {name: a/b, command: [x], upstreams: [*a, a/b, {service: c/d}], env: {A: 1}}"))
	f.Add([]byte("services: [{name: a/b, command: ['{upstream:a/c}', '{{port}}'], objective: {p99: 1s, errors: 0.1%}}]"))
	f.Add([]byte("? [a]\n: b\n--- \n<<: {}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := ParseFile("f", data)
		if err != nil {
			checkFaults(t, err)
			return
		}
		if again, err := ParseFile("f", data); err != nil || describe(again) != describe(file) {
			t.Fatalf("parses differently the second time: %v", err)
		}
		for i := range file.Services {
			s := &file.Services[i]
			if s.Name == "" || len(s.Command) == 0 || s.Instances < 1 || s.Protocol == "" || s.Ready.Timeout <= 0 {
				t.Fatalf("incomplete service %+v", s)
			}
		}
	})
}

func checkFaults(t *testing.T, err error) {
	t.Helper()
	var file *FileError
	if !errors.As(err, &file) {
		t.Fatalf("not a *FileError: %v", err)
	}
	faults := file.Faults
	for _, fault := range faults {
		if fault.Line < 1 || fault.Column < 1 || fault.Reason == "" || fault.Remedy == "" {
			t.Fatalf("fault without position, reason or remedy: %+v", fault)
		}
	}
	if len(faults) == 0 || len(faults) > maxFaults {
		t.Fatalf("%d faults", len(faults))
	}
	for _, r := range err.Error() {
		if r != '\n' && (r < ' ' || r == 0x7f) {
			t.Fatalf("control character %q in message %q", r, err.Error())
		}
	}
}
