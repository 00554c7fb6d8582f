package main

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// fakeAPI answers as the API server does for two services of namespace shop.
func fakeAPI(t *testing.T) *apiClient {
	t.Helper()
	objects := map[string]string{
		"/api/v1/namespaces/shop/services/cart": `{"spec":{"clusterIP":"10.96.0.7"}}`,
		"/api/v1/namespaces/shop/services/db":   `{"spec":{"clusterIP":"None"}}`,
		"/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices": `{"items":[{"endpoints":[
 {"addresses":["10.244.0.4"],"conditions":{"ready":true}}, {"addresses":["10.244.0.5"],"conditions":{"ready":false}},
 {"addresses":["10.244.0.6"],"conditions":{}}]}]}`,
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "broken") {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		text, found := objects[r.URL.Path]
		if !found {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		fmt.Fprint(w, text)
	}))
	t.Cleanup(web.Close)
	return &apiClient{server: web.URL, http: web.Client()}
}

func question(t *testing.T, name string, kind dnsmessage.Type) []byte {
	t.Helper()
	message := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true}, Questions: []dnsmessage.Question{
		{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET},
	}}
	wire, err := message.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

func TestAnswers(t *testing.T) {
	api := fakeAPI(t)
	for _, c := range []struct {
		name string
		kind dnsmessage.Type
		code dnsmessage.RCode
		want string
	}{
		{"cart.shop.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, "10.96.0.7"},
		{"CART.shop.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, "10.96.0.7"},
		{"cart.shop.svc.cluster.local.", dnsmessage.TypeAAAA, dnsmessage.RCodeSuccess, ""},
		{"db.shop.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, "10.244.0.4 10.244.0.6"},
		{"web.shop.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeNameError, ""},
		{"cart.shop.svc.cluster.local.shop.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeNameError, ""},
		{"a/b?c%2f.shop.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeNameError, ""},
		{"example.org.", dnsmessage.TypeA, dnsmessage.RCodeNameError, ""},
		{"broken.shop.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeServerFailure, ""},
	} {
		wire, err := answer(t.Context(), api, question(t, c.name, c.kind))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var reply dnsmessage.Message
		if err := reply.Unpack(wire); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range reply.Answers {
			address := a.Body.(*dnsmessage.AResource).A
			got = append(got, fmt.Sprintf("%d.%d.%d.%d", address[0], address[1], address[2], address[3]))
		}
		if reply.ID != 7 || reply.RCode != c.code || strings.Join(got, " ") != c.want {
			t.Errorf("%s %s: got %s %v, want %s %q", c.name, c.kind, reply.RCode, got, c.code, c.want)
		}
	}
}

func TestNoQuestionNoAnswer(t *testing.T) {
	for _, wire := range [][]byte{nil, {1, 2, 3}, make([]byte, 12)} {
		if reply, err := answer(t.Context(), nil, wire); err == nil {
			t.Errorf("%v is answered: %v", wire, reply)
		}
	}
}

// Nothing that comes over the network takes the server down.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte{0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 0, 0, 1, 0, 1})
	f.Fuzz(func(t *testing.T, wire []byte) {
		api := &apiClient{server: "http://127.0.0.1:1", http: &http.Client{}}
		if reply, err := answer(t.Context(), api, wire); err == nil && len(reply) < 12 {
			t.Errorf("a reply of %d bytes", len(reply))
		}
	})
}

func TestKubeconfigIsChecked(t *testing.T) {
	web := httptest.NewTLSServer(http.NotFoundHandler())
	defer web.Close()
	key, err := x509.MarshalPKCS8PrivateKey(web.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	cert := encode("CERTIFICATE", web.Certificate().Raw)
	good := "clusters: [{cluster: {server: \"https://x\", certificate-authority-data: " + cert + "}}]\n" +
		"users: [{user: {client-certificate-data: " + cert + ", client-key-data: " + encode("PRIVATE KEY", key) + "}}]\n"
	for name, c := range map[string]struct{ text, want string }{
		"good":    {good, ""},
		"no yaml": {"a: [", "yaml"},
		"empty":   {"a: 1", "want one cluster and one user"},
		"base64":  {strings.Replace(good, "authority-data: ", "authority-data: '!'#", 1), "base64"},
		"no key":  {strings.Replace(good, "client-key-data", "other", 1), "x509"},
	} {
		path := filepath.Join(t.TempDir(), "config")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := newAPIClient(path)
		if c.want == "" && err != nil || c.want != "" && err == nil {
			t.Errorf("%s: got error %v, want %q", name, err, c.want)
		}
	}
}
