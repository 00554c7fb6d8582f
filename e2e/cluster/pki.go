package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// validity of the certificates: longer than any run.
const validity = 30 * 24 * time.Hour

// subject is whom a certificate is for. Kubernetes takes the user from the common name
// and the groups from the organizations.
type subject struct {
	file, user string
	groups     []string
	hosts      []string // DNS names and addresses, for a server
	kubeconfig bool     // also a kubeconfig of this user
}

// subjects of a cluster.
func subjects() []subject {
	node := "system:node:" + NodeName
	return []subject{
		{file: "apiserver", user: "kube-apiserver", hosts: []string{"127.0.0.1", NodeIP, apiService, "kubernetes",
			"kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + domain}},
		{file: "kubelet", user: node, groups: []string{"system:nodes"}, hosts: []string{NodeName, NodeIP, "127.0.0.1"}},
		{file: "apiserver-kubelet-client", user: "kube-apiserver-kubelet-client", groups: []string{"system:masters"}},
		{file: "front-proxy-client", user: "front-proxy-client"},
		{file: "admin", user: "admin", groups: []string{"system:masters"}, kubeconfig: true},
		{file: "kube-controller-manager", user: "system:kube-controller-manager", kubeconfig: true},
		{file: "kube-scheduler", user: "system:kube-scheduler", kubeconfig: true},
		{file: "kube-proxy", user: "system:kube-proxy", kubeconfig: true},
		{file: "node", user: node, groups: []string{"system:nodes"}, kubeconfig: true},
	}
}

// authority issues the certificates of one cluster.
type authority struct {
	key    *ecdsa.PrivateKey
	cert   *x509.Certificate
	pem    []byte
	serial int64
}

// writePKI writes a new authority, all certificates, the key of service accounts and the
// kubeconfigs into dir.
func writePKI(dir string, now time.Time) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ca, err := newAuthority(now)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), ca.pem, 0o600); err != nil {
		return err
	}
	caKey, err := keyPEM(ca.key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.key"), caKey, 0o600); err != nil {
		return err
	}
	for _, s := range subjects() {
		if err := ca.write(dir, s, now); err != nil {
			return fmt.Errorf("certificate of %s: %w", s.file, err)
		}
	}
	return writeAccountKey(dir)
}

func newAuthority(now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sluice-e2e"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(validity),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{key: key, cert: cert, serial: 1, pem: certPEM(der)}, nil
}

// write issues the certificate of s and writes it, its key and, if asked, a kubeconfig.
func (a *authority) write(dir string, s subject, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	a.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: s.user, Organization: s.groups},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(validity), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, host := range s.hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return err
	}
	text, err := keyPEM(key)
	if err != nil {
		return err
	}
	files := map[string][]byte{s.file + ".crt": certPEM(der), s.file + ".key": text}
	if s.kubeconfig {
		files[s.file+".kubeconfig"] = a.kubeconfig(certPEM(der), text)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// kubeconfig of the user with this certificate.
func (a *authority) kubeconfig(cert, key []byte) []byte {
	b := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- {name: sluice-e2e, cluster: {server: "https://%s", certificate-authority-data: %s}}
users:
- {name: user, user: {client-certificate-data: %s, client-key-data: %s}}
contexts:
- {name: sluice-e2e, context: {cluster: sluice-e2e, user: user}}
current-context: sluice-e2e
`, net.JoinHostPort(NodeIP, apiPort), b(a.pem), b(cert), b(key))
}

// writeAccountKey writes the key pair that signs and verifies service account tokens.
func writeAccountKey(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := keyPEM(key)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "sa.key"), private, 0o600); err != nil {
		return err
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return os.WriteFile(filepath.Join(dir, "sa.pub"), public, 0o600)
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}
