package report

import (
	"bytes"
	_ "embed"
	"fmt"
	htmltemplate "html/template"
	"strings"
	"text/template"

	"github.com/sluicemesh/sluice/microkernel"
)

//go:embed report.md.tmpl
var markdownText string

//go:embed report.html.tmpl
var htmlText string

// Markdown returns the report of record as Markdown (CommonMark with tables).
func Markdown(record microkernel.Record) ([]byte, error) {
	t, err := template.New("report").Funcs(template.FuncMap{"text": escape, "code": fence}).Parse(markdownText)
	if err != nil {
		return nil, fmt.Errorf("template of the report: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, gather(&record)); err != nil {
		return nil, fmt.Errorf("report of %s: %w", record.ID, err)
	}
	return out.Bytes(), nil
}

// HTML returns the report of record as one HTML page that loads nothing.
func HTML(record microkernel.Record) ([]byte, error) {
	t, err := htmltemplate.New("report").Parse(htmlText)
	if err != nil {
		return nil, fmt.Errorf("template of the report: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, gather(&record)); err != nil {
		return nil, fmt.Errorf("report of %s: %w", record.ID, err)
	}
	return out.Bytes(), nil
}

// escape makes text inert in Markdown, also within a table: reasons and evidence may hold
// what a proxy or a person wrote.
func escape(text string) string {
	var out strings.Builder
	for i, r := range text {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			r = ' '
		case r < ' ' || r == 0x7f:
			r = '\uFFFD'
		case i == 0 && strings.ContainsRune("#+-=", r), strings.ContainsRune("\\`*_[]<>|!&~", r):
			out.WriteByte('\\')
		}
		out.WriteRune(r)
	}
	return out.String()
}

// fence indents a program, which makes it a block of code whatever it holds.
func fence(text string) string { return "    " + strings.ReplaceAll(text, "\n", "\n    ") }
