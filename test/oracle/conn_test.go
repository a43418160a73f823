package oracle

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// conn is a plain connection to a broker: it sends what it is told, in whatever version.
type conn struct {
	net.Conn
	next int32
}

func dial(addr string) (*conn, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c}, nil
}

var formatter = kmsg.NewRequestFormatter(kmsg.FormatterClientID("oracle"))

// errClosed says that the broker closed the connection instead of answering.
var errClosed = fmt.Errorf("the broker closed the connection")

// request sends req in its version and decodes the answer.
func (c *conn) request(req kmsg.Request) (kmsg.Response, error) {
	c.next++
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := c.Write(formatter.AppendRequest(nil, req, c.next)); err != nil {
		return nil, errClosed
	}
	if p, ok := req.(*kmsg.ProduceRequest); ok && p.Acks == 0 {
		return nil, nil
	}
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		if e, ok := err.(net.Error); ok && e.Timeout() {
			return nil, fmt.Errorf("no answer in 20 s")
		}
		return nil, errClosed
	}
	frame := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c, frame); err != nil {
		return nil, errClosed
	}
	if id := int32(binary.BigEndian.Uint32(frame)); id != c.next {
		return nil, fmt.Errorf("the answer has correlation ID %d, the request %d", id, c.next)
	}
	body := frame[4:]
	resp := req.ResponseKind()
	if resp.IsFlexible() && req.Key() != 18 {
		body = body[1:] // no tags in the header of either broker
	}
	if err := resp.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("the answer does not decode: %w", err)
	}
	return resp, nil
}
