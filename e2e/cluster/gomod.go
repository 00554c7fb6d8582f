package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// moduleName of the module that is generated to build Kubernetes in.
const moduleName = "sluice.invalid/kubernetes"

// goMod turns the go.mod of k8s.io/kubernetes into one of a module that requires it. The
// original takes its staging modules from directories beside it, which a module from the
// proxy does not have; all of them are published as v0.x of the same release.
func goMod(original, version string) (string, error) {
	minor, ok := strings.CutPrefix(version, "1.")
	if !ok {
		return "", fmt.Errorf("version %q: want 1.MINOR.PATCH", version)
	}
	staging := "v0." + minor
	replaced := regexp.MustCompile(`(?m)^\t(\S+) => \./staging/`).FindAllStringSubmatch(original, -1)
	if len(replaced) == 0 {
		return "", errors.New("go.mod of Kubernetes names no staging modules: its form has changed")
	}
	text := regexp.MustCompile(`(?ms)^replace \(.*?^\)\n`).ReplaceAllString(original, "")
	text = regexp.MustCompile(`(?m) v0\.0\.0($| //)`).ReplaceAllString(text, " "+staging+"$1")
	text = regexp.MustCompile(`(?m)^module .*$`).ReplaceAllString(text, "module "+moduleName)
	var out strings.Builder
	out.WriteString(text)
	fmt.Fprintf(&out, "\nrequire k8s.io/kubernetes v%s\n\nreplace (\n", version)
	for _, module := range replaced {
		fmt.Fprintf(&out, "\t%s => %s %s\n", module[1], module[1], staging)
	}
	out.WriteString(")\n")
	return out.String(), nil
}

// versionFlags are the linker flags that tell Kubernetes its version; without them its
// programs say v0.0.0, and refuse each other for it.
func versionFlags(version string) string {
	const p = "k8s.io/component-base/version."
	minor, _, _ := strings.Cut(strings.TrimPrefix(version, "1."), ".")
	flags := []string{"-s", "-w"}
	for _, v := range [][2]string{
		{"gitVersion", "v" + version}, {"gitMajor", "1"}, {"gitMinor", minor},
		{"gitCommit", strings.Repeat("0", 40)}, {"gitTreeState", "clean"}, {"buildDate", "2026-01-01T00:00:00Z"},
	} {
		flags = append(flags, "-X "+p+v[0]+"="+v[1])
	}
	return strings.Join(flags, " ")
}

// sorted returns the keys of a set.
func sorted[K cmp.Ordered](set map[K]bool) []K {
	keys := make([]K, 0, len(set))
	for key := range set {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
