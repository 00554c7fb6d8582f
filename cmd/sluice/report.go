package main

import (
	"fmt"
	"os"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
)

func (a *app) planReportCommand() *cobra.Command {
	format, out := "md", ""
	command := &cobra.Command{
		Use: "report ID", Short: "Write the incident report of a plan, as Markdown or HTML", Args: cobra.ExactArgs(1),
		Long: `Write the incident report of a plan: what was wrong, what had to restart and why, the plan
and the verdict, every step with its gate, proof and times, where traffic was away, harm, and
what was undone.`,
		Example: "  sluice plan report restart-cart-k3f9a2\n  sluice plan report restart-cart-k3f9a2 --format html --out report.html",
		RunE: func(c *cobra.Command, args []string) error {
			request := &sluicev1.GetReportRequest{Id: args[0], Format: sluicev1.GetReportRequest_FORMAT_MARKDOWN}
			switch format {
			case "md":
			case "html":
				request.Format = sluicev1.GetReportRequest_FORMAT_HTML
			default:
				return usage("--format %q: want md or html", format)
			}
			api, server, err := a.connect()
			if err != nil {
				return err
			}
			ctx, cancel := a.within(c.Context(), callTimeout)
			defer cancel()
			answer, err := api.GetReport(ctx, connect.NewRequest(request))
			if err != nil {
				return apiError(server, err)
			}
			if out == "" {
				_, err = a.out.Write(answer.Msg.GetReport())
			} else {
				err = os.WriteFile(out, answer.Msg.GetReport(), 0o600)
			}
			if err != nil {
				return fmt.Errorf("write report: %w", err)
			}
			return nil
		},
	}
	command.Flags().StringVar(&format, "format", format, "md or html")
	command.Flags().StringVar(&out, "out", "", "write to `FILE` instead of stdout")
	_ = command.RegisterFlagCompletionFunc("format",
		cobra.FixedCompletions([]string{"md", "html"}, cobra.ShellCompDirectiveNoFileComp))
	return command
}
