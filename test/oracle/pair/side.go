package pair

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Side is one of the two servers, and what it said.
type Side struct {
	T      testing.TB
	Name   string
	Addr   string
	IDs    []string            // random IDs that it gave, in order
	Topics map[string][16]byte // topics whose random ID is compared by name
	Said   []Answer
	Broker int32 // the broker's ID

	// Ordered says that the order of lists matters from now on.
	Ordered bool
	// Eventually is how long the server may take to act on what it acknowledged.
	Eventually time.Duration
	// Patience is how long an answer may take, 30 s if zero.
	Patience time.Duration
	// KeepOpen keeps the connections open to the end: kfake takes a member whose connection is closed for gone.
	KeepOpen bool
	// EpochBase is how much higher this server counts a consumer group's epochs (KIP-848) than the other one; it is taken off them.
	EpochBase int32
	// Served tells which versions are compared, all if nil; others are not asked.
	Served func(key, version int16) bool
}

// Answer is one answer in a form that can be compared.
type Answer struct {
	What string // what was asked
	Body any
}

// Call asks, on a connection of its own, and notes the answer; nil if there was none.
func Call[R kmsg.Response](s *Side, version int16, req kmsg.Request) (none R) {
	s.T.Helper()
	if r, ok := s.Start(version, req)().(R); ok {
		return r
	}
	return none
}

// Start asks and returns what waits for the answer and notes it.
func (s *Side) Start(version int16, req kmsg.Request) func() kmsg.Response {
	s.T.Helper()
	if s.Served != nil && !s.Served(req.Key(), version) {
		return func() kmsg.Response { return nil }
	}
	c, err := net.Dial("tcp", s.Addr)
	if err != nil {
		s.T.Fatalf("%s: %v", s.Name, err)
	}
	req.SetVersion(version)
	what := fmt.Sprintf("%s v%d", kmsg.NameForKey(req.Key()), version)
	asked, _ := json.Marshal(req)
	if _, err := c.Write(frame(version, req)); err != nil {
		s.T.Fatalf("%s: %s: %v", s.Name, what, err)
	}
	return func() kmsg.Response {
		if s.KeepOpen {
			s.T.Cleanup(func() { _ = c.Close() })
		} else {
			defer func() { _ = c.Close() }()
		}
		what += " " + s.hide(string(asked))
		began := time.Now()
		resp, err := s.receive(c, version, req)
		if took := time.Since(began); took > 5*time.Second {
			s.T.Logf("%s took %v for %s", s.Name, took, what)
		}
		if err != nil {
			s.Said = append(s.Said, Answer{what, "no answer: " + err.Error()})
			return nil
		}
		s.note(what, resp)
		return resp
	}
}

func frame(version int16, req kmsg.Request) []byte {
	frame := binary.BigEndian.AppendUint16(make([]byte, 4), uint16(req.Key()))
	frame = binary.BigEndian.AppendUint16(frame, uint16(version))
	frame = append(frame, 0, 0, 0, 7, 0, 1, 'c') // correlation ID, client ID
	if req.IsFlexible() {
		frame = append(frame, 0)
	}
	frame = req.AppendTo(frame)
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	return frame
}

func (s *Side) receive(c net.Conn, version int16, req kmsg.Request) (kmsg.Response, error) {
	patience := s.Patience
	if patience == 0 {
		patience = 30 * time.Second
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			return nil, fmt.Errorf("nothing in %v", patience)
		}
		return nil, fmt.Errorf("the connection was closed")
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c, body); err != nil {
		return nil, err
	}
	resp := req.ResponseKind()
	resp.SetVersion(version)
	body = body[4:]
	if resp.IsFlexible() && req.Key() != 18 {
		body = body[1:]
	}
	return resp, resp.ReadFrom(body)
}

// Silent sends a request that has no answer and notes whether the server kept the connection.
func (s *Side) Silent(version int16, req kmsg.Request) {
	s.T.Helper()
	if s.Served != nil && !s.Served(req.Key(), version) {
		return
	}
	c, err := net.Dial("tcp", s.Addr)
	if err != nil {
		s.T.Fatalf("%s: %v", s.Name, err)
	}
	defer func() { _ = c.Close() }()
	req.SetVersion(version)
	asked, _ := json.Marshal(req)
	_, _ = c.Write(frame(version, req))
	after := kmsg.NewPtrApiVersionsRequest() // answered after what came before
	after.SetVersion(0)
	_, _ = c.Write(frame(0, after))
	body := "kept"
	if _, err := s.receive(c, 0, after); err != nil {
		body = "closed"
	}
	s.Said = append(s.Said, Answer{fmt.Sprintf("%s v%d %s", kmsg.NameForKey(req.Key()), version, s.hide(string(asked))), body})
}

// Last is the last answer, nil if there is none.
func (s *Side) Last() *Answer {
	if len(s.Said) == 0 {
		return nil
	}
	return &s.Said[len(s.Said)-1]
}

// ID replaces a random ID by its number from now on, in the answers before too.
func (s *Side) ID(id string) {
	if id == "" || slices.Contains(s.IDs, id) {
		return
	}
	s.IDs = append(s.IDs, id)
	for i := range s.Said {
		s.Said[i].Body = s.replace(s.Said[i].Body, id, fmt.Sprintf("<%d>", len(s.IDs)-1))
	}
}

// Know gives a topic's random ID its name in what is compared.
func (s *Side) Know(name string) {
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &name
	req.Topics = append(req.Topics, t)
	resp := Call[*kmsg.MetadataResponse](s, 12, req)
	s.Said = s.Said[:len(s.Said)-1]
	if resp != nil && len(resp.Topics) == 1 {
		s.Topics[name] = resp.Topics[0].TopicID
	}
}

// Without drops fields from the last answer that are not to be compared.
func (s *Side) Without(fields ...string) {
	if last := s.Last(); last != nil {
		last.Body = drop(last.Body, fields)
	}
}

// epochs are fields that count a consumer group's epochs.
var epochs = regexp.MustCompile(`"(MemberEpoch|AssignmentEpoch|Epoch|Generation)":(\d+)`)

func (s *Side) hide(text string) string {
	if s.EpochBase != 0 {
		text = epochs.ReplaceAllStringFunc(text, func(field string) string {
			m := epochs.FindStringSubmatch(field)
			if n, _ := strconv.Atoi(m[2]); n > 0 {
				return fmt.Sprintf("%q:%d", m[1], n-int(s.EpochBase))
			}
			return field
		})
	}
	for i, id := range s.IDs {
		text = strings.ReplaceAll(text, id, "<"+strconv.Itoa(i)+">")
	}
	for name, id := range s.Topics {
		if id == ([16]byte{}) {
			continue
		}
		raw, _ := json.Marshal(id)
		text = strings.ReplaceAll(text, string(raw), strconv.Quote("topic "+name))
	}
	return text
}

func (s *Side) note(what string, resp kmsg.Response) {
	raw, err := json.Marshal(resp)
	if err != nil {
		s.T.Fatal(err)
	}
	var body any
	if err := json.Unmarshal([]byte(s.hide(string(raw))), &body); err != nil {
		s.T.Fatal(err)
	}
	s.Said = append(s.Said, Answer{what, s.canonical(body)})
}
