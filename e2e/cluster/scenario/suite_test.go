package scenario

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/sluicemesh/sluice/mesh/envoy"
)

func testStage() *stage {
	return &stage{Settings: &Settings{Progress: io.Discard, Images: Images{App: "app:1", Load: "load:1", Operator: "localhost/sluice/sluice-operator:1"}},
		namespace: "one"}
}

// words are what the scenarios fill in.
func words() []string {
	return []string{"$KIND", "StatefulSet", "$REPLICAS", "3", "$HOST", "127.0.0.1", "$POD", "load", "$ADDRESS", "edge:8080",
		"$ENTRY", "shop/web", "$OPERATION", "buy", "$RATE", "60", "$REQUESTS", "600", "$SECONDS", "10"}
}

// Every manifest is YAML with nothing left to fill in, of the namespace of its stage.
func TestManifests(t *testing.T) {
	files, err := filepath.Glob("manifests/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatal(err, files)
	}
	for _, file := range files {
		text, err := testStage().manifest(strings.TrimSuffix(filepath.Base(file), ".yaml"), words()...)
		if err != nil {
			t.Fatal(err)
		}
		if left := regexp.MustCompile(`\$[A-Z_]+`).FindString(text); left != "" {
			t.Errorf("%s: %s is not filled in", file, left)
		}
		decoder := yaml.NewDecoder(strings.NewReader(text))
		for {
			var object struct {
				Kind     string
				Metadata struct{ Name, Namespace string }
			}
			err := decoder.Decode(&object)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || object.Kind == "" || object.Metadata.Name == "" {
				t.Fatalf("%s: %v, %+v", file, err, object)
			}
			if !strings.HasPrefix(object.Kind, "Cluster") && object.Metadata.Namespace != "one" {
				t.Errorf("%s: %s %s is of namespace %q", file, object.Kind, object.Metadata.Name, object.Metadata.Namespace)
			}
		}
	}
}

// What the scenarios inject can be injected, and applications find their sidecar by name.
func TestManifestsCanBeInjected(t *testing.T) {
	for name, want := range map[string]string{
		"cart": `sluicemesh.io/service: cart`, "web": `"listen":"127.1.0.1:8080"`, "gateway": `"listen":"0.0.0.0:8080"`,
	} {
		text, err := testStage().manifest(name, words()...)
		if err != nil {
			t.Fatal(err)
		}
		out, err := envoy.Inject([]byte(text), envoy.Injection{ControlPlane: "operator:15010", Secret: proxySecret,
			Server: "spiffe://" + trustDomain + "/sluice/control-plane", ProxyImage: "envoy:1", InitImage: "netinit:1"})
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, want %s in it:\n%s", name, err, want, out)
		}
	}
}

// The chart is applied in parts, with the images that are here.
func TestControl(t *testing.T) {
	m := &meshed{settings: testStage().Settings}
	m.settings.Chart = "../../../charts/sluice"
	c, err := m.control()
	if err != nil {
		t.Fatal(err)
	}
	if len(c.definitions) != 4 || len(c.tests) != 1 || len(c.rest) < 20 {
		t.Errorf("%d definitions, %d tests, %d others", len(c.definitions), len(c.tests), len(c.rest))
	}
	text, err := json.Marshal(c.rest)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"localhost/sluice/sluice-operator:1"`, `"--mode=Enforce"`, `"sluice-operator-tls"`, `"sluice-admin"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is not in the chart's objects", want)
		}
	}
	m.settings.Images.Operator = "operator:1"
	if _, err := m.control(); err == nil {
		t.Error("an image that the chart cannot name is taken")
	}
}

func TestReplaced(t *testing.T) {
	before := map[string]string{"cart-0": "a", "cart-1": "b"}
	for name, c := range map[string]struct {
		after map[string]string
		want  string
	}{
		"same names, other pods": {map[string]string{"cart-0": "c", "cart-1": "d"}, ""},
		"other names":            {map[string]string{"cart-x": "c", "cart-y": "d"}, ""},
		"one is left":            {map[string]string{"cart-0": "c", "cart-1": "b"}, "cart-1 was not restarted"},
		"one is missing":         {map[string]string{"cart-0": "c"}, "2 pods before, 1 after"},
	} {
		err := replaced(before, c.after)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want %q", name, err, c.want)
		}
	}
}

func TestVerdict(t *testing.T) {
	reason := "no Envoy"
	for name, c := range map[string]struct {
		results []Result
		want    string
	}{
		"all passed":  {[]Result{{Passed: true}, {Passed: true}}, ""},
		"none":        {nil, "no scenario matches"},
		"one failed":  {[]Result{{Passed: true}, {}}, "1 failed and 0 were skipped"},
		"one skipped": {[]Result{{Passed: true}, {Skipped: &reason}}, "0 failed and 1 were skipped"},
	} {
		err := Verdict(c.results)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want %q", name, err, c.want)
		}
	}
}

// The report has the fields that outside checks read, unknown ones as null.
func TestReport(t *testing.T) {
	path := filepath.Join(t.TempDir(), "e2e.json")
	report := Report{Schema: "sluice.e2e/1", Scenarios: []Result{{Name: "one", Passed: true, Seconds: 2.5, Requests: 600}}}
	if err := report.Write(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Scenarios []map[string]any }
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	row := got.Scenarios[0]
	reason, there := row["skipped_reason"]
	if row["name"] != "one" || row["passed"] != true || row["seconds"] != 2.5 || row["requests"] != 600.0 ||
		row["failed_requests"] != 0.0 || !there || reason != nil {
		t.Errorf("a row is %v", row)
	}
	var table strings.Builder
	report.Table(&table)
	if !strings.Contains(table.String(), "passed") || !strings.Contains(table.String(), "600 requests") {
		t.Errorf("the table says %q", table.String())
	}
}

// Scenario names are namespaces, and three of them are for every make test.
func TestScenarios(t *testing.T) {
	smoke := 0
	seen := map[string]bool{}
	for _, s := range All() {
		if !regexp.MustCompile(`^[a-z][a-z-]{1,40}[a-z]$`).MatchString(s.Name) || seen[s.Name] || s.run == nil {
			t.Errorf("scenario %q", s.Name)
		}
		seen[s.Name] = true
		if s.Smoke {
			smoke++
		}
	}
	if smoke != 3 {
		t.Errorf("%d smoke scenarios, want 3", smoke)
	}
}
