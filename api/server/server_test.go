package server_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/sluicemesh/sluice/api/client"
	"github.com/sluicemesh/sluice/api/server"
	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/internal/fakeplane"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/driver"
)

// The kernel is what the API takes for one.
var _ server.Kernel = (*driver.Kernel)(nil)

func serve(t *testing.T) (*fakeplane.Plane, string) {
	t.Helper()
	plane := fakeplane.New()
	handler, err := plane.Handler(nil)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewUnstartedServer(nil)
	web.Config = server.NewHTTP(handler)
	web.Start()
	t.Cleanup(web.Close)
	return plane, web.URL
}

func dial(t *testing.T, url, token string) client.Client {
	t.Helper()
	api, err := client.New(url, token)
	if err != nil {
		t.Fatal(err)
	}
	return api
}

const plan = "plan %s\nr1 = restart hotel/geo\nverify hotel/geo for 10s\n"

func program(id string) *sluicev1.Program {
	return &sluicev1.Program{Source: []byte(strings.ReplaceAll(plan, "%s", id))}
}

func propose(api client.Client, id string) (*connect.Response[sluicev1.ProposePlanResponse], error) {
	return api.ProposePlan(context.Background(), connect.NewRequest(&sluicev1.ProposePlanRequest{Program: program(id)}))
}

// Every method, called by every role: the table of least roles, and nothing else.
func TestEveryRoleMayCallWhatItsTableSays(t *testing.T) {
	_, url := serve(t)
	ctx := t.Context()
	if _, err := propose(dial(t, url, fakeplane.ProposerToken), "hold-1"); err != nil {
		t.Fatal(err)
	}
	methods := []struct {
		name  string
		roles string // viewer, proposer, approver, admin: who may
		call  func(client.Client) error
	}{
		{"GetStatus", "vpam", func(c client.Client) error {
			_, err := c.GetStatus(ctx, connect.NewRequest(&sluicev1.GetStatusRequest{}))
			return err
		}},
		{"GetTopology", "vpam", func(c client.Client) error {
			_, err := c.GetTopology(ctx, connect.NewRequest(&sluicev1.GetTopologyRequest{}))
			return err
		}},
		{"GetGroup", "vpam", func(c client.Client) error {
			_, err := c.GetGroup(ctx, connect.NewRequest(&sluicev1.GetGroupRequest{Service: "hotel/geo", Planned: true}))
			return err
		}},
		{"GetStatistics", "vpam", func(c client.Client) error {
			_, err := c.GetStatistics(ctx, connect.NewRequest(&sluicev1.GetStatisticsRequest{}))
			return err
		}},
		{"ListSymptoms", "vpam", func(c client.Client) error {
			_, err := c.ListSymptoms(ctx, connect.NewRequest(&sluicev1.ListSymptomsRequest{}))
			return err
		}},
		{"ListProxies", "vpam", func(c client.Client) error {
			_, err := c.ListProxies(ctx, connect.NewRequest(&sluicev1.ListProxiesRequest{}))
			return err
		}},
		{"ListPlans", "vpam", func(c client.Client) error {
			_, err := c.ListPlans(ctx, connect.NewRequest(&sluicev1.ListPlansRequest{}))
			return err
		}},
		{"GetPlan", "vpam", func(c client.Client) error {
			_, err := c.GetPlan(ctx, connect.NewRequest(&sluicev1.GetPlanRequest{Id: "hold-1"}))
			return err
		}},
		{"CheckPlan", "vpam", func(c client.Client) error {
			_, err := c.CheckPlan(ctx, connect.NewRequest(&sluicev1.CheckPlanRequest{Program: program("c")}))
			return err
		}},
		{"WatchPlan", "vpam", func(c client.Client) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			stream, err := c.WatchPlan(ctx, connect.NewRequest(&sluicev1.WatchPlanRequest{Id: "hold-1"}))
			if err != nil {
				return err
			}
			if stream.Receive() {
				return nil
			}
			return stream.Err()
		}},
		{"GetReport", "vpam", func(c client.Client) error {
			_, err := c.GetReport(ctx, connect.NewRequest(&sluicev1.GetReportRequest{Id: "hold-1"}))
			return err
		}},
		{"ExportAudit", "vpam", func(c client.Client) error {
			stream, err := c.ExportAudit(ctx, connect.NewRequest(&sluicev1.ExportAuditRequest{From: 2}))
			if err != nil {
				return err
			}
			if stream.Receive() && stream.Msg().GetRecords()[0].GetSequence() != 2 {
				t.Errorf("an export from record 2 begins with %v", stream.Msg().GetRecords()[0])
			}
			return stream.Err()
		}},
		{"ProposePlan", "pam", func(c client.Client) error { _, err := propose(c, "p"); return err }},
		{"Pause", "am", func(c client.Client) error {
			_, err := c.Pause(ctx, connect.NewRequest(&sluicev1.PauseRequest{}))
			return err
		}},
		{"Resume", "am", func(c client.Client) error {
			_, err := c.Resume(ctx, connect.NewRequest(&sluicev1.ResumeRequest{}))
			return err
		}},
		{"ApprovePlan", "am", func(c client.Client) error {
			_, err := c.ApprovePlan(ctx, connect.NewRequest(&sluicev1.ApprovePlanRequest{Id: "hold-1"}))
			return err
		}},
		{"AbortPlan", "am", func(c client.Client) error {
			_, err := c.AbortPlan(ctx, connect.NewRequest(&sluicev1.AbortPlanRequest{Id: "hold-1"}))
			if connect.CodeOf(err) == connect.CodeFailedPrecondition { // an earlier role has aborted it
				return nil
			}
			return err
		}},
	}
	if got := sluicev1.File_sluice_v1_sluice_proto.Services().Get(0).Methods().Len(); got != len(methods) {
		t.Fatalf("the service has %d methods, this test knows %d", got, len(methods))
	}
	tokens := map[string]string{
		"v": fakeplane.ViewerToken, "p": fakeplane.ProposerToken, "a": fakeplane.ApproverToken, "m": fakeplane.AdminToken,
	}
	for _, method := range methods {
		for _, role := range []string{"v", "p", "a", "m"} {
			err := method.call(dial(t, url, tokens[role]))
			allowed := strings.Contains(method.roles, role)
			if allowed && err != nil {
				t.Errorf("%s by %s: %v", method.name, role, err)
			}
			if !allowed && connect.CodeOf(err) != connect.CodePermissionDenied {
				t.Errorf("%s by %s: got %v, want permission denied", method.name, role, err)
			}
		}
		for _, token := range []string{"", "x", fakeplane.ViewerToken + "x", fakeplane.ViewerToken[1:]} {
			if err := method.call(dial(t, url, token)); connect.CodeOf(err) != connect.CodeUnauthenticated {
				t.Errorf("%s with token %q: got %v, want unauthenticated", method.name, token, err)
			}
		}
	}
}

func TestNobodyApprovesTheirOwnPlan(t *testing.T) {
	_, url := serve(t)
	anna, adam := dial(t, url, fakeplane.ApproverToken), dial(t, url, fakeplane.AdminToken)
	if _, err := propose(anna, "hold-mine"); err != nil {
		t.Fatal(err)
	}
	request := connect.NewRequest(&sluicev1.ApprovePlanRequest{Id: "hold-mine"})
	if _, err := anna.ApprovePlan(t.Context(), request); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("own plan: got %v, want permission denied", err)
	}
	answer, err := adam.ApprovePlan(t.Context(), connect.NewRequest(&sluicev1.ApprovePlanRequest{Id: "hold-mine"}))
	if err != nil {
		t.Fatal(err)
	}
	if p := answer.Msg.GetPlan(); p.GetPhase() != "running" || p.GetApprover() != "adam" {
		t.Errorf("approved by another: %s by %s", p.GetPhase(), p.GetApprover())
	}
}

func TestAPlanIsWatchedUntilItsEnd(t *testing.T) {
	plane, url := serve(t)
	api := dial(t, url, fakeplane.ProposerToken)
	if _, err := propose(api, "watched"); err != nil {
		t.Fatal(err)
	}
	stream, err := api.WatchPlan(t.Context(), connect.NewRequest(&sluicev1.WatchPlanRequest{Id: "watched"}))
	if err != nil {
		t.Fatal(err)
	}
	var last *sluicev1.Plan
	for stream.Receive() {
		last = stream.Msg().GetPlan()
		plane.Advance("watched")
	}
	if stream.Err() != nil || last.GetPhase() != "committed" || last.GetHarm() != "clean" {
		t.Fatalf("ended as %s: %v", last.GetPhase(), stream.Err())
	}
	for _, step := range last.GetSteps() {
		if step.GetAction() == "drain" && (step.GetProofGrade() != "A" || step.GetAcks() != 7 || step.GetTarget() != "hotel/geo#geo-0" && step.GetTarget() != "hotel/geo#geo-1") {
			t.Errorf("step %s: %v", step.GetId(), step)
		}
	}
}

func TestRefusalsAreVerdictsWithFaults(t *testing.T) {
	_, url := serve(t)
	api := dial(t, url, fakeplane.ProposerToken)
	for id, want := range map[string]string{
		"fine": "admit", "hold-1": "hold/too-slow/held", "reject-1": "reject/blast-radius/refused", "throttle-1": "throttle/rate/refused",
	} {
		answer, err := propose(api, id)
		if err != nil {
			t.Fatal(err)
		}
		got := answer.Msg.GetVerdict()
		if got != "admit" {
			got += "/" + answer.Msg.GetCode() + "/" + answer.Msg.GetPhase()
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", id, got, want)
		}
	}
	again, err := propose(api, "fine")
	if err != nil || again.Msg.GetVerdict() != "replayed" {
		t.Errorf("the same again: %v %v", again, err)
	}
	malformed := &sluicev1.Program{Source: []byte("plan x\nr1 = reboot hotel/geo\n")}
	answer, err := api.ProposePlan(t.Context(), connect.NewRequest(&sluicev1.ProposePlanRequest{Program: malformed}))
	if err != nil {
		t.Fatal(err)
	}
	if f := answer.Msg.GetFaults(); answer.Msg.GetVerdict() != "reject" || answer.Msg.GetCode() != "decode" || len(f) == 0 || f[0].GetLine() != 2 {
		t.Errorf("malformed: %v", answer.Msg)
	}
}

func TestBadRequestsNameTheField(t *testing.T) {
	_, url := serve(t)
	api := dial(t, url, fakeplane.AdminToken)
	ctx := t.Context()
	long := strings.Repeat("x", 300)
	for name, call := range map[string]func() error{
		"id: has byte": func() error {
			_, err := api.GetPlan(ctx, connect.NewRequest(&sluicev1.GetPlanRequest{Id: "a\n"}))
			return err
		},
		"id: is 0 bytes": func() error {
			_, err := api.AbortPlan(ctx, connect.NewRequest(&sluicev1.AbortPlanRequest{}))
			return err
		},
		"page_size: -1": func() error {
			_, err := api.ListPlans(ctx, connect.NewRequest(&sluicev1.ListPlansRequest{PageSize: -1}))
			return err
		},
		"page_token: \"zz\"": func() error {
			_, err := api.ListPlans(ctx, connect.NewRequest(&sluicev1.ListPlansRequest{PageToken: "zz"}))
			return err
		},
		"service: name": func() error {
			_, err := api.GetGroup(ctx, connect.NewRequest(&sluicev1.GetGroupRequest{Service: "Hotel/geo"}))
			return err
		},
		"program.source: is empty": func() error {
			_, err := api.CheckPlan(ctx, connect.NewRequest(&sluicev1.CheckPlanRequest{}))
			return err
		},
		"program.format: 9": func() error {
			_, err := api.CheckPlan(ctx, connect.NewRequest(&sluicev1.CheckPlanRequest{Program: &sluicev1.Program{Format: 9, Source: []byte("x")}}))
			return err
		},
		"reason: must be": func() error {
			_, err := api.Pause(ctx, connect.NewRequest(&sluicev1.PauseRequest{Reason: long}))
			return err
		},
	} {
		err := call()
		if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), name) {
			t.Errorf("want invalid argument with %q, got %v", name, err)
		}
	}
	_, err := api.GetPlan(ctx, connect.NewRequest(&sluicev1.GetPlanRequest{Id: "nobody"}))
	if connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("unknown plan: %v", err)
	}
	_, err = api.GetGroup(ctx, connect.NewRequest(&sluicev1.GetGroupRequest{Service: "hotel/nobody", Planned: true}))
	if connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("unknown service: %v", err)
	}
}

func TestPagesCoverEveryPlanOnce(t *testing.T) {
	_, url := serve(t)
	api := dial(t, url, fakeplane.AdminToken)
	for i := range 7 {
		if _, err := propose(api, "p"+string(rune('0'+i))); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for token := ""; ; {
		answer, err := api.ListPlans(t.Context(), connect.NewRequest(&sluicev1.ListPlansRequest{PageSize: 3, PageToken: token}))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range answer.Msg.GetPlans() {
			got = append(got, p.GetId())
		}
		if token = answer.Msg.GetNextPageToken(); token == "" {
			break
		}
	}
	if strings.Join(got, " ") != "p6 p5 p4 p3 p2 p1 p0" {
		t.Errorf("pages: %v", got)
	}
}

// post sends a request as curl would.
func post(t *testing.T, url, path string, body io.Reader, header map[string]string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		if name == "Host" {
			request.Host = value
		}
		request.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(data)
}

const statusPath = "/sluice.v1.SluiceService/GetStatus"

func TestPlainJSONWorksAndStrangersAreRefused(t *testing.T) {
	_, url := serve(t)
	bearer := "Bearer " + fakeplane.ViewerToken
	for name, c := range map[string]struct {
		header map[string]string
		want   int
		text   string
	}{
		"curl":            {map[string]string{"Authorization": bearer}, 200, `"mode":"Enforce"`},
		"lower case":      {map[string]string{"Authorization": "bearer " + fakeplane.ViewerToken}, 200, "Enforce"},
		"no token":        {nil, 401, "unauthenticated"},
		"basic":           {map[string]string{"Authorization": "Basic " + fakeplane.ViewerToken}, 401, "unauthenticated"},
		"forged agent":    {map[string]string{"X-Agent": "admin"}, 401, "unauthenticated"},
		"localhost":       {map[string]string{"Authorization": bearer, "Host": "localhost:1"}, 200, "Enforce"},
		"rebound name":    {map[string]string{"Authorization": bearer, "Host": "evil.example"}, 421, "host name"},
		"another origin":  {map[string]string{"Authorization": bearer, "Origin": "https://evil.example"}, 403, ""},
		"same site fetch": {map[string]string{"Authorization": bearer, "Sec-Fetch-Site": "same-origin"}, 200, "Enforce"},
		"cross site":      {map[string]string{"Authorization": bearer, "Sec-Fetch-Site": "cross-site"}, 403, ""},
	} {
		header := map[string]string{"Content-Type": "application/json"}
		for key, value := range c.header {
			header[key] = value
		}
		answer, text := post(t, url, statusPath, strings.NewReader("{}"), header)
		if answer.StatusCode != c.want || !strings.Contains(text, c.text) {
			t.Errorf("%s: %d %s", name, answer.StatusCode, text)
		}
		for _, h := range []string{"X-Content-Type-Options", "Content-Security-Policy", "X-Frame-Options", "Referrer-Policy"} {
			if answer.Header.Get(h) == "" {
				t.Errorf("%s: no %s", name, h)
			}
		}
	}
}

func TestOversizeIsRefusedBeforeItIsRead(t *testing.T) {
	_, url := serve(t)
	header := map[string]string{"Content-Type": "application/json", "Authorization": "Bearer " + fakeplane.ProposerToken}
	big := bytes.NewReader(bytes.Repeat([]byte(" "), 8<<20))
	answer, text := post(t, url, "/sluice.v1.SluiceService/CheckPlan", big, header)
	if answer.StatusCode == http.StatusOK || answer.StatusCode == http.StatusInternalServerError {
		t.Errorf("8 MiB: %d %s", answer.StatusCode, text)
	}
	api := dial(t, url, fakeplane.ProposerToken)
	long := &sluicev1.Program{Source: bytes.Repeat([]byte("#"), server.MaxProgram+1)}
	checked, err := api.CheckPlan(t.Context(), connect.NewRequest(&sluicev1.CheckPlanRequest{Program: long}))
	if err != nil || checked.Msg.GetVerdict() != "reject" || checked.Msg.GetCode() != "too-large" {
		t.Errorf("program over the limit: %v %v", checked, err)
	}
	header["Content-Encoding"] = "gzip"
	answer, text = post(t, url, "/sluice.v1.SluiceService/CheckPlan", strings.NewReader("not gzip"), header)
	if answer.StatusCode == http.StatusOK || answer.StatusCode == http.StatusInternalServerError {
		t.Errorf("broken gzip: %d %s", answer.StatusCode, text)
	}
}

func TestAFloodOfOnePrincipalIsThrottledAndOthersAreNot(t *testing.T) {
	now := time.Unix(1000, 0)
	plane := fakeplane.New()
	tokens, err := server.NewTokens(
		server.Token{Secret: fakeplane.ViewerToken, Bearer: microkernel.Principal{Name: "vera", Role: microkernel.Viewer}},
		server.Token{Secret: fakeplane.AdminToken, Bearer: microkernel.Principal{Name: "adam", Role: microkernel.Admin}})
	if err != nil {
		t.Fatal(err)
	}
	handler, err := server.New(server.Config{
		Kernel: plane, Registry: plane, Tokens: tokens, Now: func() time.Time { return now },
		Topology: &server.Evidence{Snapshots: plane, Registry: plane},
	})
	if err != nil {
		t.Fatal(err)
	}
	call := func(token string) *httptest.ResponseRecorder {
		request := httptest.NewRequest(http.MethodPost, "http://localhost"+statusPath, strings.NewReader("{}"))
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Authorization", "Bearer "+token)
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		return answer
	}
	refused := 0
	for range 250 {
		if answer := call(fakeplane.ViewerToken); answer.Code == http.StatusTooManyRequests {
			refused++
			if answer.Header().Get("Retry-After") != "1" {
				t.Fatalf("no Retry-After: %v", answer.Header())
			}
		}
	}
	if refused != 50 {
		t.Errorf("%d of 250 at once were refused, want 50", refused)
	}
	if answer := call(fakeplane.AdminToken); answer.Code != http.StatusOK {
		t.Errorf("another principal: %d", answer.Code)
	}
	now = now.Add(time.Second)
	if answer := call(fakeplane.ViewerToken); answer.Code != http.StatusOK {
		t.Errorf("a second later: %d", answer.Code)
	}
}

func TestHealthNeedsNoTokenMetricsDo(t *testing.T) {
	plane := fakeplane.New()
	tokens, _ := server.NewTokens(server.Token{Secret: fakeplane.ViewerToken, Bearer: microkernel.Principal{Name: "v", Role: microkernel.Viewer}})
	ready := io.ErrUnexpectedEOF
	handler, err := server.New(server.Config{
		Kernel: plane, Registry: plane, Tokens: tokens, Topology: &server.Evidence{Snapshots: plane, Registry: plane},
		Ready:   func() error { return ready },
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("m")) }),
	})
	if err != nil {
		t.Fatal(err)
	}
	get := func(path, token string) int {
		request := httptest.NewRequest(http.MethodGet, "http://127.0.0.1"+path, nil)
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		return answer.Code
	}
	for _, c := range []struct {
		path, token string
		want        int
	}{
		{"/healthz", "", 200}, {"/readyz", "", 503}, {"/metrics", "", 401}, {"/metrics", fakeplane.ViewerToken, 200}, {"/", "", 404},
	} {
		if got := get(c.path, c.token); got != c.want {
			t.Errorf("GET %s: got %d, want %d", c.path, got, c.want)
		}
	}
}

func TestTokensMustBeStrongAndDistinct(t *testing.T) {
	who := microkernel.Principal{Name: "x", Role: microkernel.Viewer}
	if _, err := server.NewTokens(server.Token{Secret: "short", Bearer: who}); err == nil {
		t.Error("a short secret was taken")
	}
	same := server.Token{Secret: fakeplane.ViewerToken, Bearer: who}
	if _, err := server.NewTokens(same, same); err == nil {
		t.Error("one secret for two bearers was taken")
	}
	if _, err := server.New(server.Config{}); err == nil {
		t.Error("an empty configuration was taken")
	}
}

// Whatever bytes arrive, the server answers and no handler panics.
func FuzzRequests(f *testing.F) {
	plane := fakeplane.New()
	handler, err := plane.Handler(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("GetGroup", []byte(`{"service":"hotel/geo","planned":true}`))
	f.Add("CheckPlan", []byte(`{"program":{"source":"cGxhbiB4"}}`))
	f.Add("ListPlans", []byte(`{"pageSize":-1}`))
	f.Add("GetPlan", []byte("{\"id\":\"\\u0000\"}"))
	f.Fuzz(func(t *testing.T, method string, body []byte) {
		if strings.Contains(method, "Watch") || strings.ContainsFunc(method, func(r rune) bool { return r < 'A' || r > 'z' }) {
			t.Skip()
		}
		request := httptest.NewRequest(http.MethodPost, "http://localhost/sluice.v1.SluiceService/"+method, bytes.NewReader(body))
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Authorization", "Bearer "+fakeplane.ViewerToken)
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		if answer.Code == http.StatusInternalServerError {
			t.Fatalf("%s %q: %s", method, body, answer.Body)
		}
	})
}
