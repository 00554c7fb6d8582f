package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
)

// auditLine is one record of an exported audit, a line of JSON.
type auditLine struct {
	Sequence uint64          `json:"sequence"`
	Term     uint64          `json:"term"`
	Before   string          `json:"before"` // hex
	Hash     string          `json:"hash"`   // hex
	Event    json.RawMessage `json:"event"`  // its bytes are what is hashed
}

// maxAuditLine bounds a line of an exported audit: an event has at most 16 MiB.
const maxAuditLine = 17 << 20

func (a *app) auditCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "audit", Short: "Export and verify the record of everything that was decided and done",
		Long: `The journal is the audit: every fact the kernel acted on, each record chained to the one
before by its SHA-256. Keep exports, or at least the last hash that verify prints, elsewhere:
a journal that was rewritten as a whole does not go on from there.`,
		Example: "  sluice audit export --out audit.jsonl\n  sluice audit verify\n  sluice audit verify audit.jsonl",
	}
	command.AddCommand(a.auditExportCommand(), a.auditVerifyCommand())
	return command
}

func (a *app) auditExportCommand() *cobra.Command {
	var from uint64
	var out string
	command := &cobra.Command{
		Use: "export", Short: "Write the audit as one JSON object a line", Args: cobra.NoArgs,
		Example: "  sluice audit export > audit.jsonl\n  sluice audit export --from 1200 --out more.jsonl",
		RunE: func(c *cobra.Command, _ []string) error {
			to := a.out
			if out != "" {
				file, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
				if err != nil {
					return usage("--out: %w", err)
				}
				defer func() { _ = file.Close() }() // Sync has told
				to = file
				if err := a.exportAudit(c.Context(), from, to); err != nil {
					return err
				}
				return file.Sync()
			}
			return a.exportAudit(c.Context(), from, to)
		},
	}
	command.Flags().Uint64Var(&from, "from", 0, "begin with the record of this `NUMBER` (0: the oldest that is kept)")
	command.Flags().StringVar(&out, "out", "", "write to `FILE` instead of stdout")
	return command
}

func (a *app) exportAudit(ctx context.Context, from uint64, to io.Writer) error {
	w := bufio.NewWriter(to)
	n := 0
	if err := a.audit(ctx, from, func(r *sluicev1.AuditRecord) error {
		n++
		return writeAuditLine(w, r)
	}); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write audit: %w", err)
	}
	fmt.Fprintf(a.err, "%d records\n", n)
	return nil
}

// writeAuditLine keeps the bytes of the event as they are: they are what is hashed.
func writeAuditLine(w io.Writer, r *sluicev1.AuditRecord) error {
	_, err := fmt.Fprintf(w, `{"sequence":%d,"term":%d,"before":"%x","hash":"%x","event":%s}`+"\n",
		r.GetSequence(), r.GetTerm(), r.GetBefore(), r.GetHash(), r.GetEvent())
	return err
}

// audit streams the audit of the control plane to visit.
func (a *app) audit(ctx context.Context, from uint64, visit func(*sluicev1.AuditRecord) error) error {
	api, server, err := a.connect()
	if err != nil {
		return err
	}
	ctx, cancel := a.within(ctx, auditTimeout)
	defer cancel()
	stream, err := api.ExportAudit(ctx, connect.NewRequest(&sluicev1.ExportAuditRequest{From: from}))
	if err != nil {
		return apiError(server, err)
	}
	defer func() { _ = stream.Close() }() // Err has told
	for stream.Receive() {
		for _, record := range stream.Msg().GetRecords() {
			if err := visit(record); err != nil {
				return err
			}
		}
	}
	if err := stream.Err(); err != nil {
		return apiError(server, err)
	}
	return nil
}

// auditView is what verify found.
type auditView struct {
	header
	Records  int    `json:"records"`
	First    uint64 `json:"first"`
	Last     uint64 `json:"last"`
	Term     uint64 `json:"term"`
	Head     string `json:"head"`  // hash of the last record
	Begins   string `json:"after"` // hash of the record before the first, zeros if it is the very first
	Verified bool   `json:"verified"`
	Fault    string `json:"fault,omitempty"`
}

func (a *app) auditVerifyCommand() *cobra.Command {
	var head string
	command := &cobra.Command{
		Use: "verify [FILE|-]", Short: "Check the hash chain of the audit, live or exported", Args: cobra.MaximumNArgs(1),
		Long: `Check that every record of the audit goes on from the one before. The hashes are computed
here, not taken from the control plane. Exit 0 whole, 1 broken.`,
		Example: "  sluice audit verify\n  sluice audit verify audit.jsonl --contains 1b7a...",
		RunE: func(c *cobra.Command, args []string) error {
			chain := &auditChain{wanted: head}
			var err error
			if len(args) == 0 {
				err = a.audit(c.Context(), 0, chain.add)
			} else {
				err = a.auditFile(args[0], chain.add)
			}
			var broken *brokenChain
			if err != nil && !errors.As(err, &broken) {
				return err
			}
			if err == nil && head != "" && !chain.found {
				broken = &brokenChain{"no record has the hash " + head}
			}
			return a.auditResult(chain, broken)
		},
	}
	command.Flags().StringVar(&head, "contains", "", "fail unless a record has this `HASH`, kept from an earlier verify")
	return command
}

func (a *app) auditResult(chain *auditChain, broken *brokenChain) error {
	view := auditView{
		header: a.header("audit"), Records: chain.records, First: chain.first, Last: chain.last, Term: chain.term,
		Head: hex.EncodeToString(chain.head[:]), Begins: hex.EncodeToString(chain.begins[:]), Verified: broken == nil,
	}
	if broken != nil {
		view.Fault = broken.Error()
	}
	if err := a.print(view, func(w io.Writer) {
		if broken != nil {
			fmt.Fprintf(w, "BROKEN: %s\n", view.Fault)
		}
		if view.Records == 0 {
			fmt.Fprintln(w, "No record could be checked.")
			return
		}
		fmt.Fprintf(w, "%d records, %d to %d, follow one from another\nlast hash %s\n", view.Records, view.First, view.Last, view.Head)
	}); err != nil {
		return err
	}
	if broken != nil {
		return told(exitNotAchieved)
	}
	return nil
}

// auditFile reads an exported audit, line by line.
func (a *app) auditFile(name string, visit func(*sluicev1.AuditRecord) error) error {
	in := a.in
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return usage("%w", err)
		}
		defer func() { _ = file.Close() }() // only read
		in = file
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxAuditLine)
	n := 0
	for lines.Scan() {
		n++
		record, err := parseAuditLine(lines.Bytes())
		if err != nil {
			return usage("%s: line %d: %w; it is no line that `sluice audit export` writes", name, n, err)
		}
		if err := visit(record); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return usage("%s: line %d: %w", name, n+1, err)
	}
	return nil
}

// parseAuditLine reads one line strictly. The event keeps its bytes.
func parseAuditLine(data []byte) (*sluicev1.AuditRecord, error) {
	var line auditLine
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&line); err != nil {
		return nil, err
	}
	if decoder.More() {
		return nil, errors.New("something follows the object")
	}
	before, err := auditHash("before", line.Before)
	if err != nil {
		return nil, err
	}
	hash, err := auditHash("hash", line.Hash)
	if err != nil {
		return nil, err
	}
	return &sluicev1.AuditRecord{
		Sequence: line.Sequence, Term: line.Term, Before: before, Hash: hash, Event: line.Event,
	}, nil
}

func auditHash(field, text string) ([]byte, error) {
	hash, err := hex.DecodeString(text)
	if err != nil || len(hash) != sha256.Size {
		return nil, fmt.Errorf("%s: want %d hexadecimal digits", field, 2*sha256.Size)
	}
	return hash, nil
}

// auditChain computes the chain anew as records come.
type auditChain struct {
	wanted       string
	found        bool
	records      int
	first, last  uint64
	term         uint64
	begins, head [sha256.Size]byte
}

// brokenChain is a record that does not go on from the one before.
type brokenChain struct{ text string }

// Error implements error.
func (b *brokenChain) Error() string { return b.text }

func (c *auditChain) add(r *sluicev1.AuditRecord) error {
	if len(r.GetBefore()) != sha256.Size || len(r.GetHash()) != sha256.Size {
		return &brokenChain{fmt.Sprintf("record %d has no whole hash", r.GetSequence())}
	}
	if c.records == 0 {
		c.first, c.begins = r.GetSequence(), [sha256.Size]byte(r.GetBefore())
		c.head = c.begins
	}
	switch {
	case c.records > 0 && r.GetSequence() != c.last+1:
		return &brokenChain{fmt.Sprintf("record %d follows record %d", r.GetSequence(), c.last)}
	case r.GetTerm() < c.term:
		return &brokenChain{fmt.Sprintf("record %d has term %d after term %d", r.GetSequence(), r.GetTerm(), c.term)}
	case [sha256.Size]byte(r.GetBefore()) != c.head:
		return &brokenChain{fmt.Sprintf("record %d does not go on from the one before", r.GetSequence())}
	case auditSum(r) != [sha256.Size]byte(r.GetHash()):
		return &brokenChain{fmt.Sprintf("record %d was changed: its hash is another", r.GetSequence())}
	}
	c.records++
	c.last, c.term, c.head = r.GetSequence(), r.GetTerm(), [sha256.Size]byte(r.GetHash())
	c.found = c.found || hex.EncodeToString(r.GetHash()) == c.wanted
	return nil
}

// auditSum is the hash of a record as the API documents it.
func auditSum(r *sluicev1.AuditRecord) [sha256.Size]byte {
	data := append([]byte(nil), r.GetBefore()...)
	data = binary.LittleEndian.AppendUint64(data, r.GetSequence())
	data = binary.LittleEndian.AppendUint64(data, r.GetTerm())
	return sha256.Sum256(append(data, r.GetEvent()...))
}
