package cli

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"chronik/internal/api"
	"chronik/internal/config"
)

var update = flag.Bool("update", false, "write the generated pages of docs/")

// The pages that come from tables are in the repository; this fails when one is stale.
func TestGeneratedDocs(t *testing.T) {
	for file, want := range map[string]string{
		"../../docs/configuration.md": configurationPage(),
		"../../docs/api.md":           apiPage(),
	} {
		if *update {
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		have, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(have, []byte(want)) {
			t.Errorf("%s is stale (%v): run go test ./internal/cli -run GeneratedDocs -update", file, err)
		}
	}
}

func configurationPage() string {
	var b strings.Builder
	b.WriteString(`# Configuration

<!-- Generated from the tables in internal/config: go test ./internal/cli -run GeneratedDocs -update -->

A node needs none. What is given comes from, strongest first: a flag of ` + "`chronik start`, `--set KEY=VALUE`" + `, an
environment variable (` + "`num.partitions` is `CHRONIK_NUM_PARTITIONS`" + `), a TOML file (` + "`--config FILE` or `CHRONIK_CONFIG`" + `), the
default. An unknown key or a bad value stops the start and is named with its place and the nearest key that exists.

In TOML a key is written as it is (` + "`num.partitions = 6`" + `) or with tables; one below which there are others is quoted
(` + "`\"log.sync\" = \"interval\"`" + `).

Keys that can change *at run time* are set by clients, for one broker or for all of them, and win over what was given at
start: ` + "`kafka-configs --bootstrap-server ... --entity-type brokers --entity-default --alter --add-config log.retention.ms=3600000`" + `.

Names are Kafka's where they mean the same; keys marked † are chronik's own. A key of Kafka's that is not listed here is
not acted on, and refused by name.

## Keys of a node

`)
	writeTable(&b, config.BrokerKeys(), true)
	b.WriteString("\n## Keys of a topic\n\nGiven when a topic is made, or changed later with `chronik topic alter` or any Kafka client. The default is that of the\nbroker key in the last column.\n\n")
	writeTable(&b, config.TopicKeys(), false)
	b.WriteString("\n## Keys of a consumer group\n\nOf one group of the new protocol (KIP-848), whether or not it exists yet, changed by any Kafka client:\n" +
		"`kafka-configs --bootstrap-server ... --entity-type groups --entity-name NAME --alter --add-config consumer.session.timeout.ms=50000`.\n" +
		"The default is that of the broker key in the last column, which has bounds beside it.\n\n")
	writeTable(&b, config.GroupKeys(), false)
	return b.String()
}

func writeTable(b *strings.Builder, keys []config.Key, broker bool) {
	last := "broker key"
	if broker {
		last = "flag, run time"
	}
	fmt.Fprintf(b, "| key | type | default | what it does | %s |\n| --- | --- | --- | --- | --- |\n", last)
	for _, k := range keys {
		name := "`" + k.Name + "`"
		if k.Own {
			name += " †"
		}
		kind := k.Type.String()
		if k.Valid != "" {
			kind += ": " + strings.ReplaceAll(k.Valid, "|", "\\|")
		}
		def := ""
		if k.Default != "" {
			def = "`" + k.Default + "`"
		}
		var notes []string
		if k.Flag != "" {
			notes = append(notes, "`--"+k.Flag+"`")
		}
		if k.Dynamic && broker {
			notes = append(notes, "at run time")
		}
		for _, name := range k.Before {
			if !broker {
				notes = append(notes, "`"+name+"`")
			}
		}
		if !broker {
			for _, other := range config.BrokerKeys() {
				if other.Topic == k.Name {
					notes = append(notes, "`"+other.Name+"`")
				}
			}
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", name, kind, def, k.Doc, strings.Join(notes, ", "))
	}
}

func apiPage() string {
	var b strings.Builder
	b.WriteString(`# Kafka API

<!-- Generated from the table in internal/api/table.go: go test ./internal/cli -run GeneratedDocs -update -->

The API keys and versions that a node advertises. It does all of a version that it advertises, as Apache Kafka 4 does;
known differences are in compatibility.md. Produce is advertised from version 0 because old versions of librdkafka drop
compression otherwise (KAFKA-18659); versions 0 to 2 are answered with UNSUPPORTED_VERSION, as in Kafka.

| key | API | versions |
| --- | --- | --- |
`)
	for _, k := range api.Table() {
		fmt.Fprintf(&b, "| %d | %s | %d-%d |\n", k.Key, k.Name(), k.MinVersion, k.MaxVersion)
	}
	return b.String()
}
