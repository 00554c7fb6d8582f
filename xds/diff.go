package xds

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
)

// Change is how one resource differs from what it was.
type Change struct {
	Type TypeURL
	Name string
	Kind string // "added", "changed", "removed"
	Diff string // of the JSON, line by line
}

// Diff lists what must be pushed to come from a to b: clusters first, by name. Its cost
// grows with the size of what differs alone.
func Diff(a, b *Resources) []Change {
	var out []Change
	for _, t := range Types() {
		for _, r := range b.Of(t) {
			switch old := a.Find(t, r.Name); {
			case old == nil:
				out = append(out, Change{t, r.Name, "added", lineDiff("", r.JSON())})
			case old.Version != r.Version:
				out = append(out, Change{t, r.Name, "changed", lineDiff(old.JSON(), r.JSON())})
			}
		}
		for _, r := range a.Of(t) {
			if b.Find(t, r.Name) == nil {
				out = append(out, Change{t, r.Name, "removed", lineDiff(r.JSON(), "")})
			}
		}
	}
	return out
}

// JSON spells the resource, indented, with sorted keys; the same each time.
func (r *Resource) JSON() string {
	raw, err := protojson.Marshal(r.Message)
	if err != nil {
		return fmt.Sprintf("%q", "not to be shown: "+err.Error())
	}
	decoder := json.NewDecoder(bytes.NewReader(raw)) // protojson varies its spaces
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return fmt.Sprintf("%q", "not to be shown: "+err.Error())
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return fmt.Sprintf("%q", "not to be shown: "+err.Error())
	}
	return out.String()
}

const (
	diffContext = 2       // unchanged lines around a change
	diffCells   = 1 << 20 // above, the middle is shown as replaced
)

// lineDiff compares two texts: "-" and "+" for what goes and comes, " " for what stays,
// and "..." for more of that.
func lineDiff(a, b string) string {
	from, to := lines(a), lines(b)
	head := 0
	for head < len(from) && head < len(to) && from[head] == to[head] {
		head++
	}
	tail := 0
	for tail < len(from)-head && tail < len(to)-head && from[len(from)-1-tail] == to[len(to)-1-tail] {
		tail++
	}
	var marked []string
	mark := func(sign string, list []string) {
		for _, line := range list {
			marked = append(marked, sign+line)
		}
	}
	mark(" ", from[:head])
	marked = append(marked, middle(from[head:len(from)-tail], to[head:len(to)-tail])...)
	mark(" ", from[len(from)-tail:])
	return hunks(marked)
}

func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// middle marks the lines of two texts by their longest common subsequence.
func middle(a, b []string) []string {
	common := func(int, int) int { return 0 }
	if len(a)*len(b) <= diffCells {
		common = subsequence(a, b)
	}
	var out []string
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j] && common(i, j) > 0:
			out = append(out, " "+a[i])
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || common(i+1, j) >= common(i, j+1)):
			out = append(out, "-"+a[i])
			i++
		default:
			out = append(out, "+"+b[j])
			j++
		}
	}
	return out
}

// subsequence returns how long the longest common subsequence of a[i:] and b[j:] is.
func subsequence(a, b []string) func(i, j int) int {
	width := len(b) + 1
	table := make([]int32, (len(a)+1)*width)
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				table[i*width+j] = table[(i+1)*width+j+1] + 1
				continue
			}
			table[i*width+j] = max(table[(i+1)*width+j], table[i*width+j+1])
		}
	}
	return func(i, j int) int { return int(table[i*width+j]) }
}

// hunks leaves out what is far from any change.
func hunks(marked []string) string {
	near := make([]bool, len(marked))
	for i, line := range marked {
		if line[0] == ' ' {
			continue
		}
		for k := max(0, i-diffContext); k <= min(len(marked)-1, i+diffContext); k++ {
			near[k] = true
		}
	}
	var out strings.Builder
	for i, line := range marked {
		switch {
		case near[i]:
			out.WriteString(line + "\n")
		case i == 0 || near[i-1]:
			out.WriteString("...\n")
		}
	}
	return out.String()
}
