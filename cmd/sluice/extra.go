package main

import "github.com/spf13/cobra"

// extra lists the commands that do not speak the API.
func extra() []*cobra.Command {
	return []*cobra.Command{newInjectCommand(), newLocalCommand(), newEvalCommand()}
}
