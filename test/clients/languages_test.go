package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"chronik/test/node"
)

var codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

func TestKafkaPython(t *testing.T) {
	t.Parallel()
	python := installed(t, "python/bin/python")
	addr, prefix := broker(t), prefix(t, "kafka-python")
	suite(t, nil, python, "python/suite_kafka_python.py", addr, prefix)
	storedCodecs(t, addr, prefix, 900, codecs...)
}

func TestConfluentPython(t *testing.T) {
	t.Parallel()
	python := installed(t, "python/bin/python")
	addr, prefix := broker(t), prefix(t, "confluent")
	suite(t, nil, python, "python/suite_confluent.py", addr, prefix)
	storedCodecs(t, addr, prefix, 900, codecs...)
}

func TestAiokafka(t *testing.T) {
	t.Parallel()
	python := installed(t, "python/bin/python")
	addr, prefix := broker(t), prefix(t, "aiokafka")
	suite(t, nil, python, "python/suite_aiokafka.py", addr, prefix)
	storedCodecs(t, addr, prefix, 900, codecs...)
}

func TestJava(t *testing.T) {
	t.Parallel()
	jars := installed(t, "java/*.jar")
	java := installed(t, "java")
	classes := t.TempDir()
	classpath := filepath.Join(filepath.Dir(jars), "*")
	if out, err := exec.Command("javac", "-d", classes, "-cp", classpath, "java/Suite.java").CombinedOutput(); err != nil {
		t.Fatalf("javac: %v\n%s", err, out)
	}
	addr, prefix := broker(t), prefix(t, "java")
	suite(t, nil, java, "-Xmx256m", "-cp", classes+":"+classpath, "Suite", addr, prefix)
	storedCodecs(t, addr, prefix, 900, codecs...)
}

func TestKafkaJS(t *testing.T) {
	t.Parallel()
	nodejs := installed(t, "node")
	modules := filepath.Dir(installed(t, "js/node_modules/kafkajs"))
	addr, prefix := broker(t), prefix(t, "kafkajs")
	suite(t, []string{"NODE_PATH=" + modules, "KAFKAJS_NO_PARTITIONER_WARNING=1"}, nodejs, "js/suite.js", addr, prefix)
	storedCodecs(t, addr, prefix, 900, "none", "gzip", "snappy")
}

func TestSarama(t *testing.T) { t.Parallel(); goSuite(t, "sarama") }

func TestSegmentio(t *testing.T) { t.Parallel(); goSuite(t, "segmentio") }

// goSuite runs a program of go/, a module of its own so that chronik's does not grow.
func goSuite(t *testing.T, name string) {
	t.Helper()
	installed(t, "go.stamp")
	binary := filepath.Join(t.TempDir(), name)
	build := exec.Command("go", "build", "-o", binary, "./"+name)
	build.Dir = "go"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	addr, prefix := broker(t), prefix(t, name)
	suite(t, nil, binary, addr, prefix)
	storedCodecs(t, addr, prefix, 900, codecs...)
}

func TestMain(m *testing.M) {
	if os.Getenv("CHRONIK_TEST_BROKER") == "" && os.Getenv("CHRONIK_BIN") == "" {
		// Build once rather than once a test.
		_ = os.Setenv("CHRONIK_BIN", node.Binary(buildFailure{}))
	}
	os.Exit(m.Run())
}

// buildFailure ends the process where a test would fail.
type buildFailure struct{ testing.TB }

func (buildFailure) Helper() {}

func (buildFailure) Fatal(args ...any) { panic(args) }

func (buildFailure) Fatalf(format string, args ...any) { panic(append([]any{format}, args...)) }
