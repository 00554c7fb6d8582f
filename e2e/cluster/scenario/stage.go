package scenario

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

//go:embed manifests/*.yaml
var manifests embed.FS

// stage is where one scenario plays: a namespace.
type stage struct {
	*Settings
	namespace        string
	started          time.Time
	requests, failed int // over all loads of the scenario
}

// say tells of progress, with the seconds since the start of the scenario.
func (s *stage) say(format string, args ...any) {
	fmt.Fprintf(s.Progress, "%6.1f s  %s\n", time.Since(s.started).Seconds(), fmt.Sprintf(format, args...))
}

// kubectl runs kubectl in the scenario's namespace.
func (s *stage) kubectl(ctx context.Context, args ...string) error {
	_, err := s.ask(ctx, "", args...)
	return err
}

// ask runs kubectl with a standard input and returns its output.
func (s *stage) ask(ctx context.Context, stdin string, args ...string) (string, error) {
	line := append(append([]string{}, s.Kubectl...), "--namespace", s.namespace)
	return output(ctx, stdin, append(line, args...)...)
}

// output returns what a command prints; the error holds what else it said.
func output(ctx context.Context, stdin string, line ...string) (string, error) {
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return string(out), fmt.Errorf("%.200s: %w: %s", strings.Join(line, " "), err, strings.TrimSpace(said.String()))
	}
	return string(out), nil
}

// manifest returns a manifest of this package, with $NAMESPACE, the images and pairs of
// further words filled in.
func (s *stage) manifest(name string, words ...string) (string, error) {
	text, err := manifests.ReadFile("manifests/" + name + ".yaml")
	if err != nil {
		return "", err
	}
	words = append(words, "$NAMESPACE", s.namespace, "$APP_IMAGE", s.Images.App, "$LOAD_IMAGE", s.Images.Load)
	return strings.NewReplacer(words...).Replace(string(text)), nil
}

// apply applies a manifest.
func (s *stage) apply(ctx context.Context, name string, words ...string) error {
	text, err := s.manifest(name, words...)
	if err != nil {
		return err
	}
	_, err = s.ask(ctx, text, "apply", "-f", "-")
	return err
}

// rolledOut waits until a workload has all its replicas ready.
func (s *stage) rolledOut(ctx context.Context, workload string) error {
	if err := s.kubectl(ctx, "rollout", "status", workload, "--timeout=150s"); err != nil {
		return err
	}
	s.say("%s is ready", workload)
	return nil
}

// uids returns the UIDs of the pods with a label, by name.
func (s *stage) uids(ctx context.Context, label string) (map[string]string, error) {
	out, err := s.ask(ctx, "", "get", "pods", "-l", label, "-o", "json")
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []struct {
			Metadata struct{ Name, UID, DeletionTimestamp string } `json:"metadata"`
		} `json:"items"`
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, fmt.Errorf("pods: %w", err)
	}
	found := map[string]string{}
	for _, item := range list.Items {
		if item.Metadata.DeletionTimestamp == "" {
			found[item.Metadata.Name] = item.Metadata.UID
		}
	}
	return found, nil
}

// replaced returns an error if a pod of before is still there.
func replaced(before, after map[string]string) error {
	if len(after) != len(before) {
		return fmt.Errorf("%d pods before, %d after", len(before), len(after))
	}
	for name, uid := range before {
		if after[name] == uid {
			return fmt.Errorf("pod %s was not restarted", name)
		}
	}
	return nil
}

// describe tells what there was when a scenario failed.
func (s *stage) describe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, args := range [][]string{
		{"get", "pods", "-o", "wide"},
		{"get", "events", "--sort-by=.lastTimestamp", "-o",
			"custom-columns=OBJECT:.involvedObject.name,REASON:.reason,MESSAGE:.message"},
		{"logs", "-l", "app", "--all-containers", "--tail=8", "--prefix", "--max-log-requests=50"},
		{"logs", "-n", system, "-l", "app.kubernetes.io/part-of=sluice", "--tail=20", "--prefix"},
	} {
		out, err := s.ask(ctx, "", args...)
		if err != nil {
			out = err.Error()
		}
		lines := strings.Split(strings.TrimSpace(out), "\n")
		fmt.Fprintln(s.Progress, strings.Join(lines[max(0, len(lines)-40):], "\n"))
	}
}
