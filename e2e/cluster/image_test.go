package cluster

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// entries reads a tar.
func entries(t *testing.T, archive []byte) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	reader := tar.NewReader(bytes.NewReader(archive))
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		if found[header.Name], err = io.ReadAll(reader); err != nil {
			t.Fatal(err)
		}
	}
}

func TestImage(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"app": "program", "etc/a": "one", "etc/b": "two"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	image := Image{Name: "localhost/x:1", Entrypoint: []string{"/bin/app"},
		Files: map[string]string{"/bin/app": filepath.Join(dir, "app"), "/conf": filepath.Join(dir, "etc")}}
	var first, again bytes.Buffer
	if err := errors.Join(image.Write(&first), image.Write(&again)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), again.Bytes()) {
		t.Error("equal files give other bytes")
	}
	files := entries(t, first.Bytes())
	for name, text := range files {
		if digest, is := strings.CutPrefix(name, "blobs/sha256/"); is {
			if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != digest {
				t.Errorf("blob %s is another", name)
			}
		}
	}
	blob := func(d descriptor) []byte { return files["blobs/sha256/"+strings.TrimPrefix(d.Digest, "sha256:")] }
	var index, manifest struct {
		Manifests, Layers []descriptor
		Config            descriptor
	}
	if err := json.Unmarshal(files["index.json"], &index); err != nil || len(index.Manifests) != 1 {
		t.Fatal(err, index)
	}
	if got := index.Manifests[0].Annotations["io.containerd.image.name"]; got != image.Name {
		t.Errorf("the image is called %q", got)
	}
	if err := json.Unmarshal(blob(index.Manifests[0]), &manifest); err != nil || len(manifest.Layers) != 1 {
		t.Fatal(err, manifest)
	}
	root := entries(t, blob(manifest.Layers[0]))
	if string(root["bin/app"]) != "program" || string(root["conf/b"]) != "two" {
		t.Errorf("the layer has %d files: %q", len(root), root)
	}
	if !bytes.Contains(blob(manifest.Config), []byte(`"Entrypoint":["/bin/app"]`)) {
		t.Errorf("config is %s", blob(manifest.Config))
	}
}

func TestImageOfWhatIsNotThere(t *testing.T) {
	image := Image{Name: "x", Files: map[string]string{"/a": "/nowhere/at/all"}}
	if err := image.Write(io.Discard); err == nil || !strings.Contains(err.Error(), "image x") {
		t.Errorf("got error %v, want one that names the image", err)
	}
}
