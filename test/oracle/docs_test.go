package oracle

import (
	"bytes"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"chronik/test/oracle/admin"
	"chronik/test/oracle/data"
	"chronik/test/oracle/groups"
	"chronik/test/oracle/pair"
)

var update = flag.Bool("update", false, "write docs/compatibility.md")

// notAsked are differences that the conversations do not show.
var notAsked = []string{
	"A request with a **timeout** of less than a second gets a second: a commit takes some time.",
	"**Topics** beyond `partitions.max` partitions are INVALID_PARTITIONS; Apache Kafka has no such limit.",
	"**Features**: only `group.version` 1 is finalized (no `metadata.version`); `transaction.version` is supported at level 0.",
	"**min.insync.replicas** has no value of its own among the brokers' dynamic defaults, which Apache Kafka sets when it enables eligible leader replicas.",
	"**Produce** refuses a batch whose offset deltas have gaps (INVALID_RECORD), one that takes more than 256 MiB when it is decompressed, and names at most 128 bad records of a batch; Apache Kafka numbers the first anew, has no such limit, and names all.",
	"**group.initial.rebalance.delay.ms** is 100 ([why](decisions/2026-11-22-group-initial-rebalance-delay.md)); Apache Kafka has 3000.",
	"**Regular expressions** of consumer groups (KIP-848) count from the first answer on; Apache Kafka resolves a new one later, so that its topics come with the next heartbeat.",
	"**Regular expressions** of consumer groups (KIP-848) never match internal topics, which Apache Kafka's coordinator does not leave out: `.*` would consume `__consumer_offsets`, and the commits of that.",
	"**InitProducerId** has IDs from the start; Apache Kafka's first requests after its start are COORDINATOR_LOAD_IN_PROGRESS.",
	"**APIs** that are not in api.md are not there: transactions, access control, quotas, and those among brokers.",
}

// The page is made of the tables of differences, each of which must still occur in the comparison with Apache Kafka itself.
func TestDocs(t *testing.T) {
	const file = "../../docs/compatibility.md"
	want := page()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if have, err := os.ReadFile(file); err != nil || !bytes.Equal(have, []byte(want)) {
		t.Errorf("%s is stale (%v): run go test ./test/oracle -run TestDocs -update", file, err)
	}
}

func page() string {
	var b strings.Builder
	b.WriteString(`# Compatibility with Apache Kafka

<!-- Made from the tables of differences in test/oracle: go test ./test/oracle -run TestDocs -update -->

Every API key and version in api.md is compared with Apache Kafka 4.3.1 itself, good and bad input, field by field (` + "`make\noracle`" + `).
What differs is listed here, and nothing else may: an answer that differs and is not listed fails that comparison, and so does a
line of the first three lists whose difference no longer occurs.
`)
	for _, section := range []struct {
		title string
		known []pair.Difference
	}{{"Records", data.Known}, {"Topics, configuration, cluster", admin.Known}, {"Groups", slices.Concat(groups.Known, groups.KnownNext)}} {
		b.WriteString("\n## " + section.title + "\n\n")
		if len(section.known) == 0 {
			b.WriteString("No difference is known.\n")
		}
		said := map[string]bool{}
		for _, d := range section.known {
			if !said[d.Why] {
				b.WriteString("- " + d.Why + "\n")
			}
			said[d.Why] = true
		}
	}
	b.WriteString("\n## What the comparison does not show\n\n")
	for _, line := range notAsked {
		b.WriteString("- " + line + "\n")
	}
	return b.String()
}
