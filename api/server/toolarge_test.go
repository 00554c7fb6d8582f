package server_test

import (
	"bytes"
	"compress/gzip"
	"strings"
	"testing"

	"github.com/sluicemesh/sluice/internal/fakeplane"
)

func TestWhatIsTooLargeIsRefusedByTheDocumentedCode(t *testing.T) {
	_, url := serve(t)
	spaces := bytes.Repeat([]byte(" "), 8<<20)
	var bomb bytes.Buffer
	zip := gzip.NewWriter(&bomb)
	_, _ = zip.Write(spaces)
	_ = zip.Close()
	for name, c := range map[string]struct {
		body     []byte
		encoding string
	}{"plain": {spaces, ""}, "gzip bomb": {bomb.Bytes(), "gzip"}} {
		header := map[string]string{"Content-Type": "application/json", "Authorization": "Bearer " + fakeplane.ProposerToken}
		if c.encoding != "" {
			header["Content-Encoding"] = c.encoding
		}
		answer, text := post(t, url, "/sluice.v1.SluiceService/ProposePlan", bytes.NewReader(c.body), header)
		if answer.StatusCode == 200 || !strings.Contains(text, "too-large: ") {
			t.Errorf("%s: %d %s", name, answer.StatusCode, text)
		}
	}
}
