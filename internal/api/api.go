package api

import (
	"context"
	"net/netip"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/wire"
)

// Request is one decoded request. Byte slices inside Body belong to the connection's frame and are valid until the
// reply has run; so do the strings of a Produce request.
type Request struct {
	Key      int16
	Version  int16
	ClientID string
	Conn     *Conn
	Body     kmsg.Request

	// Ready may be set by a handler whose reply can tell, without waiting, that it would return at once. The server
	// then holds back answers that are already encoded, to send several in one write; without Ready it sends them
	// before it runs the reply.
	Ready func() bool

	// Detached may be set by a handler that has copied what it needs of Body: neither the reply nor anybody else looks at it once the
	// handler has returned. The server then gives back at once what the request takes of its memory for requests, of which others may
	// be in need that the answer waits for: a JoinGroup is answered when all members have sent theirs.
	Detached bool

	produce *produce // room for what a Produce request needs on its way
}

// Reset makes the Request fit for the next one, which uses the same memory: nobody may use the last one's response any
// more.
func (r *Request) Reset() {
	p := r.produce
	if p != nil {
		p.clear()
	}
	*r = Request{produce: p}
}

// Conn is what handlers may know of the connection.
type Conn struct {
	ID              uint64
	Listener        string     // as configured, such as "127.0.0.1:9092"
	Local           Address    // the address that the client dialled, as far as this end can tell
	Remote          netip.Addr // the client
	TLS             bool
	SoftwareName    string // from ApiVersions (KIP-511)
	SoftwareVersion string
	Principal       string // "User:ANONYMOUS" without authentication

	// late counts the Produce requests whose append was left to the write side: later ones queue up behind them.
	late atomic.Int32
}

// Address is a host and a port.
type Address struct {
	Host string
	Port int32
}

// Reply is the second half of a request: it runs on the connection's write side, in request order, and may wait. ctx
// ends when the connection or the node does. It returns what to send.
type Reply func(ctx context.Context) Response

// Response is the answer to a request: a message for kmsg to encode, or an encoded body with file sections. Exactly one
// is set, or neither where Kafka sends no answer (Produce with acks=0).
type Response struct {
	Message kmsg.Response
	Payload *wire.Payload
	Close   bool // end the connection instead of (or after) answering
}

// handler is the first half: it gives the request its order and must not wait for other nodes, for a commit or for
// data to arrive.
type handler func(h *Handlers, ctx context.Context, r *Request) Reply

// ready is the reply of a handler that had nothing to wait for.
func ready(m kmsg.Response) Reply {
	return func(context.Context) Response { return Response{Message: m} }
}
