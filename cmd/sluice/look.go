package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
)

// statusView is the JSON of `sluice status`.
type statusView struct {
	header
	Server       string  `json:"server"`
	Remote       build   `json:"server_build"`
	Mode         string  `json:"mode"`
	Term         uint64  `json:"term"`
	Epoch        *string `json:"epoch"`
	Paused       bool    `json:"paused"`
	Frozen       *string `json:"frozen"`
	Services     int32   `json:"services"`
	Instances    int32   `json:"instances"`
	Proxies      int32   `json:"proxies"`
	EnvoyVersion *string `json:"envoy_version"`
	RunningPlans int32   `json:"running_plans"`
	Symptoms     int     `json:"symptoms"`
}

type build struct {
	Version string  `json:"version"`
	Commit  string  `json:"commit"`
	Started *string `json:"started"`
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the control plane's state: mode, topology, proxies, plans", Args: cobra.NoArgs,
		Example: "  sluice status\n  sluice status -o json | jq .running_plans",
		RunE: func(c *cobra.Command, _ []string) error {
			api, server, err := a.connect()
			if err != nil {
				return err
			}
			ctx, cancel := a.within(c.Context(), callTimeout)
			defer cancel()
			answer, err := api.GetStatus(ctx, connect.NewRequest(&sluicev1.GetStatusRequest{}))
			if err != nil {
				return apiError(server, err)
			}
			symptoms, err := api.ListSymptoms(ctx, connect.NewRequest(&sluicev1.ListSymptomsRequest{}))
			if err != nil {
				return apiError(server, err)
			}
			s := answer.Msg
			view := statusView{
				header: a.header("status"), Server: server,
				Remote: build{s.GetVersion(), s.GetCommit(), stamp(s.GetStarted())},
				Mode:   s.GetMode(), Term: s.GetTerm(), Epoch: null(s.GetEpoch()), Paused: s.GetPaused(),
				Frozen: null(s.GetFrozen()), Services: s.GetServices(), Instances: s.GetInstances(),
				Proxies: s.GetProxies(), EnvoyVersion: null(s.GetEnvoyVersion()),
				RunningPlans: s.GetRunningPlans(), Symptoms: len(symptoms.Msg.GetSymptoms()),
			}
			return a.print(view, func(w io.Writer) { a.statusTable(w, view, s, symptoms.Msg.GetSymptoms()) })
		},
	}
}

func (a *app) statusTable(w io.Writer, v statusView, s *sluicev1.GetStatusResponse, symptoms []*sluicev1.Symptom) {
	up := "-"
	if s.GetStarted() != nil {
		up = a.now().Sub(s.GetStarted().AsTime()).Truncate(time.Second).String()
	}
	table(w, func(w io.Writer) {
		row(w, "Control plane", fmt.Sprintf("%s, %s, up %s", v.Server, dash(v.Remote.Version), up))
		row(w, "Mode", fmt.Sprintf("%s, term %d", dash(v.Mode), v.Term))
		row(w, "Topology", fmt.Sprintf("%d services, %d instances, epoch %s", v.Services, v.Instances, shortEpoch(s.GetEpoch())))
		row(w, "Proxies", fmt.Sprintf("%d connected, Envoy %s", v.Proxies, dash(s.GetEnvoyVersion())))
		row(w, "Plans", fmt.Sprintf("%d running", v.RunningPlans))
	})
	if v.Paused {
		fmt.Fprintln(w, a.paint(a.terminal, caution, "PAUSED: no new step starts; `sluice resume --all` goes on"))
	}
	if v.Frozen != nil {
		fmt.Fprintln(w, a.paint(a.terminal, bad, "FROZEN: "+*v.Frozen))
	}
	for _, symptom := range symptoms {
		fmt.Fprintln(w, a.paint(a.terminal, bad, "SYMPTOM: "+symptom.GetService()+": "+symptom.GetEvidence()))
	}
}

// proxyView is one proxy of `sluice proxies`.
type proxyView struct {
	Node         string          `json:"node"`
	Service      string          `json:"service"`
	Connected    bool            `json:"connected"`
	Since        *string         `json:"since"`
	EnvoyVersion *string         `json:"envoy_version"`
	Types        []proxyTypeView `json:"types"`
	Overlays     []string        `json:"overlays"`
}

type proxyTypeView struct {
	Type      string  `json:"type"`
	Version   string  `json:"version"`
	Acked     string  `json:"acked"`
	Nack      *string `json:"nack"`
	At        *string `json:"at"`
	Resources int32   `json:"resources"`
}

func (a *app) proxiesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "proxies [NODE]", Short: "List the Envoys, what they have ACKed and which overlays are in force",
		Args:    cobra.MaximumNArgs(1),
		Example: "  sluice proxies\n  sluice proxies shop.cart-0 -o yaml",
		RunE: func(c *cobra.Command, args []string) error {
			api, server, err := a.connect()
			if err != nil {
				return err
			}
			ctx, cancel := a.within(c.Context(), callTimeout)
			defer cancel()
			request := &sluicev1.ListProxiesRequest{}
			if len(args) == 1 {
				request.Node = args[0]
			}
			answer, err := api.ListProxies(ctx, connect.NewRequest(request))
			if err != nil {
				return apiError(server, err)
			}
			view := struct {
				header
				Proxies []proxyView `json:"proxies"`
			}{a.header("proxies"), []proxyView{}}
			for _, proxy := range answer.Msg.GetProxies() {
				view.Proxies = append(view.Proxies, newProxyView(proxy))
			}
			return a.print(view, func(w io.Writer) { proxyTable(w, answer.Msg.GetProxies()) })
		},
	}
}

func newProxyView(p *sluicev1.Proxy) proxyView {
	view := proxyView{
		Node: p.GetNode(), Service: p.GetService(), Connected: p.GetConnected(), Since: stamp(p.GetSince()),
		EnvoyVersion: null(p.GetEnvoyVersion()), Types: []proxyTypeView{}, Overlays: list(p.GetOverlays()),
	}
	for _, t := range p.GetTypes() {
		view.Types = append(view.Types, proxyTypeView{
			t.GetType(), t.GetVersion(), t.GetAcked(), null(t.GetNack()), stamp(t.GetAt()), t.GetResources(),
		})
	}
	return view
}

func proxyTable(w io.Writer, proxies []*sluicev1.Proxy) {
	if len(proxies) == 0 {
		fmt.Fprintln(w, "No proxy has connected.")
		return
	}
	kinds := []string{"cds", "eds", "lds", "rds", "rtds"}
	table(w, func(w io.Writer) {
		row(w, "NODE", "SERVICE", "STATE", "ENVOY", "CDS", "EDS", "LDS", "RDS", "RTDS", "OVERLAYS")
		for _, p := range proxies {
			cells := []string{p.GetNode(), dash(p.GetService()), connected(p), dash(p.GetEnvoyVersion())}
			for _, kind := range kinds {
				cells = append(cells, typeState(p, kind))
			}
			row(w, append(cells, orNone(p.GetOverlays()))...)
		}
	})
	for _, p := range proxies {
		for _, t := range p.GetTypes() {
			if t.GetNack() != "" {
				fmt.Fprintf(w, "NACK %s %s: %s\n", p.GetNode(), t.GetType(), oneLine(t.GetNack()))
			}
		}
	}
}

// oneLine makes text that others wrote safe for a terminal: what is not printable, line
// ends and marks that turn the direction of writing too, is escaped.
func oneLine(text string) string {
	var out strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			out.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		out.WriteString(quoted[1 : len(quoted)-1])
	}
	return out.String()
}

func connected(p *sluicev1.Proxy) string {
	if p.GetConnected() {
		return "connected"
	}
	return "gone"
}

func typeState(p *sluicev1.Proxy, kind string) string {
	for _, t := range p.GetTypes() {
		if t.GetType() != kind {
			continue
		}
		switch {
		case t.GetNack() != "":
			return "NACK"
		case t.GetAcked() == t.GetVersion():
			return fmt.Sprintf("%d ok", t.GetResources())
		}
		return "waiting"
	}
	return "-"
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version of this program", Args: cobra.NoArgs,
		Example: "  sluice version\n  sluice version -o json",
		RunE: func(*cobra.Command, []string) error {
			return a.print(a.header("version"), func(w io.Writer) { fmt.Fprintf(w, "sluice %s (%s)\n", version, commit) })
		},
	}
}
