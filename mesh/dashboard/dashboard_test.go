package dashboard_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/sluicemesh/sluice/internal/fakeplane"
	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/isa/compose"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/mesh/dashboard"
	"github.com/sluicemesh/sluice/microkernel"
)

func TestEveryFileIsServedWithAStrictPolicy(t *testing.T) {
	handler := dashboard.Handler()
	for _, path := range []string{"/", "/style.css", "/main.js", "/api.js", "/graph.js", "/layout.js", "/plan.js", "/tables.js", "/act.js", "/report.js", "/icon.svg"} {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		if answer.Code != http.StatusOK || answer.Body.Len() == 0 {
			t.Errorf("GET %s: %d with %d bytes", path, answer.Code, answer.Body.Len())
		}
		policy := answer.Header().Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") {
			t.Errorf("GET %s: policy %q", path, policy)
		}
		if text := answer.Body.String(); strings.Contains(strings.ReplaceAll(text, "http://www.w3.org/", ""), "http://") ||
			strings.Contains(text, "https://") || strings.Contains(text, "innerHTML") {
			t.Errorf("GET %s: names another site, or writes HTML", path)
		}
	}
	for _, path := range []string{"/page/index.html", "/nothing", "/../dashboard.go"} {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		if answer.Code == http.StatusOK {
			t.Errorf("GET %s: served", path)
		}
	}
}

// page is the dashboard in a real Chromium, against the real API over a fake plane.
type page struct {
	plane    *fakeplane.Plane
	url      string
	ctx      context.Context
	problems *complaints
}

func open(t *testing.T) page {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed")
	}
	plane := fakeplane.New()
	handler, err := plane.Handler(dashboard.Handler())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.WindowSize(1440, 1000),
		chromedp.UserDataDir(t.TempDir()))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	problems := &complaints{}
	if _, err := chromedp.Run(ctx, chromedp.Title()); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	if err := chromedp.Listen(ctx, problems.note); err != nil {
		t.Fatal(err)
	}
	return page{plane, server.URL, ctx, problems}
}

// complaints are the exceptions and console errors of a page.
type complaints struct {
	mu   sync.Mutex
	list []string
}

func (c *complaints) note(event any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch event := event.(type) {
	case *runtime.EventExceptionThrown:
		c.list = append(c.list, fmt.Sprintf("%+v", event.ExceptionDetails))
	case *runtime.EventConsoleAPICalled:
		if event.Type == "error" {
			c.list = append(c.list, fmt.Sprint(event.Args))
		}
	}
}

func (c *complaints) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.list)
}

func (p page) do(t *testing.T, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(p.ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

// until polls a JavaScript condition.
func (p page) until(t *testing.T, condition string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for {
		met, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool]("!!("+condition+")"))
		if err == nil && met {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			text, _ := chromedp.Run(p.ctx, chromedp.Evaluate[string]("document.body.innerText"))
			t.Fatalf("never true: %s (%v)\nproblems: %v\npage:\n%s", condition, err, p.problems.all(), text)
		}
	}
}

// picture writes a screenshot where SCREENS says, if it says so.
func (p page) picture(t *testing.T, name string, scheme string) {
	t.Helper()
	folder := os.Getenv("SCREENS")
	if folder == "" {
		return
	}
	_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	if err != nil {
		t.Fatal(err)
	}
	data, err := chromedp.Run(p.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, name+".png"), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func submit(t *testing.T, plane *fakeplane.Plane, id string) {
	t.Helper()
	group := plane.Snapshot().Planned([]mesh.Service{"hotel/memcached-profile"})
	facts := map[mesh.Service]compose.Facts{
		"hotel/memcached-profile": {Protocol: mesh.TCP, Instances: 1}, "hotel/profile": {Protocol: mesh.HTTP, Instances: 1},
	}
	program := compose.Restart(id, compose.Orders{
		RestartSet: group.RestartSet, Drain: group.DrainOrder, Restart: group.RestartOrder, Restore: group.RestoreOrder,
	}, facts)
	by := microkernel.Principal{Name: "rules", Role: microkernel.Proposer}
	if _, _, err := plane.Submit(t.Context(), by, program); err != nil {
		t.Fatal(err)
	}
}

func TestAPersonSignsInAndWatchesARecovery(t *testing.T) {
	p := open(t)
	p.do(t, chromedp.Navigate(p.url+"/"), chromedp.WaitVisible("#login-form"))
	p.picture(t, "login", "light")
	p.do(t, chromedp.SendKeys("#token", "not-a-token-of-anybody\n"))
	p.until(t, `document.querySelector("#login-error").textContent.includes("not valid")`)
	p.do(t, chromedp.SendKeys("#token", fakeplane.ViewerToken+"\n"))
	p.until(t, `document.querySelectorAll("#graph .node").length === 18`)
	p.until(t, `document.querySelector("#banners").innerText.includes("hotel/profile")`)
	p.until(t, `document.querySelector("#graph .node.symptom")?.getAttribute("aria-label").includes("hotel/profile")`)
	p.until(t, `document.querySelector("#service-title").textContent === "hotel/profile"`)
	p.picture(t, "idle", "light")

	submit(t, p.plane, "restart-profile-1")
	for range 5 {
		p.plane.Advance("restart-profile-1")
	}
	p.until(t, `document.querySelector("#plan-title").textContent === "restart-profile-1"`)
	p.until(t, `document.querySelector("#plan").innerText.includes("3 requests are in flight")`)
	p.until(t, `document.querySelectorAll("#graph .node.drained").length === 2`)
	p.until(t, `document.querySelectorAll("#graph .node.restart").length === 2`)
	p.picture(t, "running", "light")
	p.picture(t, "running-dark", "dark")

	for p.plane.Advance("restart-profile-1") {
	}
	p.until(t, `document.querySelector("#plan .chip").textContent === "committed"`)
	p.until(t, `document.querySelectorAll("#plan .step.confirmed").length === 6`)
	p.until(t, `!document.querySelector("#graph .node.drained") && !document.querySelector("#banners").innerText`)
	p.picture(t, "committed", "light")
	if problems := p.problems.all(); len(problems) > 0 {
		t.Errorf("the page complained: %v", problems)
	}
}

// button clicks the button with this key; click waits for it.
func (p page) button(t *testing.T, key string) {
	t.Helper()
	p.until(t, fmt.Sprintf(`document.querySelector('[data-key="%s"]')`, key))
	p.do(t, chromedp.Click(fmt.Sprintf(`[data-key="%s"]`, key)))
}

func TestAnApproverApprovesAbortsAndReads(t *testing.T) {
	p := open(t)
	submit(t, p.plane, "hold-1")
	p.do(t, chromedp.Navigate(p.url+"/#token="+fakeplane.ApproverToken+"&plan=hold-1"))
	p.button(t, "approve")
	p.until(t, `document.querySelector("#ask").open && document.querySelector("#ask").innerText.includes("hotel/memcached-profile")`)
	p.until(t, `document.querySelector("#ask pre").textContent.includes("restart hotel/memcached-profile")`)
	p.picture(t, "approve", "light")
	p.do(t, chromedp.KeyEvent("\r")) // the focus is on the button that goes on
	p.until(t, `!document.querySelector("#ask").open`)
	p.until(t, `document.querySelector("#plan .chip").textContent === "running"`)
	if record, _ := p.plane.Record("hold-1"); record.Approver.Name != "anna" {
		t.Errorf("approved by %q, want anna", record.Approver.Name)
	}

	p.button(t, "abort")
	p.until(t, `document.activeElement.id === "ask-reason"`)
	p.picture(t, "abort", "dark")
	p.do(t, chromedp.SendKeys("#ask-reason", "wrong <b>one</b>\r"))
	p.until(t, `document.querySelector("#plan .chip").textContent === "compensated"`)
	p.until(t, `document.querySelector("#plan").innerText.includes("wrong <b>one</b>")`)
	p.until(t, `!document.querySelector('[data-key="abort"]')`)

	p.button(t, "report")
	p.until(t, `document.querySelector("#report article")?.innerText.includes("wrong <b>one</b>")`)
	p.until(t, `document.querySelectorAll("#report table").length >= 2 && !document.querySelector("#report b")`)
	p.picture(t, "report", "light")
	p.do(t, chromedp.KeyEvent("\x1b"))
	p.until(t, `!document.querySelector("#report").open`)

	p.button(t, "pause")
	p.do(t, chromedp.SendKeys("#ask-reason", "a look\r"))
	p.until(t, `document.querySelector("#banners").innerText.includes("Paused")`)
	p.button(t, "pause")
	p.until(t, `document.querySelector("#ask-title").textContent === "Resume?"`)
	p.do(t, chromedp.KeyEvent("\r"))
	p.until(t, `!document.querySelector("#banners").innerText.includes("Paused")`)
	if problems := p.problems.all(); len(problems) > 0 {
		t.Errorf("the page complained: %v", problems)
	}
}

// A viewer is shown no act that would be refused; somebody's own plan is for others.
func TestThePageOffersWhatItsReaderMayDo(t *testing.T) {
	p := open(t)
	submit(t, p.plane, "hold-1")
	p.do(t, chromedp.Navigate(p.url+"/#token="+fakeplane.ViewerToken+"&plan=hold-1"))
	p.until(t, `document.querySelector('[data-key="report"]')`)
	p.until(t, `document.querySelector("#status").innerText.includes("viewer")`)
	p.until(t, `!document.querySelector('[data-key="approve"], [data-key="abort"], [data-key="pause"]')`)

	own := isa.Program{ID: "hold-own", Steps: []isa.Step{{ID: "r1", Action: isa.Restart{Target: isa.Target{Service: "hotel/geo"}}}}}
	if _, _, err := p.plane.Submit(t.Context(), microkernel.Principal{Name: "anna", Role: microkernel.Approver}, own); err != nil {
		t.Fatal(err)
	}
	p.do(t, chromedp.Navigate(p.url+"/#token="+fakeplane.ApproverToken+"&plan=hold-own"))
	p.until(t, `document.querySelector('[data-key="approve"]')?.disabled`)
}

func TestLinksGoDeepAndTheTokenLeavesTheAddress(t *testing.T) {
	p := open(t)
	submit(t, p.plane, "first-1")
	submit(t, p.plane, "hold-2")
	p.do(t, chromedp.Navigate(p.url+"/#token="+fakeplane.ViewerToken+"&plan=first-1&service=hotel/geo"))
	p.until(t, `document.querySelector("#plan-title")?.textContent === "first-1"`)
	p.until(t, `document.querySelector("#service-title").textContent === "hotel/geo"`)
	p.until(t, `!location.href.includes("token")`)
	p.do(t, chromedp.Click(`[data-key="plan-hold-2"]`))
	p.until(t, `document.querySelector("#plan").innerText.includes("sluice approve hold-2")`)
	p.until(t, `location.hash.includes("plan=hold-2")`)
	p.picture(t, "held", "dark")
	p.do(t, chromedp.Navigate(p.url+"/#plan=nobody"))
	p.until(t, `document.querySelector("#plan").innerText.includes("No plan nobody")`)
}

func TestTheKeyboardReachesServices(t *testing.T) {
	p := open(t)
	p.do(t, chromedp.Navigate(p.url+"/#token="+fakeplane.ViewerToken))
	p.until(t, `document.querySelectorAll("#graph .node").length === 18`)
	p.do(t, chromedp.Focus(`#graph .node[aria-label^="hotel/geo"]`), chromedp.KeyEvent("\r"))
	p.until(t, `document.querySelector("#service-title").textContent === "hotel/geo"`)
	p.until(t, `document.activeElement.getAttribute("aria-label").startsWith("hotel/geo")`)
}

func TestThePageSaysThatItLostTheServerAndResumes(t *testing.T) {
	p := open(t)
	down := make(chan bool, 1)
	down <- false
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		broken := <-down
		down <- broken
		if broken {
			http.Error(w, "gone", http.StatusBadGateway)
			return
		}
		request, _ := http.NewRequestWithContext(r.Context(), r.Method, p.url+r.URL.Path, r.Body)
		request.Header = r.Header.Clone()
		for _, hop := range []string{"Origin", "Accept-Encoding"} {
			request.Header.Del(hop)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		w.Header().Set("Content-Type", answer.Header.Get("Content-Type"))
		w.WriteHeader(answer.StatusCode)
		_, _ = io.Copy(w, answer.Body)
	}))
	t.Cleanup(front.Close)
	p.do(t, chromedp.Navigate(front.URL+"/#token="+fakeplane.ViewerToken))
	p.until(t, `document.querySelector("#link").innerText.includes("live")`)
	p.until(t, `document.querySelectorAll("#graph .node").length === 18`)
	<-down
	down <- true
	p.until(t, `document.querySelector("#link").innerText.includes("No data since")`)
	p.picture(t, "lost", "light")
	<-down
	down <- false
	p.until(t, `document.querySelector("#link").innerText.includes("live")`)
}

func TestHostileTextStaysText(t *testing.T) {
	p := open(t)
	by := microkernel.Principal{Name: "<img src=x onerror=document.title='owned'>", Role: microkernel.Proposer}
	program := isa.Program{ID: "evil-1", Steps: []isa.Step{{ID: "r1", Action: isa.Restart{Target: isa.Target{Service: "hotel/geo"}}}}}
	if _, _, err := p.plane.Submit(t.Context(), by, program); err != nil {
		t.Fatal(err)
	}
	p.do(t, chromedp.Navigate(p.url+"/#token="+fakeplane.ViewerToken+"&plan=evil-1"))
	p.until(t, `document.querySelector("#plan").innerText.includes("onerror")`)
	p.until(t, `!document.querySelector("#plan img") && document.title !== "owned"`)
}

func TestALargeGraphIsLaidOutInTime(t *testing.T) {
	p := open(t)
	p.do(t, chromedp.Navigate(p.url+"/#token="+fakeplane.ViewerToken))
	millis, err := chromedp.Run(p.ctx, chromedp.Evaluate[float64](`import("/layout.js").then(({ layout }) => {
		const names = [], edges = [];
		for (let i = 0; i < 500; i++) {
			names.push("n/s" + i);
			for (let k = 1; k <= 3; k++) edges.push({ caller: "n/s" + i, callee: "n/s" + (i * 3 + k * 7) % 500 });
		}
		const start = performance.now();
		const { nodes } = layout(names, edges);
		const places = new Set([...nodes.values()].map((v) => v.x + ":" + Math.round(v.y)));
		if (nodes.size !== 500 || places.size !== 500) throw new Error("services on top of each other");
		return performance.now() - start;
	})`, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatal(err)
	}
	if millis > 2000 {
		t.Errorf("500 services took %.0f ms", millis)
	}
}
