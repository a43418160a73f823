package config

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDefaultsAreKafkas(t *testing.T) {
	c := Default()
	topic, err := c.ResolveTopic(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Topic{
		RetentionMillis: 604_800_000, RetentionBytes: -1, SegmentBytes: 1 << 30, SegmentMillis: 604_800_000,
		MaxMessageBytes: 1_048_588, CompressionType: CompressionProducer, TimestampType: CreateTime,
		TimestampBeforeMaxMillis: 1<<63 - 1, TimestampAfterMaxMillis: 3_600_000, CleanupPolicy: CleanupPolicy{Delete: true},
		DeleteRetentionMillis: 86_400_000, MaxCompactionLagMillis: 1<<63 - 1, MinCleanableDirtyRatio: 0.5,
		MinInsyncReplicas: 1, Sync: SyncCommit, IndexIntervalBytes: 4096,
	}
	if topic != want {
		t.Errorf("topic defaults:\n got %+v\nwant %+v", topic, want)
	}
	if c.NumPartitions != 1 || !c.AutoCreateTopics || c.RequestMaxBytes != 104_857_600 || c.UnauthenticatedMaxBytes != 65536 ||
		c.RequestsInFlightMaxBytes != 128<<20 || c.MaxConnections != 10_000 || c.RepliesQueuedMax != 64 ||
		c.ConnectionIdleMax != 10*time.Minute || c.GroupMaxSessionTimeout != 30*time.Minute || c.OffsetsTopicPartitions != -1 {
		t.Errorf("defaults: %+v", c)
	}
	if len(c.Kafka) != 1 || c.Kafka[0] != (Listener{Given: "127.0.0.1:9092", Name: "tcp", Addr: "127.0.0.1:9092"}) {
		t.Errorf("listeners: %+v", c.Kafka)
	}
}

// Each default passes its own check, names are unique, and each key says what it is for.
func TestTables(t *testing.T) {
	for _, keys := range [][]Key{TopicKeys(), BrokerKeys()} {
		seen := map[string]bool{}
		for _, k := range keys {
			if seen[k.Name] {
				t.Errorf("%s is there twice", k.Name)
			}
			seen[k.Name] = true
			if k.HasDefault() && k.Default != "" {
				if err := k.Check(k.Default); err != nil {
					t.Errorf("default of %s: %v", k.Name, err)
				}
			}
			if len(k.Doc) < 20 || !strings.HasSuffix(k.Doc, ".") {
				t.Errorf("%s: doc %q", k.Name, k.Doc)
			}
			if _, refused := refusedBrokerKeys[k.Name]; refused && brokerIndex[k.Name] != nil && keys[0].Name == brokerKeys[0].Name {
				t.Errorf("%s is both accepted and refused", k.Name)
			}
			if _, refused := refusedTopicKeys[k.Name]; refused && keys[0].Name == topicKeys[0].Name {
				t.Errorf("%s is both accepted and refused", k.Name)
			}
			if strings.Contains(k.Name, "_") {
				t.Errorf("%s: no environment variable could name it", k.Name)
			}
		}
	}
	if !slices.IsSortedFunc(TopicKeys(), func(a, b Key) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("topic keys are not sorted")
	}
	for _, k := range TopicKeys() {
		if !slices.ContainsFunc(BrokerKeys(), func(b Key) bool { return b.Topic == k.Name }) {
			t.Errorf("no broker key gives the default of %s", k.Name)
		}
	}
}

func TestValues(t *testing.T) {
	for _, tc := range []struct{ key, value, err string }{
		{"retention.ms", "-1", ""},
		{"retention.ms", " 5 ", ""},
		{"retention.ms", "-2", "out of range"},
		{"retention.ms", "1h", "not a number of type long"},
		{"retention.bytes", "-7", ""},
		{"segment.bytes", "1048575", "out of range"},
		{"segment.bytes", "2147483648", "out of range"},
		{"max.message.bytes", "0", ""},
		{"compression.type", "zstd", ""},
		{"compression.type", "brotli", "none of producer, uncompressed"},
		{"message.timestamp.type", "createtime", "none of CreateTime"},
		{"cleanup.policy", "", ""},
		{"cleanup.policy", "delete, delete", ""},
		{"cleanup.policy", "shred", "none of delete, compact"},
		{"preallocate", "FALSE", ""},
		{"preallocate", "true", "not supported"},
		{"unclean.leader.election.enable", "true", "not supported"},
		{"sync", "interval", ""},
		{"sync", "never", "none of commit, interval"},
		{"min.insync.replicas", "0", "out of range"},
	} {
		err := TopicKey(tc.key).Check(tc.value)
		if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%s=%q: got %v, want %q", tc.key, tc.value, err, tc.err)
		}
	}
}

func TestPrecedenceAndUnits(t *testing.T) {
	c, err := Load(Sources{
		FileName: "x.toml",
		File: []byte("num.partitions = 2\nlog.retention.hours = 2\n\"log.sync\" = \"interval\"\nkafka = [\"127.0.0.1:1\", \"tls://[::1]:2\"]\n" +
			"[log.segment]\nbytes = 2097152\n[offsets]\ntopic.num.partitions = 7\n[tls]\ncert='a'\nkey='b'\n"),
		Environ: []string{"CHRONIK_NUM_PARTITIONS=3", "CHRONIK_OFFSETS_TOPIC_NUM_PARTITIONS=8", "CHRONIK_CONFIG=x.toml", "PATH=/bin",
			"CHRONIK_SERVICE_HOST=10.0.0.1", "CHRONIK_PORT_9092_TCP=tcp://10.0.0.1:9092"},
		Set:   []string{"num.partitions=4", "log.retention.minutes=5", "message.max.bytes=9"},
		Flags: map[string]string{"data": "/d", "http": "none"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.NumPartitions != 4 || c.OffsetsTopicPartitions != 8 || c.DataDir != "/d" || c.HTTP != "" {
		t.Errorf("precedence: %+v", c)
	}
	if c.Topic.RetentionMillis != 300_000 || c.Topic.SegmentBytes != 2<<20 || c.Topic.MaxMessageBytes != 9 || c.Topic.Sync != SyncInterval {
		t.Errorf("topic: %+v", c.Topic)
	}
	if len(c.Kafka) != 2 || c.Kafka[1] != (Listener{Given: "tls://[::1]:2", Name: "tls", Addr: "[::1]:2", TLS: true}) {
		t.Errorf("listeners: %+v", c.Kafka)
	}
	if s := c.Given()["log.retention.hours"]; s.Place != "x.toml:2" {
		t.Errorf("place: %+v", s)
	}
	if s := c.Given()["log.segment.bytes"]; s.Place != "x.toml:6" {
		t.Errorf("place: %+v", s)
	}

	now, err := c.WithDynamic(map[string]string{"log.retention.ms": "11", "message.max.bytes": "12", "num.partitions": "99"},
		map[string]string{"message.max.bytes": "13"})
	if err != nil {
		t.Fatal(err)
	}
	topic, err := now.ResolveTopic(map[string]string{"segment.ms": "14"})
	if err != nil {
		t.Fatal(err)
	}
	if topic.RetentionMillis != 11 || topic.MaxMessageBytes != 13 || topic.SegmentMillis != 14 || now.NumPartitions != 4 {
		t.Errorf("dynamic: %+v", topic)
	}
	if c.Topic.MaxMessageBytes != 9 {
		t.Error("WithDynamic changed what it was called on")
	}
}

func TestErrorsNamePlaceAndNearest(t *testing.T) {
	for _, tc := range []struct {
		src  Sources
		want []string
	}{
		{Sources{Set: []string{"num.partition=1"}}, []string{"--set: unknown key num.partition, did you mean num.partitions?"}},
		{Sources{Set: []string{"num.partitions"}}, []string{"want KEY=VALUE"}},
		{Sources{Set: []string{"num.partitions=0"}}, []string{"--set: num.partitions: 0 is out of range, want 1 to 100000"}},
		{Sources{Environ: []string{"CHRONIK_NUM_PARTITONS=1"}}, []string{"CHRONIK_NUM_PARTITONS: unknown key num.partitons, did you mean num.partitions?"}},
		{Sources{Environ: []string{"CHRONIK_HTTP=nowhere"}}, []string{"CHRONIK_HTTP: http:", "no port"}},
		{Sources{FileName: "f.toml", File: []byte("\n[num]\npartitions = \"x\"\n")}, []string{"f.toml:3: num.partitions:", "not a number"}},
		{Sources{FileName: "f.toml", File: []byte("a = \n")}, []string{"f.toml:1:"}},
		{Sources{FileName: "f.toml", File: []byte("auto.topics.create.enable = true\n")}, []string{"f.toml:1: unknown key", "auto.create.topics.enable"}},
		{Sources{Flags: map[string]string{"kafka": "localhost"}}, []string{"--kafka: kafka:", "no port"}},
		{Sources{Flags: map[string]string{"kafka": "ssl://localhost:1"}}, []string{"neither tls nor tcp"}},
		{Sources{Flags: map[string]string{"kafka": "tls://localhost:1"}}, []string{"needs tls.cert and tls.key"}},
		{Sources{Flags: map[string]string{"kafka": "a:1,b:2,c:3", "advertise": "x,y"}}, []string{"2 addresses for 3 listeners"}},
		{Sources{Flags: map[string]string{"advertise": "0.0.0.0:9092"}}, []string{"host that they can connect to"}},
		{Sources{Set: []string{"listeners=PLAINTEXT://:9092"}}, []string{"--set: key listeners is not supported: use kafka"}},
		{Sources{Set: []string{"log.cleaner.threads=0"}}, []string{"log.cleaner.threads: 0 is out of range"}},
		{Sources{Set: []string{"log.cleaner.io.buffer.load.factor=1.5"}}, []string{"1.5 is out of range, want 0.01 to 0.99"}},
		{Sources{Set: []string{"log.cleaner.min.cleanable.ratio=half"}}, []string{"not a number of type double"}},
		{Sources{Set: []string{"retention.ms=2"}}, []string{"retention.ms is a topic key, the broker's default for it is log.retention.ms"}},
		{Sources{Set: []string{"num.partition=1", "bogus=1"}, Environ: []string{"CHRONIK_X=1"}}, []string{"num.partition,", "bogus", "CHRONIK_X"}},
	} {
		_, err := Load(tc.src)
		if err == nil {
			t.Errorf("%+v: no error", tc.src)
			continue
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%+v:\n got %v\nwant %q", tc.src, err, want)
			}
		}
	}
}

func TestCheckTopic(t *testing.T) {
	c := Default()
	for _, tc := range []struct {
		overrides map[string]string
		internal  bool
		want      string
	}{
		{map[string]string{"retention.ms": "1"}, false, ""},
		{map[string]string{"cleanup.policy": "compact"}, true, ""},
		{map[string]string{"cleanup.policy": "compact,delete", "min.cleanable.dirty.ratio": "0.1", "delete.retention.ms": "0"}, false, ""},
		{map[string]string{"cleanup.policy": "delete"}, true, "need compact"},
		{map[string]string{"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "1.1"}, false, "out of range, want 0 to 1"},
		{map[string]string{"min.compaction.lag.ms": "10", "max.compaction.lag.ms": "9"}, false, "min.compaction.lag.ms=10 is more than"},
		{map[string]string{"flush.messages": "1"}, false, "topic key flush.messages is not supported: use sync"},
		{map[string]string{"retention.msec": "1"}, false, "did you mean retention.ms?"},
		{map[string]string{"log.retention.ms": "1"}, false, "for a topic use retention.ms"},
		{map[string]string{"num.partitions": "1"}, false, "it is a broker key"},
	} {
		err := c.CheckTopic(tc.overrides, tc.internal)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: got %v, want %q", tc.overrides, err, tc.want)
		}
	}
}

func TestAdvertised(t *testing.T) {
	c, err := Load(Sources{Flags: map[string]string{"kafka": ":9092,:9093", "advertise": "example.org,[::1]:7"}})
	if err != nil {
		t.Fatal(err)
	}
	if h, p := c.Advertised(0); h != "example.org" || p != 0 {
		t.Error(h, p)
	}
	if h, p := c.Advertised(1); h != "::1" || p != 7 {
		t.Error(h, p)
	}
	if h, p := Default().Advertised(0); h != "" || p != 0 {
		t.Error(h, p)
	}
}

// Whatever a file holds, loading it ends with a configuration or with errors, and never both.
func FuzzLoadFile(f *testing.F) {
	for _, seed := range []string{"num.partitions = 3", "[log]\nretention.ms = -1", "kafka = ['a:1', 'tls://b:2']", "a = [[1], {b = 2}]", "= 3", "\"\x00\" = 1",
		"advertise = '[::1'\n", "x = 1979-05-27T07:32:00Z"} {
		f.Add([]byte(seed), "CHRONIK_HTTP=:1")
	}
	f.Fuzz(func(t *testing.T, file []byte, variable string) {
		c, err := Load(Sources{FileName: "f", File: file, Environ: []string{variable}})
		if (c == nil) == (err == nil) {
			t.Errorf("configuration %v, error %v", c, err)
		}
	})
}

// TestCompactionDefaults are Kafka's, of the topic and of the node; a node's value is every topic's that has none itself.
func TestCompactionDefaults(t *testing.T) {
	c := Default()
	p := c.Topic
	if p.DeleteRetentionMillis != 86_400_000 || p.MinCompactionLagMillis != 0 || p.MaxCompactionLagMillis != math.MaxInt64 || p.MinCleanableDirtyRatio != 0.5 {
		t.Errorf("topic defaults: %+v", p)
	}
	if !c.CleanerEnabled || c.CleanerThreads != 1 || c.CleanerDedupeBytes != 134_217_728 || c.CleanerIOBytes != 524_288 || c.CleanerLoadFactor != 0.9 ||
		c.CleanerBytesPerSecond != math.MaxFloat64 || c.CleanerBackoff != 15*time.Second {
		t.Errorf("node defaults: %+v", c)
	}
	c, err := Load(Sources{Set: []string{"log.cleanup.policy=compact", "log.cleaner.min.cleanable.ratio=0.25", "log.cleaner.io.max.bytes.per.second=1e6", "log.cleaner.max.compaction.lag.ms=5000"}})
	if err != nil {
		t.Fatal(err)
	}
	p, err = c.ResolveTopic(map[string]string{"min.compaction.lag.ms": "7", "delete.retention.ms": "0"})
	if err != nil || !p.CleanupPolicy.Compact || p.CleanupPolicy.Delete || p.MinCleanableDirtyRatio != 0.25 || p.MaxCompactionLagMillis != 5000 ||
		p.MinCompactionLagMillis != 7 || p.DeleteRetentionMillis != 0 || c.CleanerBytesPerSecond != 1e6 {
		t.Errorf("resolved: %+v, %v", p, err)
	}
}
