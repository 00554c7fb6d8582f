package chart_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicemesh/sluice/e2e/cluster/chart"
)

func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	files["Chart.yaml"] = "{name: one, version: 1.2.3, appVersion: 4.5.6}"
	files["values.yaml"] = "image: {tag: a, registry: b}"
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Values are changed map by map, named templates and files are there, and what runs is last.
func TestRender(t *testing.T) {
	dir := write(t, map[string]string{
		"templates/_names.tpl": `{{ define "tag" }}{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}`,
		"templates/a.yaml": "kind: Deployment\nname: {{ .Release.Name }}\ntag: {{ include \"tag\" . | quote }}\n" +
			"registry: {{ .Values.image.registry }}\n",
		"templates/b.yaml": `{{ range $path, $_ := .Files.Glob "crd/*.yaml" }}{{ $.Files.Get $path }}{{ end }}`,
		"crd/x.yaml":       "kind: CustomResourceDefinition\n",
	})
	got, err := chart.Render(dir, chart.Release{Name: "r", Namespace: "n"}, `image: {tag: ""}`)
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	d := got[1]
	if got[0]["kind"] != "CustomResourceDefinition" || d["name"] != "r" || d["tag"] != "4.5.6" || d["registry"] != "b" {
		t.Errorf("got %v", got)
	}
}

func TestRenderRefuses(t *testing.T) {
	for text, says := range map[string]string{
		`{{ required "set it" .Values.image.none }}`: "none",
		`{{ required "set it" "" }}`:                 "set it",
		`{{ .Values.image.tag | lower }}`:            "lower",
		"a: b: c":                                    "a.yaml",
		`{{ dict 1 2 }}`:                             "no string",
	} {
		_, err := chart.Render(write(t, map[string]string{"templates/a.yaml": text}), chart.Release{}, "")
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want %s", text, err, says)
		}
	}
}
