package cluster

import (
	"strings"
	"testing"
)

const originalMod136 = `module k8s.io/kubernetes

go 1.26.0

require (
	bitbucket.org/bertimus9/systemstat v0.5.0
	github.com/x/y v0.0.0-20260101000000-abcdefabcdef
	k8s.io/api v0.0.0
	k8s.io/apimachinery v0.0.0 // indirect
)

replace (
	k8s.io/api => ./staging/src/k8s.io/api
	k8s.io/apimachinery => ./staging/src/k8s.io/apimachinery
)
`

func TestGoMod(t *testing.T) {
	got, err := goMod(originalMod136, "1.36.3")
	if err != nil {
		t.Fatal(err)
	}
	want := `module sluice.invalid/kubernetes

go 1.26.0

require (
	bitbucket.org/bertimus9/systemstat v0.5.0
	github.com/x/y v0.0.0-20260101000000-abcdefabcdef
	k8s.io/api v0.36.3
	k8s.io/apimachinery v0.36.3 // indirect
)


require k8s.io/kubernetes v1.36.3

replace (
	k8s.io/api => k8s.io/api v0.36.3
	k8s.io/apimachinery => k8s.io/apimachinery v0.36.3
)
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestGoModRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, version, want string }{
		"version": {originalMod136, "2.0.0", "1.MINOR.PATCH"},
		"form":    {"module k8s.io/kubernetes\n", "1.36.3", "its form has changed"},
	} {
		if _, err := goMod(c.text, c.version); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want one with %q", name, err, c.want)
		}
	}
}

func TestVersionFlags(t *testing.T) {
	flags := versionFlags("1.36.3")
	for _, want := range []string{"version.gitVersion=v1.36.3", "version.gitMajor=1", "version.gitMinor=36 "} {
		if !strings.Contains(flags, want) {
			t.Errorf("flags are %q, want %q among them", flags, want)
		}
	}
}
