package codec_test

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/isa/codec"
	"github.com/sluicemesh/sluice/mesh"
)

var update = flag.Bool("update", false, "rewrite scripts")

func TestMain(m *testing.M) {
	flag.Parse()
	if *update {
		if err := flag.Set("rewrite", "true"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

func formats() []codec.Format {
	return []codec.Format{codec.Text, codec.JSON, codec.YAML, codec.Protobuf}
}

// TestRoundTrip spells random programs in every way and reads them back.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := program(t)
		for _, format := range formats() {
			src, err := codec.Encode(p, format)
			if err != nil {
				t.Fatalf("%s: %v", format, err)
			}
			back, _, faults := codec.Decode(src, format)
			if len(faults) > 0 {
				t.Fatalf("%s: %v\n%s", format, faults, src)
			}
			if !reflect.DeepEqual(p, back) {
				t.Fatalf("%s: got %+v, want %+v\n%s", format, back, p, src)
			}
			again, err := codec.Encode(back, format)
			if err != nil || string(again) != string(src) {
				t.Fatalf("%s: spelled differently the second time\n%s\n%s", format, src, again)
			}
		}
		text, js := isa.FormatText(p), isa.FormatJSON(p)
		for _, src := range [][]byte{text, js} {
			if back, _, _ := codec.Decode(src, codec.Auto); isa.Hash(back, "a") != isa.Hash(p, "a") {
				t.Fatalf("the hash depends on the spelling:\n%s", src)
			}
		}
	})
}

// program draws a program with valid names and numbers; it need not pass the checker.
func program(t *rapid.T) isa.Program {
	p := isa.Program{
		ID:       rapid.StringMatching(`[a-z0-9-]{1,64}`).Draw(t, "id"),
		Epoch:    rapid.StringMatching(`(sha256:[0-9a-f]{1,64})?`).Draw(t, "epoch"),
		Deadline: duration(t),
	}
	for range rapid.IntRange(1, 5).Draw(t, "steps") {
		step := isa.Step{ID: id(t), Action: action(t)}
		for range rapid.IntRange(0, 3).Draw(t, "after") {
			step.After = append(step.After, id(t))
		}
		p.Steps = append(p.Steps, step)
	}
	for range rapid.IntRange(0, 2).Draw(t, "verify") {
		p.Verify = append(p.Verify, isa.Check{Service: service(t), For: duration(t) + time.Second})
	}
	return p
}

// id is often a word that means something in some spelling.
func id(t *rapid.T) isa.StepID {
	return isa.StepID(rapid.OneOf(rapid.StringMatching(`[a-z0-9-]{1,12}`),
		rapid.SampledFrom([]string{"plan", "verify", "after", "no", "yes", "null", "1", "0x1", "1e3",
			"2026-01-01", "-"})).
		Filter(func(s string) bool { return s != "none" }).Draw(t, "id"))
}

func service(t *rapid.T) mesh.Service {
	label := rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?`)
	return mesh.Service(label.Draw(t, "namespace") + "/" + label.Draw(t, "name"))
}

func optional(t *rapid.T) mesh.Service {
	if rapid.Bool().Draw(t, "set") {
		return service(t)
	}
	return ""
}

// duration is 0 or has an odd unit.
func duration(t *rapid.T) time.Duration {
	unit := rapid.SampledFrom([]time.Duration{0, 1, time.Microsecond, time.Millisecond, time.Second}).Draw(t, "unit")
	return unit * time.Duration(rapid.IntRange(1, 86_399).Draw(t, "count"))
}

func target(t *rapid.T, group bool) isa.Target {
	token := rapid.StringMatching(`[A-Za-z0-9._:-]{1,40}`)
	label := rapid.StringMatching(`[A-Za-z0-9]([A-Za-z0-9._-]{0,10}[A-Za-z0-9])?`)
	out := isa.Target{Service: service(t)}
	switch rapid.IntRange(0, 5).Draw(t, "target") {
	case 0:
		out.Instance = rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?`).Draw(t, "instance")
	case 1:
		out.UID = mesh.UID(token.Draw(t, "uid"))
	case 2:
		out.Zone = label.Draw(t, "zone")
		out.Version = rapid.OneOf(rapid.Just(""), label).Draw(t, "version")
		if rapid.Bool().Draw(t, "bound") {
			out.UIDs = []mesh.UID{mesh.UID(token.Draw(t, "uid")), mesh.UID(token.Draw(t, "uid"))}
		}
	case 3:
		if group {
			out = isa.Target{Group: []mesh.Service{service(t), service(t)}}
		}
	}
	return out
}

func action(t *rapid.T) isa.Action {
	count := func() uint32 { return rapid.Uint32Range(0, 1<<30).Draw(t, "count") }
	switch rapid.IntRange(0, 7).Draw(t, "action") {
	case 0:
		a := isa.Restart{Target: target(t, true), Deadline: duration(t)}
		a.Mode = rapid.SampledFrom([]isa.Mode{"", isa.Rolling, isa.Replace, isa.InPlace}).Draw(t, "mode")
		switch rapid.IntRange(0, 2).Draw(t, "drain") {
		case 0:
			a.Drain = id(t)
		case 1:
			a.NoDrain = true
		}
		return a
	case 1:
		a := isa.Drain{Target: target(t, false), To: optional(t), Deadline: duration(t), Lease: duration(t)}
		a.Share = rapid.IntRange(0, 100).Draw(t, "share")
		a.OnEmpty = rapid.SampledFrom([]mesh.OnEmpty{"", mesh.OnEmptyHold, mesh.OnEmptyShed}).Draw(t, "onEmpty")
		a.Streams = rapid.SampledFrom([]mesh.StreamPolicy{"", mesh.StreamsWait, mesh.StreamsAsk, mesh.StreamsCut,
			mesh.StreamsRefuse}).Draw(t, "streams")
		return a
	case 2:
		return isa.RestoreTraffic{Drain: id(t), Ramp: duration(t)}
	case 3:
		return isa.CircuitBreak{Target: target(t, false), Caller: optional(t), MaxRequests: count(),
			MaxConnections: count(),
			MaxPending:     count(), MaxRetries: count(), Consecutive5xx: count(), Lease: duration(t)}
	case 4:
		rate := rapid.OneOf(rapid.Float64Range(0, 1e9), rapid.SampledFrom([]float64{0, 0.1, 1e-7, 5e-324,
			1e9})).Draw(t, "rate")
		return isa.RateLimit{Target: target(t, false), Caller: optional(t), PerSecond: rate, Burst: count(),
			Lease: duration(t)}
	case 5:
		return isa.Scale{Target: target(t, false), Replicas: rapid.IntRange(0, isa.MaxReplicas).Draw(t, "replicas")}
	case 6:
		revision := rapid.StringMatching(`[A-Za-z0-9._:-]{1,20}`).Draw(t, "revision")
		return isa.RollbackConfig{Object: "configmap/" + string(service(t)), Revision: revision}
	}
	return isa.Await{Drain: id(t), Until: rapid.SampledFrom([]isa.AwaitUntil{isa.AwaitRestore,
		isa.AwaitLease}).Draw(t, "until")}
}

// TestScripts runs testdata/*.txt: "yaml" reads a YAML program and prints it in text, or
// its faults; "encode format=yaml" spells a text program.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "yaml":
				p, _, faults := codec.Decode([]byte(d.Input), codec.YAML)
				if len(faults) > 0 {
					return list(faults)
				}
				return string(isa.FormatText(p))
			case "encode":
				p, _, faults := isa.ParseText([]byte(d.Input))
				if len(faults) > 0 {
					return list(faults)
				}
				out, err := codec.Encode(p, codec.YAML)
				if err != nil {
					return err.Error() + "\n"
				}
				return string(out)
			}
			t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
			return ""
		})
	})
}

func list(faults []isa.Fault) string {
	var out strings.Builder
	for _, f := range faults {
		fmt.Fprintln(&out, f.Error())
	}
	return out.String()
}
