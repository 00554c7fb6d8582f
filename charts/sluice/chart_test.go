// Package sluice_test reads the chart as a reviewer would: it renders the templates and looks
// at what would be installed.
package sluice_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/sluicemesh/sluice/api/v1alpha1"
	"github.com/sluicemesh/sluice/e2e/cluster/chart"
)

type object = chart.Object

// render renders the chart with changes to its values, and returns the objects by "Kind/name".
func render(t *testing.T, changes string) map[string]object {
	t.Helper()
	list, err := chart.Render(".", chart.Release{Name: "sluice", Namespace: "sluice-system"}, changes)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]object{}
	for _, o := range list {
		out[fmt.Sprintf("%s/%s", o["kind"], at(o, "metadata", "name"))] = o
	}
	return out
}

// at walks into nested maps; nil if there is nothing.
func at(o any, path ...string) any {
	for _, key := range path {
		m, ok := o.(object)
		if !ok {
			return nil
		}
		o = m[key]
	}
	return o
}

const everything = `
watchNamespace: ""
actions: {restart: true, replace: true, scale: true, rollback: true}
identity: {secretName: sluice-operator-tls}
api: {secretName: sluice-api}
agents: {enabled: true}
accounts: [viewer, admin]
image: {pullSecrets: [{name: pull}]}
metrics: {serviceMonitor: true, prometheusRule: true, labels: {release: prometheus}}
`

// No rule has a wildcard, and none reaches secrets, what runs in a pod, or the right to be
// somebody else.
func TestRolesAreTheLeast(t *testing.T) {
	rules := 0
	for name, o := range render(t, everything) {
		if o["kind"] != "Role" && o["kind"] != "ClusterRole" {
			continue
		}
		for _, r := range o["rules"].([]any) {
			rules++
			for _, list := range []string{"apiGroups", "resources", "verbs"} {
				for _, v := range at(r, list).([]any) {
					switch v {
					case "*", "secrets", "pods/exec", "pods/attach", "pods/portforward", "nodes/proxy", "serviceaccounts/token",
						"impersonate", "escalate", "bind", "deletecollection":
						t.Errorf("%s has %v in %s", name, v, list)
					}
				}
			}
		}
	}
	if rules < 15 {
		t.Errorf("%d rules were looked at", rules)
	}
}

// An action that is off has no role, and none of its rights is in another.
func TestActionsAreApart(t *testing.T) {
	off := render(t, "actions: {restart: false, replace: false, scale: false, rollback: false}")
	for name, o := range off {
		if o["kind"] != "ClusterRole" || strings.HasSuffix(name, "-admin") || strings.HasSuffix(name, "-proposer") ||
			strings.HasSuffix(name, "-approver") {
			continue
		}
		for _, r := range o["rules"].([]any) {
			group := at(r, "apiGroups").([]any)[0]
			for _, verb := range at(r, "verbs").([]any) {
				if verb != "get" && verb != "list" && verb != "watch" && (group == "" || group == "apps") {
					t.Errorf("%s may %v %v", name, verb, at(r, "resources"))
				}
			}
		}
	}
	on := render(t, everything)
	for _, action := range []string{"restart", "replace", "scale", "rollback"} {
		name := "ClusterRole/sluice-sluice-system-" + action
		if off[name] != nil || on[name] == nil {
			t.Errorf("%s: off %v, on %v", name, off[name] != nil, on[name] != nil)
		}
	}
}

func TestAgentsMayOnlyPropose(t *testing.T) {
	all := render(t, everything)
	var bound []any
	for _, o := range all {
		subjects, _ := o["subjects"].([]any)
		for _, s := range subjects {
			if at(s, "name") == "sluice-agents" {
				bound = append(bound, at(o, "roleRef", "name"))
			}
		}
	}
	if len(bound) != 1 || bound[0] != "sluice-sluice-system-proposer" {
		t.Errorf("the agents are bound to %v", bound)
	}
	account := at(all["Deployment/sluice-agents"], "spec", "template", "spec", "serviceAccountName")
	if account != "sluice-agents" {
		t.Errorf("the agents run as %v", account)
	}
}

// Every pod passes the restricted pod security standard.
func TestPodsAreRestricted(t *testing.T) {
	seen := 0
	for name, o := range render(t, everything) {
		spec := at(o, "spec", "template", "spec")
		if o["kind"] == "Pod" {
			spec = o["spec"]
		}
		if spec == nil {
			continue
		}
		seen++
		if at(spec, "securityContext", "runAsNonRoot") != true || at(spec, "securityContext", "seccompProfile", "type") != "RuntimeDefault" {
			t.Errorf("%s: pod security %v", name, at(spec, "securityContext"))
		}
		for _, c := range at(spec, "containers").([]any) {
			s := at(c, "securityContext")
			if at(s, "allowPrivilegeEscalation") != false || at(s, "readOnlyRootFilesystem") != true ||
				fmt.Sprint(at(s, "capabilities", "drop")) != "[ALL]" {
				t.Errorf("%s: container security %v", name, s)
			}
		}
		for _, key := range []string{"hostNetwork", "hostPID", "hostIPC"} {
			if at(spec, key) != nil {
				t.Errorf("%s has %s", name, key)
			}
		}
	}
	if seen != 3 {
		t.Errorf("%d pods were looked at, want operator, agents and test", seen)
	}
}

// In one namespace nothing is bound in the whole cluster but what asks who somebody is.
func TestInstalledInOneNamespace(t *testing.T) {
	for name, o := range render(t, "watchNamespace: shop") {
		if o["kind"] == "ClusterRoleBinding" && name != "ClusterRoleBinding/sluice-sluice-system-review" {
			t.Errorf("%s is there", name)
		}
		if o["kind"] == "RoleBinding" && at(o, "metadata", "name") == "sluice-sluice-system-see" && at(o, "metadata", "namespace") != "shop" {
			t.Errorf("%s is in %v", name, at(o, "metadata", "namespace"))
		}
	}
}

// The chart's definitions are those of the API, and can be left out.
func TestDefinitions(t *testing.T) {
	entries, err := v1alpha1.Definitions.ReadDir("crds")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		want, err := v1alpha1.Definitions.ReadFile("crds/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join("crd", e.Name()))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("crd/%s is not api/v1alpha1/crds/%s (%v): copy it", e.Name(), e.Name(), err)
		}
	}
	count := func(changes string) int {
		n := 0
		for _, o := range render(t, changes) {
			if o["kind"] == "CustomResourceDefinition" {
				n++
			}
		}
		return n
	}
	if on, off := count(""), count("crds: {install: false}"); on != len(entries) || off != 0 {
		t.Errorf("%d definitions, %d when they are off", on, off)
	}
}

// The schema names every value, and no other.
func TestSchemaNamesEveryValue(t *testing.T) {
	text, err := os.ReadFile("values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema object
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	if text, err = os.ReadFile("values.yaml"); err != nil {
		t.Fatal(err)
	}
	var values object
	if err := yaml.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	compare(t, "", values, schema)
}

func compare(t *testing.T, path string, values, schema object) {
	properties, _ := schema["properties"].(object)
	if properties == nil {
		return // free, as labels are
	}
	for key, value := range values {
		own, known := properties[key].(object)
		if !known {
			t.Errorf("%s.%s is not in the schema", path, key)
			continue
		}
		if inner, ok := value.(object); ok {
			compare(t, path+"."+key, inner, own)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(properties)) {
		if _, known := values[key]; !known && key != "global" {
			t.Errorf("%s.%s is in the schema alone", path, key)
		}
	}
}

func TestAgentsNeedTheAPI(t *testing.T) {
	_, err := chart.Render(".", chart.Release{Name: "sluice", Namespace: "sluice-system"}, "agents: {enabled: true}")
	if err == nil || !strings.Contains(err.Error(), "api.secretName") {
		t.Errorf("got %v, want what is missing", err)
	}
}
