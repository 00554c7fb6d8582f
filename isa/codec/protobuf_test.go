package codec_test

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/isa/codec"
)

const example = `plan cart-1 epoch sha256:0123 deadline 120s
d1 = drain shop/cart 100% hold deadline 30s lease 60s
r1 = restart shop/cart rolling with d1 after d1
t1 = restore d1 ramp 10s after r1
s1 = scale shop/cart to 3
verify shop/cart for 30s
`

func encoded(t *testing.T) []byte {
	t.Helper()
	p, _, faults := isa.ParseText([]byte(example))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	src, err := codec.Encode(p, codec.Protobuf)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// TestProtobufStrict refuses what a lenient decoder would pass over.
func TestProtobufStrict(t *testing.T) {
	src := encoded(t)
	appended := func(field protowire.Number, text string) []byte {
		return protowire.AppendString(protowire.AppendTag(bytes.Clone(src), field, protowire.BytesType), text)
	}
	deep := []byte{}
	for range 100 {
		deep = protowire.AppendBytes(protowire.AppendTag(nil, 4, protowire.BytesType), deep)
	}
	zero := int64(0)
	tests := []struct {
		name string
		src  []byte
		code isa.Code
	}{
		{"an unknown field", appended(99, "x"), isa.CodeDecode},
		{"a field given twice", appended(1, "cart-1"), isa.CodeDecode},
		{"a length past the end", src[:len(src)-1], isa.CodeDecode},
		{"a varint of 10 bytes", append(bytes.Clone(src), bytes.Repeat([]byte{0xff}, 10)...), isa.CodeDecode},
		{"a group", append(bytes.Clone(src), 0x0b), isa.CodeDecode},
		{"bytes that are no UTF-8", appended(2, "\xff"), isa.CodeDecode},
		{"deep nesting", deep, isa.CodeDecode},
		{"nothing", nil, isa.CodeDecode},
		{"32,000 empty steps", bytes.Repeat([]byte{0x22, 0}, 32_000), isa.CodeTooLarge},
		{"more than 64 KiB", bytes.Repeat([]byte{0x22, 0}, 40_000), isa.CodeTooLarge},
		{"an explicit zero", message(t, &sluicev1.IsaDrain{Target: &sluicev1.IsaTarget{Service: "shop/cart"},
			Share: &zero}), isa.CodeRange},
	}
	for _, test := range tests {
		_, _, faults := codec.Decode(test.src, codec.Protobuf)
		if len(faults) == 0 || faults[0].Code != test.code {
			t.Errorf("%s: want %s, got %v", test.name, test.code, faults)
		}
	}
}

func message(t *testing.T, drain *sluicev1.IsaDrain) []byte {
	t.Helper()
	src, err := proto.Marshal(&sluicev1.IsaProgram{Id: "p", Steps: []*sluicev1.IsaStep{
		{Id: "d1", Action: &sluicev1.IsaStep_Drain{Drain: drain}}}})
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// TestFieldNames keeps the message's field names those of the JSON spelling.
func TestFieldNames(t *testing.T) {
	out, err := codec.Encode(mustParse(t, strings.ReplaceAll(example, "s1 = scale shop/cart to 3",
		"b1 = break shop/cart from shop/a requests 1 connections 2 pending 3 retries 4 5xx 5 lease 6s\n"+
			"l1 = limit shop/cart from shop/a 1.5/s burst 2 lease 6s\n"+
			"c1 = rollback configmap/shop/cart to 7\na1 = await d1 until lease\n"+
			"d2 = drain shop/cart{zone=a,version=v}@[u1,u2] 5% to shop/b streams cut\nr2 = restart [shop/a,shop/b]")), codec.Protobuf)
	if err != nil || len(out) == 0 {
		t.Errorf("a field of the JSON spelling is missing in program.proto: %v", err)
	}
}

func mustParse(t *testing.T, src string) isa.Program {
	t.Helper()
	p, _, faults := isa.ParseText([]byte(src))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return p
}

func TestParseFormat(t *testing.T) {
	for name, want := range map[string]codec.Format{"text": codec.Text, "json": codec.JSON, "yml": codec.YAML,
		"yaml": codec.YAML, "pb": codec.Protobuf} {
		if got, err := codec.ParseFormat(name); err != nil || got != want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	if _, err := codec.ParseFormat("toml"); err == nil {
		t.Error("toml is accepted")
	}
}

func fuzzDecode(f *testing.F, format codec.Format) {
	p, _, faults := isa.ParseText([]byte(example))
	if len(faults) > 0 {
		f.Fatal(faults)
	}
	src, err := codec.Encode(p, format)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(src)
	f.Fuzz(func(t *testing.T, src []byte) {
		p, _, faults := codec.Decode(src, format)
		for _, fault := range faults {
			for _, c := range []byte(fault.Path + fault.Reason + fault.Remedy) {
				if c < 0x20 || c >= 0x7f {
					t.Fatalf("raw byte %#x in %+q", c, fault.Error())
				}
			}
		}
		if len(faults) > 0 {
			return
		}
		isa.Validate(p, nil)
		for _, other := range formats() {
			out, err := codec.Encode(p, other)
			if err != nil {
				t.Fatalf("%s: %v", other, err)
			}
			back, _, faults := codec.Decode(out, other)
			if len(faults) > 0 && faults[0].Code == isa.CodeTooLarge {
				continue // the other spelling is longer
			}
			if len(faults) > 0 || isa.Hash(back, "") != isa.Hash(p, "") {
				t.Fatalf("another program through %s: %v\n%s", other, faults, out)
			}
		}
	})
}

func FuzzYAML(f *testing.F)     { fuzzDecode(f, codec.YAML) }
func FuzzProtobuf(f *testing.F) { fuzzDecode(f, codec.Protobuf) }
