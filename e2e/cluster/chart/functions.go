package chart

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/template"

	"go.yaml.in/yaml/v3"
)

// functions are Helm's, as far as our chart uses them.
func functions(set *template.Template) template.FuncMap {
	return template.FuncMap{
		"include": func(name string, data any) (string, error) {
			var out bytes.Buffer
			err := set.ExecuteTemplate(&out, name, data)
			return out.String(), err
		},
		"nindent": func(n int, text string) string {
			pad := "\n" + strings.Repeat(" ", n)
			return pad + strings.ReplaceAll(text, "\n", pad)
		},
		"toYaml": func(v any) (string, error) {
			text, err := yaml.Marshal(v)
			return strings.TrimSpace(string(text)), err
		},
		"toJson": func(v any) (string, error) {
			text, err := json.Marshal(v)
			return string(text), err
		},
		"quote":  func(v any) string { return fmt.Sprintf("%q", fmt.Sprint(v)) },
		"list":   func(v ...any) []any { return v },
		"append": func(l []any, v any) []any { return append(slices.Clone(l), v) },
		"default": func(preset, v any) any {
			if absent(v) {
				return preset
			}
			return v
		},
		"dict": dict,
		"required": func(says string, v any) (any, error) {
			if absent(v) {
				return nil, errors.New(says)
			}
			return v, nil
		},
	}
}

func absent(v any) bool { return v == nil || v == "" }

// dict makes a map of keys and values in turn.
func dict(pairs ...any) (Object, error) {
	out := Object{}
	for i := 0; i+1 < len(pairs); i += 2 {
		key, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: key %v is no string", pairs[i])
		}
		out[key] = pairs[i+1]
	}
	return out, nil
}
