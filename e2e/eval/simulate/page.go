package simulate

import (
	"bytes"
	_ "embed" // the page
	"fmt"
	"html/template"
	"os"
)

//go:embed page.html
var page string

// writePage writes the report as one page without anything from outside.
func (r *Report) writePage(path string) error {
	t, err := template.New("page").Funcs(template.FuncMap{
		"percent": percent, "share": share,
		"at":    func(share float64) string { return fmt.Sprintf("%.2f", 100*share) },
		"label": (*Row).label, "covers": (*Row).covers,
		"width": func(ci [2]float64) string { return fmt.Sprintf("%.2f", max(0.3, 100*(ci[1]-ci[0]))) },
	}).Parse(page)
	if err != nil {
		return fmt.Errorf("page: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, r); err != nil {
		return fmt.Errorf("page: %w", err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		return fmt.Errorf("page: %w", err)
	}
	return nil
}
