package sim

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/sim/simnet"
)

// caller is a process of a client machine that sends Kafka's requests one at a time, as they are: which are sent, when, and
// that none is sent twice is in the hands of who calls.
type caller struct {
	*cluster
	process   *simnet.Process
	formatter *kmsg.RequestFormatter
	conns     map[int]net.Conn // by node
	last      int32            // correlation ID
}

func newCaller(c *cluster, process *simnet.Process, clientID string) *caller {
	return &caller{cluster: c, process: process, formatter: kmsg.NewRequestFormatter(kmsg.FormatterClientID(clientID)), conns: map[int]net.Conn{}}
}

// call sends a request to a node and waits for its answer. After an error nobody knows what became of the request.
func (c *caller) call(node int, req kmsg.Request, limit time.Duration) (kmsg.Response, error) {
	deadline := time.Now().Add(limit)
	conn := c.conns[node]
	if conn == nil {
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		defer cancel()
		var err error
		if conn, err = c.process.Dial(ctx, "tcp", fmt.Sprintf("%s:%d", nodeIP(node), kafkaPort)); err != nil {
			return nil, err
		}
		c.conns[node] = conn
	}
	resp, err := c.exchange(conn, req, deadline)
	if err != nil {
		_ = conn.Close()
		delete(c.conns, node)
	}
	return resp, err
}

func (c *caller) exchange(conn net.Conn, req kmsg.Request, deadline time.Time) (kmsg.Response, error) {
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	c.last++
	if _, err := conn.Write(c.formatter.AppendRequest(nil, req, c.last)); err != nil {
		return nil, err
	}
	var head [8]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:])-4)
	if _, err := io.ReadFull(conn, body); err != nil {
		return nil, err
	}
	if got := int32(binary.BigEndian.Uint32(head[4:])); got != c.last {
		return nil, fmt.Errorf("the answer to request %d is of request %d", c.last, got)
	}
	resp := req.ResponseKind()
	if resp.IsFlexible() { // the tags of the header, of which there are none
		body = body[1:]
	}
	return resp, resp.ReadFrom(body)
}

// callLimit is how long an answer is waited for that needs nobody's doing.
const callLimit = 2 * time.Second

// coordinator asks a node which one coordinates a group.
func (c *caller) coordinator(node int, group string) (int, error) {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.Version, req.CoordinatorKeys = 4, []string{group}
	resp, err := c.call(node, req, 6*time.Second)
	if err != nil {
		return 0, err
	}
	rows := resp.(*kmsg.FindCoordinatorResponse).Coordinators
	if len(rows) != 1 {
		return 0, fmt.Errorf("FindCoordinator of one group has %d answers", len(rows))
	}
	return int(rows[0].NodeID), kerr.ErrorForCode(rows[0].ErrorCode)
}

func (c *caller) close() {
	for id := 1; id <= len(c.nodes); id++ {
		if conn := c.conns[id]; conn != nil {
			_ = conn.Close()
		}
	}
	clear(c.conns)
}
