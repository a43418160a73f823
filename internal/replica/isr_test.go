package replica

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"chronik/internal/kafka"
)

// TestISR runs the transcripts of testdata/isr.txt. Times are in seconds since the leader was elected; lagMax is 10 s.
func TestISR(t *testing.T) {
	p := &progress{}
	began := time.Unix(1_700_000_000, 0)
	refuses := map[kafka.BrokerID]bool{}
	datadriven.RunTest(t, "testdata/isr.txt", func(t *testing.T, d *datadriven.TestData) string {
		number := func(key string) (n int) { d.MaybeScanArgs(t, key, &n); return n }
		brokers := func(key string) (ids []kafka.BrokerID) {
			for _, a := range d.CmdArgs {
				for _, v := range a.Vals {
					if n, err := strconv.Atoi(v); a.Key == key && err == nil {
						ids = append(ids, kafka.BrokerID(n))
					}
				}
			}
			return ids
		}
		broker, end := kafka.BrokerID(number("broker")), kafka.Offset(number("end"))
		var seconds float64
		for _, a := range d.CmdArgs {
			if a.Key == "at" {
				seconds, _ = strconv.ParseFloat(a.Vals[0], 64)
			}
		}
		now := began.Add(time.Duration(seconds * float64(time.Second)))
		switch d.Cmd {
		case "elected":
			*p = progress{local: 1, minInsync: number("min"), lagMax: 10 * time.Second, highWatermark: kafka.Offset(number("watermark"))}
			p.assign(brokers("replicas"), brokers("isr"))
			p.elect()
			p.begin(began, end)
			p.reset(1, end)
			clear(refuses)
		case "look":
			p.look(now, end)
		case "follows":
			p.reset(broker, kafka.NoOffset)
			p.streams(broker, true, now)
		case "leaves":
			p.streams(broker, false, now)
		case "durable":
			p.durable(broker, end)
		case "applied":
			p.assign(p.replicas, brokers("isr"))
			p.proposed = nil
		case "refuses":
			refuses[broker] = true
		default:
			d.Fatalf(t, "unknown command %s", d.Cmd)
		}
		p.advance()
		isr, reason := p.wanted(now, func(b kafka.BrokerID) bool { return !refuses[b] })
		var out strings.Builder
		fmt.Fprintf(&out, "watermark %d, in sync %v", p.highWatermark, p.committed)
		if isr != nil {
			fmt.Fprintf(&out, "\npropose %v: %s", isr, reason)
		}
		return out.String()
	})
}
