package journal

import (
	"bytes"
	"errors"
	"flag"
	"go/ast"
	goparser "go/parser"
	"go/token"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// fill sets every field of v to something that is not zero, and is not the same twice.
// Interfaces get each action in turn.
func fill(v reflect.Value, rng *rand.Rand, depth int) {
	if v.Type() == reflect.TypeFor[netip.AddrPort]() {
		addr := netip.AddrFrom4([4]byte{127, 0, byte(rng.Uint32()), byte(rng.Uint32())})
		v.Set(reflect.ValueOf(netip.AddrPortFrom(addr, uint16(rng.Uint32()))))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), rng, depth+1)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rng.IntN(3), 4))
		for i := range v.Len() {
			fill(v.Index(i), rng, depth+1)
		}
	case reflect.Pointer:
		if rng.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), rng, depth+1)
		}
	case reflect.Interface:
		types := actionTypes()
		action := reflect.New(types[rng.IntN(len(types))].kind).Elem()
		fill(action, rng, depth+1)
		v.Set(action)
	case reflect.String:
		texts := []string{"shop/cart", "", "a\"b\\c\n\x00\x1f", "größe – ☃", "\u2028<&>", strings.Repeat("x", 200)}
		v.SetString(texts[rng.IntN(len(texts))])
	case reflect.Float64:
		v.SetFloat([]float64{0, 1, -0.25, 1e300, 1.0 / 3, math.Copysign(0, -1)}[rng.IntN(6)])
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	default:
		if v.CanInt() {
			v.SetInt(int64(rng.Uint64()) >> rng.IntN(64))
			return
		}
		v.SetUint(rng.Uint64() >> (64 - v.Type().Bits()) >> rng.IntN(v.Type().Bits()))
	}
}

func TestEveryEventComesBackAsItWas(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, kind := range eventTypes() {
		for range 60 {
			v := reflect.New(kind.kind).Elem()
			fill(v, rng, 0)
			ev := v.Interface().(microkernel.Event)
			payload, err := EncodeEvent(ev)
			if err != nil {
				t.Fatalf("%s: %v", kind.name, err)
			}
			back, err := DecodeEvent(payload)
			if err != nil {
				t.Fatalf("%s: %v\n%s", kind.name, err, payload)
			}
			// DeepEqual tells nil from empty, but not 0 from -0.
			if !reflect.DeepEqual(ev, back) {
				t.Fatalf("%s: got %+v\nwant %+v", kind.name, back, ev)
			}
		}
	}
}

// A type that is added to the kernel or the instruction set must be added here too.
func TestEveryEventAndActionIsRegistered(t *testing.T) {
	events := embedding(t, "../event.go", "Stamp")
	if len(events) < 16 {
		t.Fatalf("found %v only", events)
	}
	for _, name := range events {
		if _, known := typeOf(eventTypes(), name); !known {
			t.Errorf("event %s is not in eventTypes", name)
		}
	}
	actions := returning(t, "../../isa/program.go", "Kind")
	if len(actions) != len(actionTypes()) {
		t.Errorf("isa has the actions %v, actionTypes lists %d", actions, len(actionTypes()))
	}
}

// embedding returns the struct types of a file that embed a type.
func embedding(t *testing.T, path, embedded string) []string {
	t.Helper()
	var out []string
	ast.Inspect(parse(t, path), func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if s, ok := spec.Type.(*ast.StructType); ok {
			for _, f := range s.Fields.List {
				if id, ok := f.Type.(*ast.Ident); ok && len(f.Names) == 0 && id.Name == embedded {
					out = append(out, spec.Name.Name)
				}
			}
		}
		return true
	})
	return out
}

// returning returns the receivers of the methods of a file called method.
func returning(t *testing.T, path, method string) []string {
	t.Helper()
	var out []string
	ast.Inspect(parse(t, path), func(n ast.Node) bool {
		if f, ok := n.(*ast.FuncDecl); ok && f.Recv != nil && f.Name.Name == method {
			out = append(out, f.Recv.List[0].Type.(*ast.Ident).Name)
		}
		return true
	})
	return out
}

func parse(t *testing.T, path string) *ast.File {
	t.Helper()
	f, err := goparser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestWhatHasNoEncodingIsRefused(t *testing.T) {
	for name, ev := range map[string]microkernel.Event{
		"text that is not UTF-8": microkernel.Failed{Reason: "\xff"},
		"not a number":           microkernel.Submitted{View: microkernel.View{Sampling: math.NaN()}},
		"infinity": microkernel.Submitted{Program: isa.Program{Steps: []isa.Step{
			{Action: isa.RateLimit{PerSecond: math.Inf(1)}},
		}}},
		"half an address": microkernel.Probed{Instances: []mesh.Instance{
			{App: netip.AddrPortFrom(netip.Addr{}, 80)},
		}},
		"no event": nil,
	} {
		if payload, err := EncodeEvent(ev); err == nil {
			t.Errorf("%s became %s", name, payload)
		}
	}
}

func TestDecodingIsStrict(t *testing.T) {
	good := `{"v":1,"type":"Failed","event":{"At":17,"Plan":"p","Step":"s","Reason":"a\"b"}}`
	good = strings.Replace(good, `"At":17`, `"Stamp":{"At":17}`, 1)
	if _, err := DecodeEvent([]byte(good)); err != nil {
		t.Fatalf("%s: %v", good, err)
	}
	swap := func(old, now string) string { return strings.Replace(good, old, now, 1) }
	for name, text := range map[string]string{
		"nothing":            "",
		"a byte after":       good + "\n",
		"cut":                good[:len(good)-1],
		"another version":    swap(`"v":1`, `"v":2`),
		"no version":         swap(`"v":1,`, ``),
		"unknown type":       swap("Failed", "Exploded"),
		"case of a type":     swap("Failed", "failed"),
		"unknown field":      swap(`"Plan"`, `"Plans"`),
		"case of a field":    swap(`"Plan"`, `"plan"`),
		"field twice":        swap(`"Plan":"p"`, `"Plan":"p","Plan":"p"`),
		"order of fields":    swap(`"Plan":"p","Step":"s"`, `"Step":"s","Plan":"p"`),
		"a zero written out": swap(`"Plan":"p"`, `"Plan":""`),
		"white space":        swap(`,"type"`, `, "type"`),
		"number spelled":     swap(`17`, `17.0`),
		"number with plus":   swap(`17`, `+17`),
		"number too great":   swap(`17`, `9223372036854775808`),
		"other escape":       swap(`a\"b`, `a\u0022b`),
		"control byte":       swap(`a\"b`, "a\x01b"),
		"not UTF-8":          swap(`a\"b`, "a\xffb"),
		"event before type":  `{"v":1,"event":{},"type":"Failed"}`,
		"no event":           `{"v":1,"type":"Failed"}`,
		"unknown action":     `{"v":1,"type":"Submitted","event":{"Program":{"Steps":[{"Action":{"explode":{}}}]}}}`,
		"two actions": `{"v":1,"type":"Submitted","event":{"Program":{"Steps":[{"Action":` +
			`{"scale":{"Replicas":1},"scale":{"Replicas":1}}}]}}}`,
	} {
		ev, err := DecodeEvent([]byte(text))
		if !errors.As(err, new(*DecodeError)) {
			t.Errorf("%s: %v, %v; want a DecodeError", name, ev, err)
		}
	}
}

func FuzzDecodeEvent(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, kind := range eventTypes() {
		v := reflect.New(kind.kind).Elem()
		fill(v, rng, 0)
		payload, err := EncodeEvent(v.Interface().(microkernel.Event))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		ev, err := DecodeEvent(payload)
		if err != nil {
			if !errors.As(err, new(*DecodeError)) {
				t.Fatalf("%v is no DecodeError", err)
			}
			return
		}
		again, err := EncodeEvent(ev)
		if err != nil || !bytes.Equal(again, payload) {
			t.Fatalf("%s\nencodes to\n%s (%v)", payload, again, err)
		}
	})
}

// ---- Golden journals of former programs. NEVER CHANGE a file in testdata: that they can
// ---- still be read is the point. A new version of the format adds a directory.

var writeGolden = flag.Bool("new-golden", false, "write a golden journal that is not there yet")

const goldenV1 = "testdata/v1/0000000000000001.seg"

// ledV1 is microkernel.Led as it was when testdata/v1 was written.
type ledV1 struct {
	microkernel.Stamp
	Term uint64
}

// goldenEvents are what testdata/v1 holds: one event of each type, with one step of each
// action.
func goldenEvents() []microkernel.Event {
	rng := rand.New(rand.NewPCG(5, 6))
	var out []microkernel.Event
	for i, kind := range eventTypes() {
		v := reflect.New(kind.kind).Elem()
		if _, led := v.Interface().(microkernel.Led); led {
			fill(reflect.ValueOf(&ledV1{}).Elem(), rng, 0) // Policy came later
		} else {
			fill(v, rng, 0)
		}
		v.FieldByName("Stamp").Set(reflect.ValueOf(microkernel.Stamp{At: microkernel.Instant(1000 + i)}))
		if led, ok := v.Interface().(microkernel.Led); ok {
			led.Term = 7
			v.Set(reflect.ValueOf(led))
		}
		if submitted, ok := v.Interface().(microkernel.Submitted); ok {
			for _, action := range actionTypes() {
				a := reflect.New(action.kind).Elem()
				fill(a, rng, 0)
				step := isa.Step{ID: isa.StepID(action.name), Action: a.Interface().(isa.Action)}
				submitted.Program.Steps = append(submitted.Program.Steps, step)
			}
			v.Set(reflect.ValueOf(submitted))
		}
		out = append(out, v.Interface().(microkernel.Event))
	}
	return out
}

func TestGoldenJournalCanStillBeRead(t *testing.T) {
	if *writeGolden {
		makeGolden(t)
	}
	sum, err := Verify(filepath.Dir(goldenV1))
	if err != nil || sum.Records != 16 || sum.Term != 7 || sum.Torn != "" {
		t.Fatalf("Verify = %+v, %v", sum, err)
	}
	var text bytes.Buffer
	disk := directory{path: filepath.Dir(goldenV1), readOnly: true}
	if _, err := walkSegments(disk, []string{filepath.Base(goldenV1)}, func(r record) error {
		ev, err := DecodeEvent(r.payload)
		if err != nil {
			return err
		}
		again, err := EncodeEvent(ev)
		if err != nil {
			return err
		}
		text.Write(append(again, '\n'))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/v1/events.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text.Bytes(), want) {
		t.Errorf("the golden journal reads as\n%s\nwant\n%s", text.Bytes(), want)
	}
}

// makeGolden writes the golden journal, once.
func makeGolden(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(goldenV1); err == nil {
		t.Fatalf("%s is there already: never change it", goldenV1)
	}
	path := filepath.Dir(goldenV1)
	disk, err := Directory(path)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(disk, Settings{Segment: 32 << 10, Reserve: 64})
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	for _, ev := range goldenEvents() {
		mustAppend(t, l, ev)
		payload, _ := EncodeEvent(ev)
		text = append(append(text, payload...), '\n')
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(filepath.Join(path, lockName))
	_ = os.Remove(filepath.Join(path, reserveName))
	if err := os.WriteFile("testdata/v1/events.jsonl", text, 0o600); err != nil {
		t.Fatal(err)
	}
}
