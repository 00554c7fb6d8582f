package chart

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"go.yaml.in/yaml/v3"
)

// Object is one manifest, or a part of one.
type Object = map[string]any

// Release is what the templates know of an installation.
type Release struct{ Name, Namespace string }

// Render renders the chart in dir with changes to its values, as YAML, and returns the
// objects as Helm applies them, what runs after all that it needs, else in the order of the
// templates' names. Whatever a template refuses, or is no YAML, is an error.
func Render(dir string, release Release, changes string) ([]Object, error) {
	root, err := values(dir, release, changes)
	if err != nil {
		return nil, err
	}
	set, names, err := parse(dir)
	if err != nil {
		return nil, err
	}
	var out []Object
	for _, name := range names {
		var text bytes.Buffer
		if err := set.ExecuteTemplate(&text, name, root); err != nil {
			return nil, err
		}
		objects, err := decode(&text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, objects...)
	}
	slices.SortStableFunc(out, func(a, b Object) int { return rank(a) - rank(b) })
	return out, nil
}

// rank is 1 for what runs, else 0.
func rank(o Object) int {
	if o["kind"] == "Deployment" || o["kind"] == "Pod" {
		return 1
	}
	return 0
}

// decode reads the objects of a stream, empty documents left out.
func decode(text io.Reader) ([]Object, error) {
	var out []Object
	for decoder := yaml.NewDecoder(text); ; {
		var o Object
		err := decoder.Decode(&o)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if len(o) > 0 {
			out = append(out, o)
		}
	}
}

// values returns what the templates are executed with.
func values(dir string, release Release, changes string) (Object, error) {
	values, err := read(filepath.Join(dir, "values.yaml"))
	if err != nil {
		return nil, err
	}
	var over Object
	if err := yaml.Unmarshal([]byte(changes), &over); err != nil {
		return nil, fmt.Errorf("changes: %w", err)
	}
	merge(values, over)
	chart, err := read(filepath.Join(dir, "Chart.yaml"))
	if err != nil {
		return nil, err
	}
	return Object{
		"Values":  values,
		"Release": Object{"Name": release.Name, "Namespace": release.Namespace, "Service": "Helm"},
		"Chart":   Object{"Name": chart["name"], "Version": chart["version"], "AppVersion": chart["appVersion"]},
		"Files":   files{dir},
	}, nil
}

func read(path string) (Object, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out Object
	if err := yaml.Unmarshal(text, &out); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}

// merge puts from over into, map by map.
func merge(into, from Object) {
	for key, value := range from {
		inner, isMap := value.(Object)
		former, wasMap := into[key].(Object)
		if isMap && wasMap {
			merge(former, inner)
			continue
		}
		into[key] = value
	}
}

// parse reads the templates of a chart, and returns the names of those that render objects.
func parse(dir string) (*template.Template, []string, error) {
	set := template.New("chart").Option("missingkey=error")
	set.Funcs(functions(set))
	var names []string
	err := filepath.WalkDir(filepath.Join(dir, "templates"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.HasSuffix(path, ".yaml") {
			names = append(names, path)
		}
		_, err = set.New(path).Parse(string(text))
		return err
	})
	slices.Sort(names)
	return set, names, err
}

// files is Helm's .Files: what is in the chart's directory.
type files struct{ dir string }

// Glob returns the paths that match, relative to the chart, as keys.
func (f files) Glob(pattern string) (map[string]string, error) {
	found, err := filepath.Glob(filepath.Join(f.dir, filepath.FromSlash(pattern)))
	out := map[string]string{}
	for _, path := range found {
		name, err := filepath.Rel(f.dir, path)
		if err != nil {
			return nil, err
		}
		out[filepath.ToSlash(name)] = ""
	}
	return out, err
}

// Get returns the text of a file.
func (f files) Get(name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(f.dir, filepath.FromSlash(name)))
	return string(text), err
}
