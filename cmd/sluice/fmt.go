package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/isa/codec"
)

func (a *app) planFmtCommand() *cobra.Command {
	write, to := false, ""
	command := &cobra.Command{
		Use: "fmt FILE|-", Short: "Write a plan in its canonical form, or in another spelling", Args: cobra.ExactArgs(1),
		Example: "  sluice plan fmt -w cart.plan\n  sluice plan fmt --to json cart.plan > cart.json",
		RunE:    func(_ *cobra.Command, args []string) error { return a.planFmt(args[0], write, to) },
	}
	command.Flags().BoolVarP(&write, "write", "w", false, "rewrite FILE instead of printing")
	command.Flags().StringVar(&to, "to", "", "text, yaml, json or pb (default: as it is)")
	return command
}

func (a *app) planFmt(name string, write bool, to string) error {
	if write && name == "-" {
		return usage("-w needs a FILE")
	}
	src, err := a.readProgram(name)
	if err != nil {
		return err
	}
	if len(src.faults) > 0 {
		faultTable(a.err, src.name, localFaults(src.faults))
		return told(exitUsage)
	}
	format := src.format
	if to != "" {
		if format, err = codec.ParseFormat(to); err != nil {
			return usage("--to: %w", err)
		}
	}
	out, err := encodeProgram(src.program, format)
	if err != nil {
		return err
	}
	if !write {
		_, err := a.out.Write(out)
		return err
	}
	if bytes.Equal(out, src.data) {
		return nil
	}
	return replaceFile(name, out)
}

// replaceFile writes data to a file beside name and renames it, keeping the mode.
func replaceFile(name string, data []byte) error {
	stat, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	file, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer os.Remove(file.Name())
	_, err = io.Copy(file, bytes.NewReader(data))
	if err == nil {
		err = file.Chmod(stat.Mode().Perm())
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// encodeProgram spells a program.
func encodeProgram(p isa.Program, format codec.Format) ([]byte, error) {
	out, err := codec.Encode(p, format)
	if err != nil {
		return nil, fmt.Errorf("write the plan as %s: %w", format, err)
	}
	return out, nil
}
