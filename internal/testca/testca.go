// Package testca makes certificate authorities and SPIFFE certificates for tests. It is
// not for anything that serves: its keys are made on the spot and kept nowhere.
package testca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// CA is an authority of one trust domain.
type CA struct {
	t      testing.TB
	domain string
	key    *ecdsa.PrivateKey
	cert   *x509.Certificate
	PEM    []byte // its own certificate
}

// Pair is a certificate with its key, both PEM.
type Pair struct{ Cert, Key []byte }

// New returns an authority of a trust domain.
func New(t testing.TB, domain string) *CA {
	t.Helper()
	ca := &CA{t: t, domain: domain, key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: domain},
		URIs:      []*url.URL{{Scheme: "spiffe", Host: domain}},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &ca.key.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	ca.PEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return ca
}

// Issue returns a certificate of the SPIFFE path that is valid until the given time.
func (c *CA) Issue(path string, until time.Time) Pair {
	c.t.Helper()
	key := newKey(c.t)
	template := &x509.Certificate{
		SerialNumber: serial(c.t), Subject: pkix.Name{CommonName: path},
		URIs:      []*url.URL{{Scheme: "spiffe", Host: c.domain, Path: path}},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: until,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, &key.PublicKey, c.key)
	if err != nil {
		c.t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		c.t.Fatal(err)
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}),
	}
}

// Write puts a pair and authorities as cert.pem, key.pem and ca.pem into dir, each by a
// rename, so that whoever watches dir sees them.
func Write(t testing.TB, dir string, pair Pair, authorities ...*CA) {
	t.Helper()
	var trusted []byte
	for _, ca := range authorities {
		trusted = append(trusted, ca.PEM...)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct {
		name string
		text []byte
	}{{"key.pem", pair.Key}, {"cert.pem", pair.Cert}, {"ca.pem", trusted}} {
		path := filepath.Join(dir, f.name)
		if err := os.WriteFile(path+".new", f.text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func serial(t testing.TB) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
