package sim

import (
	"context"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestSmoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := newCluster(&plan{seed: 1, nodes: 3, syncTime: 100 * time.Microsecond})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { os.WriteFile("/tmp/p-mut/smoke.trace", c.trace.bytes(), 0o644) }()
		began := time.Now()
		for _, n := range c.nodes {
			n.start()
		}
		for _, n := range c.nodes {
			<-n.running().started
			fmt.Println(n.id, n.running().err, time.Since(began))
		}
		cl, err := c.client()
		if err != nil {
			t.Fatal(err)
		}
		_, err = kadm.NewClient(cl).CreateTopic(context.Background(), 3, 3, nil, "t")
		fmt.Println("created", err, time.Since(began))
		for i := range 20 {
			b := time.Now()
			err := cl.ProduceSync(context.Background(), &kgo.Record{Topic: "t", Value: []byte("x")}).FirstErr()
			if i < 3 || i > 17 {
				fmt.Println(err, time.Since(b))
			}
		}
		cl.Close()
		for _, n := range c.nodes {
			n.stop(10 * time.Second)
		}
		fmt.Println("end", time.Since(began))
	})
}
