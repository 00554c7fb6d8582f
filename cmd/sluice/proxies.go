package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
)

// proxyView is one proxy of `sluice proxies`.
type proxyView struct {
	Node         string              `json:"node"`
	Service      string              `json:"service"`
	Connected    bool                `json:"connected"`
	Since        *string             `json:"since"`
	EnvoyVersion *string             `json:"envoy_version"`
	Types        []proxyTypeView     `json:"types"`
	Overlays     []string            `json:"overlays"`
	Config       []proxyResourceView `json:"config,omitempty"`
	Diff         []proxyChangeView   `json:"diff,omitempty"`
}

type proxyTypeView struct {
	Type      string  `json:"type"`
	Version   string  `json:"version"`
	Acked     string  `json:"acked"`
	Nack      *string `json:"nack"`
	At        *string `json:"at"`
	Resources int32   `json:"resources"`
	State     string  `json:"state"`
}

type proxyResourceView struct {
	Type    string `json:"type"`
	Name    string `json:"name"`
	Version string `json:"version"`
	Body    string `json:"body"`
}

// proxyChangeView is one change of `sluice plan check --diff` and `sluice proxies --diff`.
type proxyChangeView struct {
	Step   *string `json:"step"`
	Node   string  `json:"node"`
	Type   string  `json:"type"`
	Name   string  `json:"name"`
	Change string  `json:"change"`
	Diff   string  `json:"diff"`
}

func (a *app) proxiesCommand() *cobra.Command {
	request := &sluicev1.ListProxiesRequest{}
	command := &cobra.Command{
		Use: "proxies [NODE]", Short: "List the Envoys, what they have ACKed and which overlays are in force",
		Long: "Lists the Envoys; of one NODE also when it took or refused what, in Envoy's words.\n\n" +
			"A type is acked, nacked (the last answer was a refusal), pending (sent, not answered yet), unused (the proxy\n" +
			"asks for none), or gone (the proxy is not connected).",
		Args:    cobra.MaximumNArgs(1),
		Example: "  sluice proxies\n  sluice proxies shop/cart/cart-0 --diff\n  sluice proxies shop/cart/cart-0 --config -o yaml",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				request.Node = args[0]
			}
			if request.GetNode() == "" && (request.GetConfig() || request.GetDiff()) {
				return usage("--config and --diff are about one proxy: name its NODE, see `sluice proxies`")
			}
			api, server, err := a.connect()
			if err != nil {
				return err
			}
			ctx, cancel := a.within(c.Context(), callTimeout)
			defer cancel()
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
			return a.print(view, func(w io.Writer) {
				if request.GetNode() == "" {
					proxyTable(w, answer.Msg.GetProxies())
					return
				}
				for _, proxy := range answer.Msg.GetProxies() {
					a.proxyDetails(w, proxy, request)
				}
			})
		},
	}
	command.Flags().BoolVar(&request.Config, "config", false, "show the resources that the proxy is offered")
	command.Flags().BoolVar(&request.Diff, "diff", false, "show what the overlays in force change of them")
	return command
}

func newProxyView(p *sluicev1.Proxy) proxyView {
	view := proxyView{
		Node: p.GetNode(), Service: p.GetService(), Connected: p.GetConnected(), Since: stamp(p.GetSince()),
		EnvoyVersion: null(p.GetEnvoyVersion()), Types: []proxyTypeView{}, Overlays: list(p.GetOverlays()),
		Diff: changeViews(p.GetDiff()),
	}
	for _, t := range p.GetTypes() {
		view.Types = append(view.Types, proxyTypeView{
			t.GetType(), t.GetVersion(), t.GetAcked(), null(t.GetNack()), stamp(t.GetAt()), t.GetResources(),
			stateOf(p, t),
		})
	}
	for _, r := range p.GetConfig() {
		view.Config = append(view.Config, proxyResourceView{r.GetType(), r.GetName(), r.GetVersion(), r.GetBody()})
	}
	return view
}

func changeViews(changes []*sluicev1.ProxyChange) []proxyChangeView {
	var views []proxyChangeView
	for _, c := range changes {
		views = append(views, proxyChangeView{
			null(c.GetStep()), c.GetNode(), c.GetType(), c.GetName(), c.GetChange(), c.GetDiff(),
		})
	}
	return views
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

// proxyDetails shows one proxy.
func (a *app) proxyDetails(w io.Writer, p *sluicev1.Proxy, asked *sluicev1.ListProxiesRequest) {
	fmt.Fprintf(w, "%s beside %s: %s", p.GetNode(), dash(p.GetService()), connected(p))
	if p.GetConnected() {
		fmt.Fprintf(w, " for %s, Envoy %s", a.ago(p.GetSince().AsTime()), dash(p.GetEnvoyVersion()))
	}
	fmt.Fprintf(w, "\nOverlays in force: %s\n\n", orNone(p.GetOverlays()))
	table(w, func(w io.Writer) {
		row(w, "TYPE", "STATE", "RESOURCES", "SENT", "ACKED", "LAST ANSWER")
		for _, t := range p.GetTypes() {
			at := "-"
			if t.GetAt() != nil {
				at = a.ago(t.GetAt().AsTime()) + " ago"
			}
			row(w, t.GetType(), stateOf(p, t), fmt.Sprint(t.GetResources()), dash(t.GetVersion()), dash(t.GetAcked()), at)
		}
	})
	for _, t := range p.GetTypes() {
		if t.GetNack() != "" {
			fmt.Fprintf(w, "NACK %s: %s\n", t.GetType(), oneLine(t.GetNack()))
		}
	}
	for _, r := range p.GetConfig() {
		fmt.Fprintf(w, "\n%s %s, version %s\n%s", r.GetType(), r.GetName(), r.GetVersion(), safeText(r.GetBody()))
	}
	if asked.GetDiff() {
		a.changes(w, p.GetDiff(), 0)
	}
}

// ago is the time since at, in words.
func (a *app) ago(at time.Time) string { return a.now().Sub(at).Truncate(time.Second).String() }

// changes shows what proxies are sent, or would be.
func (a *app) changes(w io.Writer, changes []*sluicev1.ProxyChange, leftOff int32) {
	if len(changes) == 0 {
		fmt.Fprintln(w, "\nNothing is changed at any proxy.")
	}
	for _, c := range changes {
		step := ""
		if c.GetStep() != "" {
			step = c.GetStep() + ": "
		}
		fmt.Fprintf(w, "\n%s%s: %s %s %s\n", step, c.GetNode(), c.GetType(), oneLine(c.GetName()), c.GetChange())
		for line := range strings.Lines(safeText(c.GetDiff())) {
			switch {
			case strings.HasPrefix(line, "+"):
				line = a.paint(a.terminal, good, strings.TrimSuffix(line, "\n")) + "\n"
			case strings.HasPrefix(line, "-"):
				line = a.paint(a.terminal, bad, strings.TrimSuffix(line, "\n")) + "\n"
			}
			fmt.Fprint(w, line)
		}
	}
	if leftOff > 0 {
		fmt.Fprintf(w, "\nAnd %d more, for which there was no room.\n", leftOff)
	}
}

// safeText is oneLine for text of several lines.
func safeText(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		out.WriteString(oneLine(strings.TrimSuffix(line, "\n")) + "\n")
	}
	return out.String()
}

func connected(p *sluicev1.Proxy) string {
	if p.GetConnected() {
		return "connected"
	}
	return "gone"
}

// stateOf is how far a type got at a proxy.
func stateOf(p *sluicev1.Proxy, t *sluicev1.ProxyType) string {
	switch {
	case !p.GetConnected():
		return "gone"
	case t.GetNack() != "":
		return "nacked"
	case t.GetAcked() == t.GetVersion() && t.GetAcked() != "":
		return "acked"
	case t.GetResources() == 0:
		return "unused"
	}
	return "pending"
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
