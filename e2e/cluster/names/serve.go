package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/net/dns/dnsmessage"
)

// apiClient asks the API server as the user of a kubeconfig of writePKI.
type apiClient struct {
	server string
	http   *http.Client
}

func newAPIClient(kubeconfig string) (*apiClient, error) {
	text, err := os.ReadFile(kubeconfig)
	if err != nil {
		return nil, err
	}
	var config struct {
		Clusters []struct {
			Cluster struct {
				Server    string `yaml:"server"`
				Authority string `yaml:"certificate-authority-data"`
			} `yaml:"cluster"`
		} `yaml:"clusters"`
		Users []struct {
			User struct {
				Cert string `yaml:"client-certificate-data"`
				Key  string `yaml:"client-key-data"`
			} `yaml:"user"`
		} `yaml:"users"`
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		return nil, fmt.Errorf("%s: %w", kubeconfig, err)
	}
	if len(config.Clusters) != 1 || len(config.Users) != 1 {
		return nil, fmt.Errorf("%s: want one cluster and one user", kubeconfig)
	}
	cluster, user := config.Clusters[0].Cluster, config.Users[0].User
	ca, err1 := base64.StdEncoding.DecodeString(cluster.Authority)
	cert, err2 := base64.StdEncoding.DecodeString(user.Cert)
	key, err3 := base64.StdEncoding.DecodeString(user.Key)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("%s: %w", kubeconfig, err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kubeconfig, err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	transport := &http.Transport{MaxIdleConnsPerHost: 16, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS13}}
	return &apiClient{server: cluster.Server, http: &http.Client{Transport: transport, Timeout: 5 * time.Second}}, nil
}

// suffix of the names of services.
const suffix = ".svc.cluster.local."

// errAbsent says that the API server knows no such object.
var errAbsent = errors.New("not found")

// get reads the object at path into value.
func (a *apiClient) get(ctx context.Context, path string, value any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.server+path, nil)
	if err != nil {
		return err
	}
	response, err := a.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
		return json.NewDecoder(io.LimitReader(response.Body, 8<<20)).Decode(value)
	case http.StatusNotFound:
		return errAbsent
	}
	return fmt.Errorf("GET %s: %s", path, response.Status)
}

// serve answers DNS questions (UDP) at listen for services of the cluster of
// kubeconfig, NAME.NAMESPACE.svc.cluster.local, until ctx ends. Each is looked up when it
// is asked: few ask, and nothing can be stale.
func serve(ctx context.Context, kubeconfig, listen string) error {
	api, err := newAPIClient(kubeconfig)
	if err != nil {
		return err
	}
	var config net.ListenConfig
	conn, err := config.ListenPacket(ctx, "udp", listen)
	if err != nil {
		return fmt.Errorf("name server: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	slots := make(chan struct{}, 64)
	for {
		question := make([]byte, 1500)
		n, from, err := conn.ReadFrom(question)
		if err != nil {
			return context.Cause(ctx)
		}
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			if reply, err := answer(ctx, api, question[:n]); err == nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}()
	}
}

// answer returns the reply to a question in wire form.
func answer(ctx context.Context, api *apiClient, wire []byte) ([]byte, error) {
	var parser dnsmessage.Parser
	header, err := parser.Start(wire)
	if err != nil || header.Response {
		return nil, errors.New("not a question")
	}
	question, err := parser.Question()
	if err != nil {
		return nil, err
	}
	reply := dnsmessage.Header{ID: header.ID, Response: true, Authoritative: true, RecursionDesired: header.RecursionDesired}
	addresses, err := lookup(ctx, api, question.Name.String())
	switch {
	case errors.Is(err, errAbsent):
		reply.RCode = dnsmessage.RCodeNameError
	case err != nil:
		reply.RCode = dnsmessage.RCodeServerFailure
	}
	builder := dnsmessage.NewBuilder(nil, reply)
	builder.EnableCompression()
	if err := builder.StartQuestions(); err != nil {
		return nil, err
	}
	if err := builder.Question(question); err != nil {
		return nil, err
	}
	if err := builder.StartAnswers(); err != nil {
		return nil, err
	}
	for _, address := range addresses {
		if question.Type != dnsmessage.TypeA || !address.Is4() {
			continue
		}
		head := dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: 1}
		if err := builder.AResource(head, dnsmessage.AResource{A: address.As4()}); err != nil {
			return nil, err
		}
	}
	return builder.Finish()
}

// lookup returns the addresses of a name: a service's own, or those of the ready pods of
// a headless one.
func lookup(ctx context.Context, api *apiClient, name string) ([]netip.Addr, error) {
	rest, ours := strings.CutSuffix(strings.ToLower(name), suffix)
	service, space, both := strings.Cut(rest, ".")
	if !ours || !both || strings.ContainsAny(rest, "/?%") || strings.Contains(space, ".") {
		return nil, errAbsent
	}
	var object struct {
		Spec struct {
			ClusterIP string `json:"clusterIP"`
		} `json:"spec"`
	}
	if err := api.get(ctx, "/api/v1/namespaces/"+space+"/services/"+service, &object); err != nil {
		return nil, err
	}
	if object.Spec.ClusterIP == "" || object.Spec.ClusterIP == "None" {
		return ready(ctx, api, space, service)
	}
	address, err := netip.ParseAddr(object.Spec.ClusterIP)
	return []netip.Addr{address}, err
}

// ready returns the addresses of the ready endpoints of a service.
func ready(ctx context.Context, api *apiClient, space, service string) ([]netip.Addr, error) {
	var slices struct {
		Items []struct {
			Endpoints []struct {
				Addresses  []string `json:"addresses"`
				Conditions struct {
					Ready *bool `json:"ready"`
				} `json:"conditions"`
			} `json:"endpoints"`
		} `json:"items"`
	}
	path := "/apis/discovery.k8s.io/v1/namespaces/" + space + "/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D"
	if err := api.get(ctx, path+service, &slices); err != nil {
		return nil, err
	}
	var found []netip.Addr
	for _, slice := range slices.Items {
		for _, endpoint := range slice.Endpoints {
			if endpoint.Conditions.Ready != nil && !*endpoint.Conditions.Ready {
				continue
			}
			for _, text := range endpoint.Addresses {
				if address, err := netip.ParseAddr(text); err == nil {
					found = append(found, address)
				}
			}
		}
	}
	return found, nil
}
