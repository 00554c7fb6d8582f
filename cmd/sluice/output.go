package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// header opens every JSON object.
type header struct {
	Schema  string  `json:"schema"`
	Version string  `json:"version"`
	Commit  string  `json:"commit"`
	Started string  `json:"started"`
	Seconds float64 `json:"seconds"`
}

// header returns that of schema sluice.NAME/1.
func (a *app) header(name string) header {
	return header{
		Schema: "sluice." + name + "/1", Version: version, Commit: commit,
		Started: a.started.UTC().Format(time.RFC3339), Seconds: round(a.now().Sub(a.started).Seconds()),
	}
}

// print writes value as -o says; table writes it for people.
func (a *app) print(value any, table func(io.Writer)) error {
	if a.output == "table" {
		table(a.out)
		return nil
	}
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	data = append(data, '\n')
	if a.output == "yaml" {
		if data, err = yamlOf(data); err != nil {
			return err
		}
	}
	if _, err := a.out.Write(data); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}

// yamlOf spells JSON as block YAML, fields in the same order.
func yamlOf(data []byte) ([]byte, error) {
	var node yaml.Node
	if err := yaml.Unmarshal(data, &node); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	block(&node)
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(&node); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	return out.Bytes(), nil
}

func block(node *yaml.Node) {
	node.Style = 0
	if node.Kind == yaml.ScalarNode && node.Tag == "!!str" {
		var other yaml.Node
		if yaml.Unmarshal([]byte(node.Value), &other) != nil || len(other.Content) != 1 || other.Content[0].Tag != "!!str" {
			node.Style = yaml.DoubleQuotedStyle
		}
	}
	for _, child := range node.Content {
		block(child)
	}
}

// table aligns rows that are written with tabs.
func table(w io.Writer, write func(w io.Writer)) {
	tabs := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	var rows bytes.Buffer
	write(&rows)
	_, _ = tabs.Write(rows.Bytes())
	_ = tabs.Flush()
}

func row(w io.Writer, cells ...string) { fmt.Fprintln(w, strings.Join(cells, "\t")) }

// Colours, by meaning.
type colour string

const (
	good    colour = "32"
	bad     colour = "31"
	caution colour = "33"
	faint   colour = "2"
	strong  colour = "1"
)

// paint colours text on a terminal. It must not be used inside a table: the escapes
// have width there.
func (a *app) paint(tty bool, c colour, text string) string {
	if !tty || a.noColor || a.getenv("NO_COLOR") != "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

func phaseColour(phase string) colour {
	switch phase {
	case "committed", "confirmed", "admit", "healthy":
		return good
	case "compensated", "frozen", "refused", "failed", "reject", "symptom":
		return bad
	case "held", "hold", "throttle", "compensating", "undone":
		return caution
	}
	return strong
}

// dash stands for what is not known or not there.
func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

func shortEpoch(epoch string) string {
	algorithm, digest, found := strings.Cut(epoch, ":")
	if !found || len(digest) <= 12 {
		return dash(epoch)
	}
	return algorithm + ":" + digest[:12]
}

// null is nil for "", else text.
func null(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// positive is nil for what is not positive: unknown.
func positive(value float64) *float64 {
	if value <= 0 {
		return nil
	}
	value = round(value)
	return &value
}

// list is never null in JSON.
func list[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}

func round(seconds float64) float64 { return math.Round(seconds*1e6) / 1e6 }

// stamp is the RFC 3339 time of t, nil if it is unset.
func stamp(t *timestamppb.Timestamp) *string {
	if t == nil {
		return nil
	}
	return null(t.AsTime().UTC().Format(time.RFC3339Nano))
}

// millis writes seconds as people read latencies.
func millis(seconds float64) string {
	switch {
	case seconds <= 0:
		return "-"
	case seconds < 0.01:
		return fmt.Sprintf("%.1fms", seconds*1e3)
	case seconds < 1:
		return fmt.Sprintf("%.0fms", seconds*1e3)
	}
	return fmt.Sprintf("%.2fs", seconds)
}

func percent(share float64) string {
	switch {
	case share <= 0:
		return "0%"
	case share >= 0.995: // %.2g would write 1e+02
		return "100%"
	}
	return fmt.Sprintf("%.2g%%", share*100)
}
