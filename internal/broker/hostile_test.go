package broker

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// unlucky is what clients say that are hostile, broken or at the wrong port. Each is said and then nothing more.
func unlucky(r *rand.Rand) map[string][]byte {
	random := make([]byte, 200)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	frame := func(r kmsg.Request, version int16) []byte {
		r.SetVersion(version)
		return kmsg.NewRequestFormatter(kmsg.FormatterClientID("unlucky")).AppendRequest(nil, r, 1)
	}
	fetch := kmsg.NewPtrFetchRequest()
	fetch.MaxWaitMillis, fetch.MinBytes, fetch.MaxBytes = 1<<31-1, 1<<20, 1<<20
	topic, partition := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	topic.Topic, partition.PartitionMaxBytes = "t", 1<<20
	topic.Partitions = append(topic.Partitions, partition)
	fetch.Topics = append(fetch.Topics, topic)
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = "g", "consumer", 6000, 6000
	join.Protocols = append(join.Protocols, kmsg.JoinGroupRequestProtocol{Name: "range", Metadata: []byte{0}})
	whole := frame(kmsg.NewPtrMetadataRequest(), 9)
	hello := append([]byte("CHPR"), make([]byte, 8)...)
	binary.LittleEndian.PutUint32(hello[4:], 100)
	broken := bytes.Clone(hello)
	message := make([]byte, 100)
	binary.LittleEndian.PutUint32(broken[8:], crc32.Checksum(message, crc32.MakeTable(crc32.Castagnoli)))
	return map[string][]byte{
		"nothing": nil, "random": random, "a huge frame begins": {6, 0, 0, 0, 1, 2, 3}, "half a request": whole[:len(whole)/2],
		"pipelined":         bytes.Repeat(whole, 300),
		"a fetch and gone":  frame(fetch, 12),
		"a join and gone":   frame(join, 5),
		"HTTP":              []byte("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"),
		"a stream and gone": []byte("GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n"),
		"half a TLS hello":  {0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3},
		"half a peer":       hello, "a peer that is none": append(broken, message...),
	}
}

// descriptors is how many files and sockets the process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc")
	}
	return len(entries)
}

// Whatever clients say to whichever port, other clients are served meanwhile, and once they have hung up neither a goroutine
// nor a descriptor nor memory of theirs is left.
func TestUnluckyClientsLeaveNothingBehind(t *testing.T) {
	c := newCluster(t, 3)
	n := c.nodes[0]
	kafka, http := n.Serves()
	ports := []string{kafka[0], http, n.clusterListener.Addr().String()}
	client := c.client(kgo.DefaultProduceTopic("t"), kgo.AllowAutoTopicCreation())
	produceAll(t, client, "t", 0, 10)
	c.awaitFullISR("t")
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	r := rand.New(rand.NewPCG(1, 9))
	rounds := 8
	if testing.Short() {
		rounds = 2
	}
	for round := range rounds {
		var conns []net.Conn
		for range 8 {
			for name, text := range unlucky(r) {
				for _, port := range ports {
					conn, err := net.Dial("tcp", port)
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					_ = conn.SetDeadline(time.Now().Add(time.Minute))
					_, _ = conn.Write(text) // it may be refused already
					conns = append(conns, conn)
				}
			}
		}
		produceAll(t, client, "t", 10+20*round, 30+20*round)
		for i, conn := range conns {
			if tcp, ok := conn.(*net.TCPConn); ok && i%2 == 0 {
				_ = tcp.SetLinger(0) // a reset
			}
			_ = conn.Close()
		}
	}
	if _, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", kafka[0], &tls.Config{InsecureSkipVerify: true}); err == nil {
		t.Error("a listener without TLS speaks it")
	}
	await(t, "what the clients held is free again", func() bool {
		st := n.server.Stats()
		return runtime.NumGoroutine() <= goroutines+10 && descriptors(t) <= files+10 && st.RequestBytesHeld+st.DecodedBytesHeld+st.ResponseBytesHeld == 0
	})
	produceAll(t, client, "t", 1000, 1010)
	c.awaitFullISR("t")
}
