package clients

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tool runs one of Kafka's own command line tools by its class.
func tool(t *testing.T, stdin, class string, args ...string) (string, error) {
	t.Helper()
	jars := filepath.Join(filepath.Dir(installed(t, "java/*.jar")), "*")
	cmd := exec.Command("java", append([]string{"-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", jars, class}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	done := time.AfterFunc(3*time.Minute, func() { _ = cmd.Process.Kill() })
	defer done.Stop()
	err := cmd.Run()
	return out.String() + errs.String(), err
}

func mustTool(t *testing.T, stdin, class string, args ...string) string {
	t.Helper()
	out, err := tool(t, stdin, class, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", class, strings.Join(args, " "), err, out)
	}
	return out
}

const (
	topicCommand    = "org.apache.kafka.tools.TopicCommand"
	configCommand   = "kafka.admin.ConfigCommand" // of the broker's own artifact
	groupCommand    = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
	consoleProducer = "org.apache.kafka.tools.ConsoleProducer"
	consoleConsumer = "org.apache.kafka.tools.consumer.ConsoleConsumer"
	getOffsets      = "org.apache.kafka.tools.GetOffsetShell"
)

func contains(t *testing.T, out string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}

func TestKafkaTools(t *testing.T) {
	t.Parallel()
	installed(t, "java")
	addr, prefix := broker(t), prefix(t, "tools")
	topic, group := prefix+"-topic", prefix+"-group"
	at := []string{"--bootstrap-server", addr}
	want := strings.ReplaceAll(lines(100), ":", " ")

	t.Run("kafka-topics", func(t *testing.T) {
		mustTool(t, "", topicCommand, append(at, "--create", "--topic", topic, "--partitions", "2", "--config", "retention.ms=86400000")...)
		mustTool(t, "", topicCommand, append(at, "--alter", "--topic", topic, "--partitions", "3")...)
		contains(t, mustTool(t, "", topicCommand, append(at, "--describe", "--topic", topic)...), "PartitionCount: 3", "retention.ms=86400000", "Partition: 2")
		contains(t, mustTool(t, "", topicCommand, append(at, "--list")...), topic)
		out, err := tool(t, "", topicCommand, append(at, "--describe", "--topic", prefix+"-never-made")...)
		if err == nil {
			t.Errorf("an unknown topic was described: %s", out)
		}
	})
	t.Run("kafka-configs", func(t *testing.T) {
		entity := append(at, "--entity-type", "topics", "--entity-name", topic)
		mustTool(t, "", configCommand, append(entity, "--alter", "--add-config", "max.message.bytes=4000000,segment.bytes=2000000")...)
		contains(t, mustTool(t, "", configCommand, append(entity, "--describe")...), "max.message.bytes=4000000", "DYNAMIC_TOPIC_CONFIG")
		mustTool(t, "", configCommand, append(entity, "--alter", "--delete-config", "max.message.bytes")...)
		out, err := tool(t, "", configCommand, append(entity, "--alter", "--add-config", "retention.ms=never")...)
		if err == nil {
			t.Errorf("a bad value was accepted: %s", out)
		}
		contains(t, mustTool(t, "", configCommand, append(at, "--entity-type", "brokers", "--entity-name", "1", "--describe", "--all")...), "num.partitions")
	})
	t.Run("console producer and consumer", func(t *testing.T) {
		mustTool(t, want, consoleProducer, append(at, "--topic", topic, "--compression-codec", "lz4")...)
		got := mustTool(t, "", consoleConsumer, append(at, "--topic", topic, "--group", group, "--from-beginning", "--max-messages", "100", "--timeout-ms", "90000")...)
		for _, line := range strings.Split(strings.TrimSpace(want), "\n") {
			contains(t, got, line)
		}
	})
	t.Run("kafka-consumer-groups", func(t *testing.T) {
		contains(t, mustTool(t, "", groupCommand, append(at, "--list")...), group)
		contains(t, mustTool(t, "", groupCommand, append(at, "--describe", "--group", group)...), topic)
		out := mustTool(t, "", groupCommand, append(at, "--group", group, "--topic", topic, "--reset-offsets", "--to-earliest", "--execute")...)
		contains(t, out, topic)
		contains(t, mustTool(t, "", groupCommand, append(at, "--describe", "--group", group, "--state")...), "Empty")
		mustTool(t, "", groupCommand, append(at, "--delete", "--group", group)...)
	})
	t.Run("kafka-get-offsets", func(t *testing.T) {
		contains(t, mustTool(t, "", getOffsets, append(at, "--topic", topic, "--time", "latest")...), topic+":0:", topic+":2:")
	})
	t.Run("kafka-topics deletes", func(t *testing.T) {
		mustTool(t, "", topicCommand, append(at, "--delete", "--topic", topic)...)
		out, err := tool(t, "", topicCommand, append(at, "--delete", "--topic", prefix+"-never-made")...)
		if err == nil {
			t.Errorf("an unknown topic was deleted: %s", out)
		}
	})
}
