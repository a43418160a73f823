package sim

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// traceMax bounds what a run writes down; the beginning is kept, and the end.
const traceMax = 64 << 20

// trace is what happened in a run, in order.
type trace struct {
	mu    sync.Mutex
	began time.Time
	buf   bytes.Buffer
	alarm func(line string) // of a node's log, when it says what must never be; see alarms
}

// alarms are what a node logs only when an invariant is in danger.
var alarms = []string{
	"a leader asks to cut what is committed", // invariant 6; the node refuses
}

func newTrace() *trace { return &trace{began: time.Now()} }

func (t *trace) line(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.buf.Len() < traceMax {
		fmt.Fprintf(&t.buf, "%12.6f %s\n", time.Since(t.began).Seconds(), text)
	}
}

func (t *trace) note(format string, args ...any) { t.line(fmt.Sprintf(format, args...)) }

// digest covers all lines.
func (t *trace) digest() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := fnv.New64a()
	_, _ = h.Write(t.buf.Bytes())
	return h.Sum64()
}

func (t *trace) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.buf.Bytes())
}

// handler writes a node's log lines into the trace.
func (t *trace) handler(who string) slog.Handler {
	return slog.NewTextHandler(lineWriter{t, who}, &slog.HandlerOptions{
		Level: slog.LevelInfo,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})
}

type lineWriter struct {
	trace *trace
	who   string
}

func (w lineWriter) Write(b []byte) (int, error) {
	line := w.who + " " + string(bytes.TrimSpace(b))
	w.trace.line(line)
	for _, alarm := range alarms {
		if strings.Contains(line, alarm) {
			w.trace.alarm(line)
		}
	}
	return len(b), nil
}
