package identity

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

const (
	// lookEvery is how often, at most, handshakes make the files be looked at.
	lookEvery = time.Second
	// maxFile bounds each file, in bytes.
	maxFile = 1 << 20
)

// Paths names the PEM files of an identity.
type Paths struct {
	Cert string // own certificate, with a SPIFFE URI, then intermediates
	Key  string // its private key
	CA   string // authorities of the trust domain
}

// Files is a Source that reads PEM files, and reads them again when they change: by
// writing them, by renaming over them, or by turning a symbolic link (as Kubernetes does).
// Files that do not fit together, as in the middle of a change, are passed over until they
// do. It is safe for concurrent use and runs nothing in the background.
type Files struct {
	paths  Paths
	domain spiffeid.TrustDomain
	log    *slog.Logger
	now    func() time.Time

	mu     sync.Mutex
	looked time.Time
	seen   [3]fs.FileInfo // of what is loaded
	svid   *x509svid.SVID
	bundle *x509bundle.Bundle
	fault  string // the last one that was logged
}

// Open reads the files. domain is what CA holds authorities of, and what the certificate
// must be of. now nil means time.Now.
func Open(paths Paths, domain spiffeid.TrustDomain, log *slog.Logger, now func() time.Time) (*Files, error) {
	if now == nil {
		now = time.Now
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := &Files{paths: paths, domain: domain, log: log, now: now}
	if err := f.load(); err != nil {
		return nil, err
	}
	f.looked = now()
	return f, nil
}

// GetX509SVID implements x509svid.Source.
func (f *Files) GetX509SVID() (*x509svid.SVID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.look()
	return f.svid, nil
}

// GetX509BundleForTrustDomain implements x509bundle.Source. There is one trust domain.
func (f *Files) GetX509BundleForTrustDomain(domain spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if domain != f.domain {
		return nil, fmt.Errorf("trust domain %q is not %q", domain, f.domain)
	}
	f.look()
	return f.bundle, nil
}

// look loads the files again if they have changed. The caller holds mu.
func (f *Files) look() {
	now := f.now()
	if now.Sub(f.looked) < lookEvery {
		return
	}
	f.looked = now
	if !f.changed() {
		return
	}
	if err := f.load(); err != nil {
		if text := err.Error(); text != f.fault {
			f.fault = text
			f.log.Error("certificate files are not taken, the former ones stay in use", "error", err)
		}
		return
	}
	f.fault = ""
	f.log.Info("certificate files are taken anew", "id", f.svid.ID.String(), "expires", f.svid.Certificates[0].NotAfter)
}

func (f *Files) names() [3]string { return [3]string{f.paths.Cert, f.paths.Key, f.paths.CA} }

func (f *Files) changed() bool {
	for i, name := range f.names() {
		info, err := os.Stat(name)
		if err != nil || !os.SameFile(info, f.seen[i]) || !info.ModTime().Equal(f.seen[i].ModTime()) ||
			info.Size() != f.seen[i].Size() {
			return true
		}
	}
	return false
}

// load reads all three files, and takes them only as a whole.
func (f *Files) load() error {
	var texts [3][]byte
	var seen [3]fs.FileInfo
	for i, name := range f.names() {
		var err error
		if texts[i], seen[i], err = read(name); err != nil {
			return err
		}
	}
	svid, err := x509svid.Parse(texts[0], texts[1])
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w", f.paths.Cert, f.paths.Key, err)
	}
	if svid.ID.TrustDomain() != f.domain {
		return fmt.Errorf("certificate %s is of %s, want trust domain %s", f.paths.Cert, svid.ID, f.domain)
	}
	if now := f.now(); now.After(svid.Certificates[0].NotAfter) {
		return fmt.Errorf("certificate %s expired at %s", f.paths.Cert, svid.Certificates[0].NotAfter)
	}
	bundle, err := x509bundle.Parse(f.domain, texts[2])
	if err != nil {
		return fmt.Errorf("authorities in %s: %w", f.paths.CA, err)
	}
	if bundle.Empty() {
		return fmt.Errorf("authorities in %s: there are none", f.paths.CA)
	}
	f.svid, f.bundle, f.seen = svid, bundle, seen
	return nil
}

// read returns a file and what it was when it was read.
func read(name string) ([]byte, fs.FileInfo, error) {
	if name == "" {
		return nil, nil, errors.New("a path is missing: certificate, key and authorities are all needed")
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(text) > maxFile {
		return nil, nil, fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	}
	return text, info, nil
}
