package api

import (
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Clients look up where a broker listens and what it is called under Kafka's names.
func TestDescribeConfigsTellsWhereABrokerIs(t *testing.T) {
	c := newData(t, "data=/data", "kafka=127.0.0.1:9092,127.0.0.1:9192")
	data, err := filepath.Abs("/data")
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"advertised.listeners": "PLAINTEXT://10.1.2.3:9092", "broker.id": "1",
		"listeners": "PLAINTEXT://127.0.0.1:9092,PLAINTEXT-2://127.0.0.1:9192", "log.dirs": data,
	} {
		e := c.entry(4, brokerResource, "1", key)
		if got := deref(e.Value); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
		if !e.ReadOnly || e.Source != kmsg.ConfigSourceStaticBrokerConfig || len(e.ConfigSynonyms) != 1 || deref(e.Documentation) == "" {
			t.Errorf("%s: %+v", key, e)
		}
		if code, _ := c.alter(1, true, brokerResource, "1", key+"="+want); code == 0 {
			t.Errorf("%s can be changed", key)
		}
	}
	if r := c.describe(4, brokerResource, "", "broker.id", "listeners"); len(r.Configs) != 0 {
		t.Errorf("the defaults of all brokers have %+v", r.Configs)
	}
	c.conn.Local.Host = "::1"
	if got := deref(c.entry(4, brokerResource, "1", "advertised.listeners").Value); got != "PLAINTEXT://[::1]:9092" {
		t.Errorf("over IPv6: %s", got)
	}
}
