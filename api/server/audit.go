package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"connectrpc.com/connect"

	"github.com/sluicemesh/sluice/api/report"
	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
)

// Audit reads the journal: it calls visit for every record, oldest first, and checks the
// chain on the way. Damage is an error of its own, and so is that of visit, wrapped.
type Audit func(visit func(*sluicev1.AuditRecord) error) error

// auditBatch is how many bytes of events one message of an export carries, about.
const auditBatch = 256 << 10

// GetReport implements the method of the same name.
func (s *service) GetReport(
	_ context.Context, request *connect.Request[sluicev1.GetReportRequest],
) (*connect.Response[sluicev1.GetReportResponse], error) {
	id, err := s.known(request.Msg.GetId())
	if err != nil {
		return nil, err
	}
	record, known := s.config.Kernel.Record(id)
	if !known {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("no plan is called %q any more", id))
	}
	answer := &sluicev1.GetReportResponse{}
	switch request.Msg.GetFormat() {
	case sluicev1.GetReportRequest_FORMAT_UNSPECIFIED, sluicev1.GetReportRequest_FORMAT_MARKDOWN:
		answer.MediaType = "text/markdown; charset=utf-8"
		answer.Report, err = report.Markdown(record)
	case sluicev1.GetReportRequest_FORMAT_HTML:
		answer.MediaType = "text/html; charset=utf-8"
		answer.Report, err = report.HTML(record)
	default:
		return nil, invalid("format", "%v is unknown: use FORMAT_MARKDOWN or FORMAT_HTML", request.Msg.GetFormat())
	}
	if err != nil {
		return nil, connect.NewError(connect.CodeInternal, err)
	}
	return connect.NewResponse(answer), nil
}

// ExportAudit implements the method of the same name.
func (s *service) ExportAudit(
	ctx context.Context, request *connect.Request[sluicev1.ExportAuditRequest],
	stream *connect.ServerStream[sluicev1.ExportAuditResponse],
) error {
	if s.config.Audit == nil {
		return connect.NewError(connect.CodeUnimplemented, errors.New("this control plane keeps no journal that can be exported"))
	}
	batch, bytes := &sluicev1.ExportAuditResponse{}, 0
	flush := func() error {
		if len(batch.GetRecords()) == 0 {
			return nil
		}
		err := stream.Send(batch)
		batch, bytes = &sluicev1.ExportAuditResponse{}, 0
		return err
	}
	var broken error // of the stream, not of the journal
	err := s.config.Audit(func(record *sluicev1.AuditRecord) error {
		if broken = ctx.Err(); broken != nil || record.GetSequence() < request.Msg.GetFrom() {
			return broken
		}
		batch.Records = append(batch.Records, record)
		if bytes += len(record.GetEvent()); bytes < auditBatch {
			return nil
		}
		broken = flush()
		return broken
	})
	switch {
	case broken != nil:
		return broken
	case errors.Is(err, fs.ErrNotExist):
		return connect.NewError(connect.CodeAborted, errors.New("the journal was compacted meanwhile: ask again"))
	case err != nil:
		return connect.NewError(connect.CodeDataLoss, err)
	}
	return flush()
}
