package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// absolutes measures what users feel: start, memory, topic creation.
func (s *subject) absolutes(ctx context.Context, out io.Writer) error {
	loaded := residentMB(s.pid())
	var starts []float64
	var idle float64
	for i := range 5 {
		ms, mb, err := s.coldStart(ctx, filepath.Join(s.dir, "start-"+strconv.Itoa(i)))
		if err != nil {
			return err
		}
		starts, idle = append(starts, ms), mb
	}
	topics, err := Metadata(ctx, Options{Bootstrap: []string{s.addr}, Warmup: 500 * time.Millisecond, Duration: 3 * time.Second, BatchSize: 1})
	if err != nil {
		return err
	}
	batched, err := Metadata(ctx, Options{Bootstrap: []string{s.addr}, Duration: 30 * time.Second, BatchSize: 50, Records: 1000})
	if err != nil {
		return err
	}
	rows := [][3]string{
		{"empty directory to the first answered request", fmt.Sprintf("%.0f ms (%.0f-%.0f)", median(starts), slices.Min(starts), slices.Max(starts)), "<= 100 ms"},
		{"memory, idle", fmt.Sprintf("%.0f MB RSS", idle), "<= 40 MB"},
		{"memory, after all rows above", fmt.Sprintf("%.0f MB RSS", loaded), "<= 300 MB"},
		{"create a topic, one at a time", fmt.Sprintf("p50 %s, p99 %s", short(topics[0].P50), short(topics[0].P99)), "p50 <= 5 ms (3 nodes)"},
		{"first acked record of an auto-created topic", fmt.Sprintf("p50 %s, max %s", short(topics[1].P50), short(topics[1].Max)), "p99 <= 50 ms"},
		{"1,000 topics in requests of 50", short(batched[0].Elapsed), "<= 1 s (3 nodes)"},
	}
	return printAbsolutes(out, rows)
}

func printAbsolutes(out io.Writer, rows [][3]string) error {
	if _, err := fmt.Fprint(out, "\n| what | measured | target |\n| --- | --- | --- |\n"); err != nil {
		return err
	}
	for _, r := range rows {
		if _, err := fmt.Fprintf(out, "| %s | %s | %s |\n", r[0], r[1], r[2]); err != nil {
			return err
		}
	}
	return nil
}

// coldStart is the time from starting the process to its first answer, and its memory two seconds later.
func (s *subject) coldStart(ctx context.Context, data string) (ms, mb float64, err error) {
	addr, err := freeAddr()
	if err != nil {
		return 0, 0, err
	}
	http, err := freeAddr()
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	cmd, err := s.start(ctx, data, addr, http)
	if err != nil {
		return 0, 0, err
	}
	defer end(cmd)
	t, err := prepareNothing(ctx, addr)
	if err != nil {
		return 0, 0, err
	}
	ms = float64(time.Since(began).Microseconds()) / 1e3
	t()
	select {
	case <-ctx.Done():
	case <-time.After(2 * time.Second):
	}
	return ms, residentMB(cmd.Process.Pid), nil
}

// residentMB is a process's resident set, in 10^6 bytes.
func residentMB(pid int) float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err == nil {
				return kb * 1024 / 1e6
			}
		}
	}
	return 0
}
