package broker

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/api"
	"chronik/internal/kafka"
	"chronik/internal/vfs"
)

// strange fills a request's fields at random with what clients may send, most of it hardly sensible: extremes, nulls,
// duplicates, and now and then something that exists.
type strange struct {
	*rand.Rand
	topic [16]byte // the ID of a topic that exists
}

var (
	strangeTexts = []string{"", "t", "t", "t", "u", "..", "a b", "__consumer_offsets", "__cluster_metadata", "range", "consumer", "g", "g", "-1", "0",
		"retention.ms", "cleanup.policy", "compact", "1", "\x00\xff", string(make([]byte, 300))}
	strangeNumbers = []int64{0, 0, 0, 1, 1, 2, 3, -1, -1, -2, -3, -4, -5, -6, 5, 100, math.MaxInt8, math.MinInt8, math.MaxInt16, math.MinInt16,
		math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64}
)

func (s *strange) fill(v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(s.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n := strangeNumbers[s.IntN(len(strangeNumbers))]
		if v.OverflowInt(n) {
			n %= 3
		}
		v.SetInt(n)
	case reflect.Uint16, reflect.Uint32:
		v.SetUint(uint64(s.IntN(5)))
	case reflect.Float64:
		v.SetFloat([]float64{0, -1, math.NaN(), math.Inf(1), 10}[s.IntN(5)])
	case reflect.String:
		v.SetString(strangeTexts[s.IntN(len(strangeTexts))])
	case reflect.Pointer:
		if s.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			s.fill(v.Elem(), depth)
		}
	case reflect.Array: // a topic's ID
		if s.IntN(2) == 0 && v.Len() == 16 {
			v.Set(reflect.ValueOf(s.topic).Convert(v.Type()))
		}
	case reflect.Slice:
		s.fillSlice(v, depth)
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Name != "Version" && f.Name != "UnknownTags" {
				s.fill(v.Field(i), depth+1)
			}
		}
	}
}

func (s *strange) fillSlice(v reflect.Value, depth int) {
	if s.IntN(10) == 0 {
		return // null
	}
	if v.Type().Elem().Kind() == reflect.Uint8 {
		b := make([]byte, s.IntN(100))
		for i := range b {
			b[i] = byte(s.Uint32() >> s.IntN(25))
		}
		v.SetBytes(b)
		return
	}
	n := s.IntN(4)
	if depth < 2 && s.IntN(30) == 0 {
		n = 40
	}
	v.Set(reflect.MakeSlice(v.Type(), n, n))
	for i := range n {
		if d, ok := v.Index(i).Addr().Interface().(interface{ Default() }); ok {
			d.Default()
		}
		s.fill(v.Index(i), depth+1)
	}
}

// patient bounds what a request may wait for: it is the answer that is looked for, not the waiting.
func patient(r kmsg.Request) {
	v := reflect.ValueOf(r).Elem()
	for _, name := range []string{"TimeoutMillis", "MaxWaitMillis", "RebalanceTimeoutMillis", "SessionTimeoutMillis"} {
		if f := v.FieldByName(name); f.IsValid() && f.Int() > 50 {
			f.SetInt(50)
		}
	}
}

// Every API in every version, with fields at random: each request is answered in a form that can be decoded (or its
// connection closed), none takes the node with it, and nothing is left behind.
func TestStrangeRequestsAreAnswered(t *testing.T) {
	n := startNode(t, load(t, "/data", "partitions.max=500", "group.initial.rebalance.delay.ms=0"), vfs.NewMem(0))
	defer n.stop(t)
	produce(t, n, "t", 0, 10)
	addrs, _ := n.Serves()
	topicID := n.controller.Image().Topic("t").ID
	rounds := 40
	if testing.Short() {
		rounds = 4
	}
	var wait sync.WaitGroup
	for worker := range 4 {
		wait.Go(func() {
			s := &strange{rand.New(rand.NewPCG(uint64(worker), 77)), topicID}
			c := &rawClient{addr: addrs[0]}
			defer c.close()
			for range rounds {
				for _, k := range api.Table() {
					version := k.MinVersion + int16(s.IntN(int(k.MaxVersion-k.MinVersion)+1))
					r := kmsg.RequestForKey(k.Key)
					r.SetVersion(version)
					s.fill(reflect.ValueOf(r).Elem(), 0)
					patient(r)
					if err := c.ask(r); err != nil {
						t.Errorf("%s version %d: %v\n%+v", kafkaName(k.Key), version, err, r)
					}
				}
			}
		})
	}
	wait.Wait()
	produce(t, n, "afterwards", 0, 10)
	if err := n.Ready(); err != nil {
		t.Error(err)
	}
	for range 1000 {
		if st := n.server.Stats(); st.RequestBytesHeld+st.DecodedBytesHeld+st.ResponseBytesHeld == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("something is still held: %+v", n.server.Stats())
}

func kafkaName(key int16) string { return kmsg.NameForKey(key) }

// rawClient asks without a client's sense of what is right.
type rawClient struct {
	addr string
	conn net.Conn
	r    *bufio.Reader
	id   int32
}

func (c *rawClient) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// ask sends a request and looks at its answer. A connection that the node closes is no error.
func (c *rawClient) ask(r kmsg.Request) error {
	resp, err := c.request(r)
	if resp == nil || err != nil {
		return err
	}
	return unknownErrors(reflect.ValueOf(resp).Elem())
}

// request sends a request and decodes its answer; nil where there is none or the node closes the connection.
func (c *rawClient) request(r kmsg.Request) (kmsg.Response, error) {
	if c.conn == nil {
		conn, err := net.Dial("tcp", c.addr)
		if err != nil {
			return nil, err
		}
		c.conn, c.r = conn, bufio.NewReader(conn)
	}
	c.id++
	_ = c.conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.conn.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("strange")).AppendRequest(nil, r, c.id)); err != nil {
		c.close()
		return nil, nil
	}
	if p, ok := r.(*kmsg.ProduceRequest); ok && p.Acks == 0 {
		c.close() // no answer, or a closed connection
		return nil, nil
	}
	var head [8]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		c.close()
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return nil, fmt.Errorf("no answer: %w", err)
		}
		return nil, nil
	}
	body := make([]byte, int(binary.BigEndian.Uint32(head[:]))-4)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return nil, fmt.Errorf("half an answer: %w", err)
	}
	if got := int32(binary.BigEndian.Uint32(head[4:])); got != c.id {
		return nil, fmt.Errorf("answer %d to request %d", got, c.id)
	}
	resp := r.ResponseKind()
	resp.SetVersion(r.GetVersion())
	if r.IsFlexible() && r.Key() != 18 {
		body = body[1:]
	}
	if err := resp.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("an answer that cannot be decoded: %w: %x", err, body)
	}
	return resp, nil
}

// unknownErrors finds UNKNOWN_SERVER_ERROR: it says that nobody thought of the case.
func unknownErrors(v reflect.Value) error {
	switch v.Kind() {
	case reflect.Struct:
		if code := v.FieldByName("ErrorCode"); code.IsValid() && code.Kind() == reflect.Int16 && int16(code.Int()) == kafka.ErrUnknownServerError.Code {
			return fmt.Errorf("UNKNOWN_SERVER_ERROR: %+v", v.Interface())
		}
		for i := range v.NumField() {
			if err := unknownErrors(v.Field(i)); err != nil {
				return err
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Struct {
			return nil
		}
		for i := range v.Len() {
			if err := unknownErrors(v.Index(i)); err != nil {
				return err
			}
		}
	}
	return nil
}
