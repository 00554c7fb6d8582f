package cluster

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Image is one to be made out of files that are here. It has one layer and no base.
type Image struct {
	Name       string            // with a tag
	Entrypoint []string          //
	Files      map[string]string // path in the image -> file or directory here
	Libraries  bool              // also what the files are linked with (ldd)
}

// Media types of the OCI image specification, 1.0.
const (
	mediaIndex    = "application/vnd.oci.image.index.v1+json"
	mediaManifest = "application/vnd.oci.image.manifest.v1+json"
	mediaConfig   = "application/vnd.oci.image.config.v1+json"
	mediaLayer    = "application/vnd.oci.image.layer.v1.tar"
)

// descriptor points to a blob.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Write writes the image as a tar of an OCI layout. Equal files give equal bytes.
func (i Image) Write(w io.Writer) error {
	files, err := i.gather()
	if err != nil {
		return fmt.Errorf("image %s: %w", i.Name, err)
	}
	layer, err := layerOf(files)
	if err != nil {
		return fmt.Errorf("image %s: %w", i.Name, err)
	}
	layout := layout{}
	top := layout.blob(mediaLayer, layer)
	config := layout.json(mediaConfig, map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": "1970-01-01T00:00:00Z",
		"config": map[string]any{"Entrypoint": i.Entrypoint,
			"Env": []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{top.Digest}},
	})
	manifest := layout.json(mediaManifest, map[string]any{
		"schemaVersion": 2, "mediaType": mediaManifest, "config": config, "layers": []descriptor{top},
	})
	manifest.Annotations = map[string]string{"io.containerd.image.name": i.Name}
	layout.add("index.json", marshal(map[string]any{
		"schemaVersion": 2, "mediaType": mediaIndex, "manifests": []descriptor{manifest},
	}))
	layout.add("oci-layout", marshal(map[string]string{"imageLayoutVersion": "1.0.0"}))
	return layout.write(w)
}

// layout is the files of an OCI layout.
type layout struct {
	names []string
	texts [][]byte
}

func (l *layout) add(name string, text []byte) {
	l.names, l.texts = append(l.names, name), append(l.texts, text)
}

// blob adds a blob and returns its descriptor.
func (l *layout) blob(media string, text []byte) descriptor {
	sum := sha256.Sum256(text)
	digest := hex.EncodeToString(sum[:])
	l.add("blobs/sha256/"+digest, text)
	return descriptor{MediaType: media, Digest: "sha256:" + digest, Size: len(text)}
}

func (l *layout) json(media string, value any) descriptor { return l.blob(media, marshal(value)) }

func marshal(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic("cluster: plain values do not marshal: " + err.Error())
	}
	return text
}

func (l *layout) write(w io.Writer) error {
	archive := tar.NewWriter(w)
	for i, name := range l.names {
		header := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(l.texts[i])), ModTime: time.Unix(0, 0)}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(l.texts[i]); err != nil {
			return err
		}
	}
	return archive.Close()
}

// gather returns every file of the image: path in it -> file here.
func (i Image) gather() (map[string]string, error) {
	files := map[string]string{}
	for to, from := range i.Files {
		if err := put(files, to, from); err != nil {
			return nil, err
		}
	}
	if !i.Libraries {
		return files, nil
	}
	for _, from := range files {
		for _, library := range libraries(from) {
			if err := put(files, library, library); err != nil {
				return nil, err
			}
		}
	}
	return files, nil
}

// put adds a file, or all files of a directory.
func put(files map[string]string, to, from string) error {
	from, err := filepath.EvalSymlinks(from)
	if err != nil {
		return err
	}
	return filepath.WalkDir(from, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		rest, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		file, err := filepath.EvalSymlinks(name)
		if err != nil {
			return err
		}
		files[path.Join(to, filepath.ToSlash(rest))] = file
		return nil
	})
}

// libraries returns the absolute paths that ldd names for a program; none if it is static
// or no program.
func libraries(file string) []string {
	out, err := exec.Command("ldd", file).Output()
	if err != nil {
		return nil
	}
	var found []string
	for word := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(word, "/") {
			found = append(found, word)
		}
	}
	return found
}

// layerOf returns the tar of a root file system with files.
func layerOf(files map[string]string) ([]byte, error) {
	dirs := map[string]bool{"tmp": true, "run": true, "etc": true, "proc": true, "sys": true, "dev": true}
	var names []string
	for name := range files {
		names = append(names, name)
		for dir := path.Dir(name); dir != "/"; dir = path.Dir(dir) {
			dirs[dir[1:]] = true
		}
	}
	slices.Sort(names)
	var layer bytes.Buffer
	archive := tar.NewWriter(&layer)
	for _, dir := range sorted(dirs) {
		header := &tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(0, 0)}
		if dir == "tmp" {
			header.Mode = 0o1777
		}
		if err := archive.WriteHeader(header); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		if err := addFile(archive, name[1:], files[name]); err != nil {
			return nil, err
		}
	}
	err := archive.Close()
	return layer.Bytes(), err
}

func addFile(archive *tar.Writer, name, from string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	header := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), ModTime: time.Unix(0, 0)}
	if info.Mode()&0o111 != 0 {
		header.Mode = 0o755
	}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err = archive.Write(text)
	return err
}

// Import gives the image to the cluster's containerd.
func (c *Cluster) Import(ctx context.Context, i Image) error {
	line := c.ctr("images", "import", "-")
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	var image, said bytes.Buffer
	if err := i.Write(&image); err != nil {
		return err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &image, &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("import image %s: %w: %s", i.Name, err, bytes.TrimSpace(said.Bytes()))
	}
	c.say("image %s", i.Name)
	return nil
}
