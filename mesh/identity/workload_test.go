package identity

import (
	"encoding/pem"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"

	"github.com/sluicemesh/sluice/internal/testca"
)

// agent is a SPIFFE agent that obeys the Workload API: it sends what it is given.
type agent struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	updates chan *workload.X509SVIDResponse
}

func (a *agent) FetchX509SVID(_ *workload.X509SVIDRequest, s workload.SpiffeWorkloadAPI_FetchX509SVIDServer) error {
	for {
		select {
		case <-s.Context().Done():
			return nil
		case update := <-a.updates:
			if err := s.Send(update); err != nil {
				return err
			}
		}
	}
}

func der(text []byte) []byte {
	block, _ := pem.Decode(text)
	return block.Bytes
}

func answer(ca *testca.CA, path string) *workload.X509SVIDResponse {
	pair := ca.Issue(path, time.Now().Add(time.Hour))
	return &workload.X509SVIDResponse{Svids: []*workload.X509SVID{{
		SpiffeId: "spiffe://mesh.test" + path, X509Svid: der(pair.Cert), X509SvidKey: der(pair.Key), Bundle: der(ca.PEM),
	}}}
}

func TestWorkloadAPIRotates(t *testing.T) {
	ca := testca.New(t, "mesh.test")
	socket := filepath.Join(t.TempDir(), "agent.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Skip(err) // the temporary directory's path is too long
	}
	a := &agent{updates: make(chan *workload.X509SVIDResponse, 1)}
	server := grpc.NewServer()
	workload.RegisterSpiffeWorkloadAPIServer(server, a)
	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(listener) }()
	defer func() {
		server.Stop()
		if err := <-stopped; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	}()
	a.updates <- answer(ca, "/ns/shop/svc/a")
	source, err := Workload(t.Context(), "unix://"+socket)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	next := source.Updated()
	for _, path := range []string{"/ns/shop/svc/a", "/ns/shop/svc/b"} {
		svid, err := source.GetX509SVID()
		if err != nil || svid.ID.Path() != path {
			t.Fatalf("got %v, %v, want %s", svid, err, path)
		}
		if path == "/ns/shop/svc/b" {
			break
		}
		a.updates <- answer(ca, "/ns/shop/svc/b")
		<-next
	}
	if _, err := source.GetX509BundleForTrustDomain(domain); err != nil {
		t.Error(err)
	}
}

func TestWorkloadAddressIsChecked(t *testing.T) {
	if _, err := Workload(t.Context(), "no/scheme"); err == nil {
		t.Error("an address without a scheme is taken")
	}
}
