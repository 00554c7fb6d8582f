package envoy

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluicemesh/sluice/internal/testca"
)

func injection() Injection {
	return Injection{ControlPlane: "sluice-operator.sluice-system.svc.cluster.local:15010",
		Server: "spiffe://cluster.local/sluice/control-plane", Secret: "sluice-proxy",
		ProxyImage: "envoy:1", InitImage: "netinit:1"}
}

// inlined is the bootstrap in an argument.
var inlined = regexp.MustCompile(`'\{"admin".*'`)

func TestInject(t *testing.T) {
	files, err := filepath.Glob("testdata/inject/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	for _, file := range files {
		manifest, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Inject(manifest, injection())
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		again := got
		got = inlined.ReplaceAll(got, []byte("BOOTSTRAP")) // which has a golden file of its own
		golden := strings.TrimSuffix(file, ".yaml") + ".golden"
		if *update {
			if err := os.WriteFile(golden, got, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s differs; run with -update and read the diff", golden)
		}
		if _, err := Inject(again, injection()); err == nil || !strings.Contains(err.Error(), "already") && !strings.Contains(err.Error(), "alone") {
			t.Errorf("%s: injected twice, got error %v", file, err)
		}
	}
}

func TestInjectVariants(t *testing.T) {
	manifest, err := os.ReadFile("testdata/inject/deployment.yaml")
	if err != nil {
		t.Fatal(err)
	}
	i := injection()
	i.NoRedirect, i.PullPolicy = true, "Never"
	got, err := Inject(manifest, i)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(got, []byte("NET_ADMIN")) || bytes.Count(got, []byte("imagePullPolicy: Never")) != 1 {
		t.Errorf("without the redirect, one container of ours that needs no privilege: got\n%s", got)
	}
	left := bytes.Replace(manifest, []byte("annotations:\n"), []byte("annotations:\n        sluicemesh.io/inject: \"false\"\n"), 1)
	if got, err = Inject(left, injection()); err != nil || bytes.Contains(got, []byte("sluice-proxy")) {
		t.Errorf("inject: \"false\" is injected: %v", err)
	}
}

func TestInjectRefuses(t *testing.T) {
	manifest, err := os.ReadFile("testdata/inject/deployment.yaml")
	if err != nil {
		t.Fatal(err)
	}
	gateway, err := os.ReadFile("testdata/inject/gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	deployment, edge := string(manifest), string(gateway)
	for name, c := range map[string]struct{ text, old, new, want string }{
		"no yaml":         {"a: [", "", "", "correct the YAML"},
		"a list":          {deployment, "kind: Deployment", "kind: List", "items as documents"},
		"scalar":          {"hello", "", "", "no mapping"},
		"nothing to do":   {"kind: ConfigMap", "", "", "no pod template to inject"},
		"twice":           {deployment, "replicas: 3", "replicas: 3\n  replicas: 4", `key "replicas" comes twice`},
		"alias":           {deployment, "app: cart, tier: back", "app: &x cart, tier: *x", "an alias"},
		"no template":     {deployment, "  template:", "  templates:", "Deployment/cart: has no pod template"},
		"host network":    {deployment, "      initContainers", "      hostNetwork: true\n      initContainers", "hostNetwork"},
		"no service":      {deployment, "selector: {app: cart}", "selector: {app: other}", "annotate the template with sluicemesh.io/service"},
		"port":            {deployment, "shop/db:5432", "shop/db", "has no port"},
		"call twice":      {deployment, "payment/charge:80", "shop/db:80", "shop/db comes twice"},
		"call's name":     {deployment, "shop/db", "shop/D", "annotations"},
		"word":            {deployment, "sticky", "stickie", `neither timeout=DURATION nor sticky`},
		"timeout":         {deployment, "timeout=3s", "timeout=soon", "no duration"},
		"app":             {deployment, "sluicemesh.io/calls: shop/db:5432", "sluicemesh.io/app: http\n        sluicemesh.io/calls: shop/db:5432", "is no port"},
		"gateway's image": {edge, "image: auto", "image: nginx", "one container {name: sluice-proxy, image: auto}"},
		"gateway's calls": {edge, "shop/cart:8080", "", "sends nowhere"},
		"gateway's ports": {edge, "shop/cart:8080", "shop/cart:8080,shop/web:8080", "at the same port"},
	} {
		t.Run(name, func(t *testing.T) {
			text := c.text
			if c.old != "" {
				if text = strings.Replace(c.text, c.old, c.new, 1); text == c.text {
					t.Fatal("the case changes nothing")
				}
			}
			got, err := Inject([]byte(text), injection())
			var fault *ManifestError
			if err == nil || !errors.As(err, &fault) || name != "call's name" && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want a ManifestError with %q", err, c.want)
			}
			if got != nil {
				t.Error("a manifest together with an error")
			}
		})
	}
}

func TestInjectionIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Injection){
		"control plane": func(i *Injection) { i.ControlPlane = "operator" },
		"identity":      func(i *Injection) { i.Server = "operator" },
		"secret":        func(i *Injection) { i.Secret = "" },
		"pull policy":   func(i *Injection) { i.PullPolicy = "never" },
	} {
		i := injection()
		change(&i)
		if _, err := Inject([]byte("kind: Pod"), i); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got error %v, want one that names it", name, err)
		}
	}
}

// The bootstrap that is in the arguments is one that a real Envoy takes.
func TestEnvoyValidatesInjectedBootstrap(t *testing.T) {
	binary, err := Find(t.Context(), "", io.Discard)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	manifest, err := os.ReadFile("testdata/inject/pod.yaml")
	if err != nil {
		t.Fatal(err)
	}
	out, err := Inject(manifest, injection())
	if err != nil {
		t.Fatal(err)
	}
	var pod struct {
		Metadata struct{ Annotations map[string]string }
		Spec     struct {
			InitContainers []struct{ Args []string } `yaml:"initContainers"`
		}
	}
	if err := yaml.Unmarshal(out, &pod); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ca := testca.New(t, "cluster.local")
	testca.Write(t, dir, ca.Issue("/ns/shop/sa/default", time.Now().Add(time.Hour)), ca)
	for file, annotation := range map[string]string{"own.json": annotationOwn, "trust.json": annotationTrust} {
		text := strings.ReplaceAll(pod.Metadata.Annotations[annotation], tlsDir, dir)
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var args []string
	for _, arg := range pod.Spec.InitContainers[1].Args {
		args = append(args, strings.ReplaceAll(arg, tlsDir, dir))
	}
	if out, err := exec.CommandContext(t.Context(), binary.Path, append(args, "--mode", "validate")...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// What is accepted is YAML again, and no input takes Inject down.
func FuzzInject(f *testing.F) {
	for _, name := range []string{"deployment", "gateway", "pod"} {
		manifest, err := os.ReadFile("testdata/inject/" + name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(manifest)
	}
	f.Fuzz(func(t *testing.T, manifest []byte) {
		out, err := Inject(manifest, injection())
		if err != nil {
			return
		}
		if _, err := decodeManifest(out); err != nil {
			t.Errorf("what was written is not read again: %v\n%s", err, out)
		}
	})
}
