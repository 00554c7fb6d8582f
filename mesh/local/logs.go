package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// maxLogBytes is the size at which a log is turned over; one old file is kept.
const maxLogBytes = 10 << 20

// turnLogs keeps the logs in dir bounded until ctx ends.
func turnLogs(ctx context.Context, dir string, log *slog.Logger) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		paths, _ := filepath.Glob(filepath.Join(dir, "*.log")) // the pattern is well formed
		for _, path := range paths {
			if err := turnLog(path, maxLogBytes); err != nil {
				log.Warn("log is not turned over", "error", err)
			}
		}
	}
}

// turnLog copies the last limit bytes of a log above limit to PATH.1 and empties
// it. The child keeps its descriptor (it appends), so the file itself must stay;
// what it writes between copy and truncation is lost.
func turnLog(path string, limit int64) error {
	info, err := os.Stat(path)
	if err != nil || info.Size() <= limit {
		return nil // also when it has gone: then it needs no turning
	}
	source, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer source.Close()
	target, err := os.OpenFile(path+".1", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("open old log: %w", err)
	}
	defer target.Close()
	if _, err := io.Copy(target, io.NewSectionReader(source, info.Size()-limit, limit)); err != nil {
		return fmt.Errorf("copy log: %w", err)
	}
	if err := source.Truncate(0); err != nil {
		return fmt.Errorf("empty log: %w", err)
	}
	return nil
}

// tail returns the last lines of a log, at most count, written after offset from.
func tail(path string, from int64, count int) string {
	const window = 16 << 10
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	if from > size { // turned over since
		from = 0
	}
	from = max(from, size-window)
	data, err := io.ReadAll(io.NewSectionReader(file, from, size-from))
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	lines := strings.Split(string(bytes.TrimRight(bytes.ToValidUTF8(data, []byte("?")), "\n")), "\n")
	return strings.Join(lines[max(len(lines)-count, 0):], "\n")
}
