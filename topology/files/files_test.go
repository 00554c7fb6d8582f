package files

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/sluicemesh/sluice/topology"
)

// TestScripts reads the files that the scripts of testdata hold: `read FORMAT`.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if filepath.Ext(path) != ".txt" {
			return // the corpus of fuzzing
		}
		datadriven.RunTest(t, path, func(_ *testing.T, d *datadriven.TestData) string {
			return reading(Format(d.CmdArgs[0].Key), d.Input)
		})
	})
}

// reading prints what a file gives.
func reading(format Format, input string) string {
	var out strings.Builder
	counts, err := Read(format, "FILE", strings.NewReader(input), Settings{
		Sink:    func(c topology.Call) { out.WriteString(describe(c)) },
		Service: func(name string) { fmt.Fprintf(&out, "service %s\n", name) },
	})
	if err != nil {
		return out.String() + "error: " + err.Error() + "\n"
	}
	fmt.Fprintf(&out, "records %d, calls %d, joined %d, served %d, orphans %d, unresolved %d, skewed %d, async %d, dropped %d\n",
		counts.Records, counts.Calls, counts.Joined, counts.Served, counts.Orphans, counts.Unresolved, counts.Skewed, counts.Async, counts.Dropped)
	return out.String()
}

func describe(c topology.Call) string {
	text := strings.TrimSpace(fmt.Sprintf("%s -> %s", c.Caller, c.Callee))
	if c.Instance != "" {
		text += " at " + c.Instance
	}
	if c.Existence {
		return text + " exists\n"
	}
	text += " " + c.Latency.String()
	if c.Weight > 1 {
		text += fmt.Sprintf(" x%d", c.Weight)
	}
	if c.Failed {
		text += " failed"
	}
	return text + "\n"
}

func TestGzipIsUndone(t *testing.T) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := io.WriteString(w, edgeColumns+"\na,b,rpc,3\n"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "edges.csv.gz")
	if err := os.WriteFile(path, packed.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	counts, err := ReadFile(CSV, path, Settings{Sink: func(topology.Call) {}})
	if err != nil || counts.Calls != 3 {
		t.Errorf("got %+v, %v, want 3 calls", counts, err)
	}
}

// However many traces a file has open at once, no more than the most allowed are held, and
// what was closed early is counted, not lost.
func TestMemoryIsBounded(t *testing.T) {
	f := &file{name: "FILE", names: map[string]string{}}
	served := 0
	f.Sink = func(topology.Call) { served++ }
	const most, spans = 1000, 5000
	f.join = joiner{file: f, traces: map[string]*trace{}, most: most}
	for i := range spans {
		f.join.add(span{trace: fmt.Sprint(i), id: "1", service: "web", kind: server})
		if f.join.open > most || len(f.join.traces) > most {
			t.Fatalf("after %d spans %d are held, want at most %d", i, f.join.open, most)
		}
	}
	f.join.close()
	if served != spans || f.join.open != 0 {
		t.Errorf("%d of %d spans served, %d left", served, spans, f.join.open)
	}
}

func TestLongLinesAndElementsAreRefused(t *testing.T) {
	line := edgeColumns + "\na," + strings.Repeat("b", MaxLine) + ",rpc,1\n"
	_, err := Read(CSV, "FILE", strings.NewReader(line), Settings{Sink: func(topology.Call) {}})
	var fault *Error
	if !errors.As(err, &fault) || !strings.Contains(fault.Reason, "more than") {
		t.Errorf("got %v, want the line refused", err)
	}
	element := io.MultiReader(strings.NewReader(`[{"traceId":"`), io.LimitReader(endless{}, MaxElement+1<<20))
	_, err = Read(Zipkin, "FILE", element, Settings{Sink: func(topology.Call) {}})
	if !errors.As(err, &fault) || !strings.Contains(fault.Reason, "more than") {
		t.Errorf("got %v, want the element refused", err)
	}
}

// endless reads as the letter a.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}

// TestRealRecordings reads the optional recordings that SLUICE_DATA, else a folder
// beside the repository, holds.
func TestRealRecordings(t *testing.T) {
	folder := os.Getenv("SLUICE_DATA")
	if folder == "" {
		folder = filepath.Join("..", "..", "..", "shared", "data")
	}
	for _, c := range []struct {
		format Format
		file   string
	}{
		{Zipkin, "zipkin/smartthings-mobile-web-install.json"}, {Zipkin, "zipkin/messaging-kafka.json"},
		{Zipkin, "zipkin/envoy.json"}, {Zipkin, "zipkin/skew.json"}, {Zipkin, "zipkin/yelp.json"},
		{CSV, "spans/nezha-ts/ts-2023-01-30-normal.csv.gz"}, {CSV, "graphs/nezha-ts.edges.csv"},
		{Alibaba, "study-only/alibaba_v2021_sample_rows.csv"}, {Meta, "study-only/meta_atc23/service-characteristics.csv.gz"},
	} {
		t.Run(c.file, func(t *testing.T) {
			path := filepath.Join(folder, c.file)
			if _, err := os.Stat(path); err != nil {
				t.Skipf("optional data absent: no %s; name the folder with SLUICE_DATA", c.file)
			}
			counts, err := ReadFile(c.format, path, Settings{Sink: func(topology.Call) {}})
			if err != nil || counts.Records == 0 {
				t.Errorf("got %+v, %v", counts, err)
			}
			t.Logf("%+v", counts)
		})
	}
}

// fuzzed checks what must hold of any file: no panic, calls that name a callee and no
// negative time, and nothing after an error.
func fuzzed(t *testing.T, format Format, data []byte) {
	_, err := Read(format, "FILE", bytes.NewReader(data), Settings{Sink: func(c topology.Call) {
		if c.Callee == "" || c.Latency < 0 || c.Source != topology.Span || c.At.After(time.Unix(1<<40, 0)) {
			t.Errorf("call %+v", c)
		}
	}})
	var fault *Error
	if err != nil && (!errors.As(err, &fault) || fault.Reason == "" || fault.Remedy == "" || fault.File != "FILE") {
		t.Errorf("error without a place or a remedy: %v", err)
	}
}

// seeds adds the files of a script.
func seeds(f *testing.F, script string, format Format) {
	text, err := os.ReadFile(filepath.Join("testdata", script))
	if err != nil {
		f.Fatal(err)
	}
	for _, part := range strings.Split(string(text), "read ")[1:] {
		kind, rest, _ := strings.Cut(part, "\n")
		input, _, _ := strings.Cut(rest, "----")
		if Format(kind) == format {
			f.Add([]byte(input))
		}
	}
}

func FuzzZipkin(f *testing.F) {
	seeds(f, "zipkin.txt", Zipkin)
	f.Fuzz(func(t *testing.T, data []byte) { fuzzed(t, Zipkin, data) })
}

func FuzzJaeger(f *testing.F) {
	seeds(f, "jaeger.txt", Jaeger)
	f.Fuzz(func(t *testing.T, data []byte) { fuzzed(t, Jaeger, data) })
}

func FuzzOTLP(f *testing.F) {
	seeds(f, "otlp.txt", OTLP)
	f.Fuzz(func(t *testing.T, data []byte) { fuzzed(t, OTLP, data) })
}

func FuzzCSV(f *testing.F) {
	seeds(f, "csv.txt", CSV)
	f.Fuzz(func(t *testing.T, data []byte) { fuzzed(t, CSV, data) })
}

func FuzzAlibaba(f *testing.F) {
	seeds(f, "rows.txt", Alibaba)
	f.Fuzz(func(t *testing.T, data []byte) { fuzzed(t, Alibaba, data) })
}

func FuzzMeta(f *testing.F) {
	seeds(f, "rows.txt", Meta)
	f.Fuzz(func(t *testing.T, data []byte) { fuzzed(t, Meta, data) })
}
