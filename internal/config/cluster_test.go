package config

import (
	"strings"
	"testing"
)

func TestCluster(t *testing.T) {
	const voters = "cluster.voters=1@a:9291,2@b:9292,3@[::1]:9293"
	for _, tc := range []struct {
		set    string // separated by blanks
		listen string // ClusterAddr
		host   string // ClusterAdvertised
		port   int32
		err    string
	}{
		{"", "", "", 0, ""},
		{"node.id=2 " + voters, "b:9292", "b", 9292, ""},
		{"node.id=3 " + voters, "[::1]:9293", "::1", 9293, ""},
		{"node.id=2 cluster.listen=0.0.0.0:7 " + voters, "0.0.0.0:7", "b", 9292, ""},
		{"node.id=2 cluster.advertise=c cluster.listen=0.0.0.0:7 " + voters, "0.0.0.0:7", "c", 0, ""},
		{"cluster.listen=10.0.0.1:7", "10.0.0.1:7", "10.0.0.1", 7, ""},
		{"cluster.listen=none", "", "", 0, ""},
		{"node.id=7 cluster.join=b:9292", ":9291", "", 0, ""},
		{"node.id=7 cluster.join=b:9292 cluster.listen=:1", ":1", "", 0, ""},
		{"node.id=7 " + voters, "", "", 0, "does not name this node (node.id=7)"},
		{"node.id=1 cluster.listen=none " + voters, "", "", 0, "has to listen"},
		{"cluster.voters=1@a:1,1@b:2", "", "", 0, "the same node twice"},
		{"cluster.voters=1@a:1,2@a:1", "", "", 0, "the same node twice"},
		{"cluster.voters=a:1", "", "", 0, "is not ID@host:port"},
		{"cluster.voters=1@0.0.0.0:1", "", "", 0, "need a host and a port"},
		{"cluster.voters=1@a:0", "", "", 0, "need a host and a port"},
		{"cluster.join=:1", "", "", 0, "need a host and a port"},
		{"cluster.advertise=0.0.0.0:1", "", "", 0, "need a host"},
		{"broker.lease.ms=900", "", "", 0, "more than half of broker.lease.ms"},
	} {
		c, err := Load(Sources{Set: strings.Fields(tc.set)})
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: %v, want %q", tc.set, err, tc.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tc.set, err)
			continue
		}
		if got := c.ClusterAddr(); got != tc.listen || c.Clustered() != (tc.listen != "") {
			t.Errorf("%s: listens on %q, want %q", tc.set, got, tc.listen)
		}
		if host, port := c.ClusterAdvertised(); host != tc.host || port != tc.port {
			t.Errorf("%s: advertises %s:%d, want %s:%d", tc.set, host, port, tc.host, tc.port)
		}
	}
}

func TestRackHasTwoNames(t *testing.T) {
	for set, want := range map[string]string{"broker.rack=a": "a", "rack=b": "b", "rack=b broker.rack=a": "b"} {
		if c, err := Load(Sources{Set: strings.Fields(set)}); err != nil || c.Rack != want {
			t.Errorf("%s: %q, %v", set, c.Rack, err)
		}
	}
}
