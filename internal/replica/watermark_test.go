package replica

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"chronik/internal/kafka"
)

// TestWatermark runs the transcripts of testdata/watermark.txt.
func TestWatermark(t *testing.T) {
	datadriven.RunTest(t, "testdata/watermark.txt", runWatermark(&progress{}))
}

func runWatermark(p *progress) func(*testing.T, *datadriven.TestData) string {
	return func(t *testing.T, d *datadriven.TestData) string {
		brokers := func(key string) (ids []kafka.BrokerID) {
			for _, a := range d.CmdArgs {
				if a.Key == key {
					for _, v := range a.Vals {
						n, err := strconv.Atoi(v)
						if err != nil {
							d.Fatalf(t, "%v", err)
						}
						ids = append(ids, kafka.BrokerID(n))
					}
				}
			}
			return ids
		}
		var broker, end, minInsync int
		d.MaybeScanArgs(t, "broker", &broker)
		d.MaybeScanArgs(t, "end", &end)
		if d.MaybeScanArgs(t, "min", &minInsync) {
			p.minInsync = minInsync
		}
		switch d.Cmd {
		case "new":
			*p = progress{local: brokers("local")[0], minInsync: minInsync}
			p.assign(brokers("replicas"), brokers("isr"))
		case "assign":
			p.assign(brokers("replicas"), brokers("isr"))
		case "propose":
			p.proposed = brokers("isr")
		case "answered":
			p.proposed = nil
		case "durable":
			p.durable(kafka.BrokerID(broker), kafka.Offset(end))
		case "reset":
			p.reset(kafka.BrokerID(broker), kafka.Offset(end))
		case "elect":
			p.elect()
		case "configure":
		default:
			d.Fatalf(t, "unknown command %s", d.Cmd)
		}
		moved := p.advance()
		var out strings.Builder
		fmt.Fprintf(&out, "watermark %d", p.highWatermark)
		if moved {
			out.WriteString(" (moved)")
		}
		if p.underMinInsync() {
			fmt.Fprintf(&out, " stalled: %d in sync, %d needed", len(p.committed), p.effectiveMinInsync())
		}
		for _, e := range p.ends {
			fmt.Fprintf(&out, "\n%d:", e.broker)
			if e.end == kafka.NoOffset {
				out.WriteString(" ?")
			} else {
				fmt.Fprintf(&out, " %d", e.end)
			}
			if p.inMaximalISR(e.broker) {
				out.WriteString(" in sync")
			}
		}
		return out.String()
	}
}
