package group

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

// A member that no record could hold is refused before it is one: with it nobody's assignment could be stored. So is one whose many
// protocols take more memory together than a group's members should.
func TestJoinThatCannotBeStored(t *testing.T) {
	join := func(s *script, protocols, bytes int) int16 {
		r := kmsg.NewPtrJoinGroupRequest()
		r.Version, r.Group, r.ProtocolType, r.SessionTimeoutMillis, r.RebalanceTimeoutMillis = 3, "g", "consumer", 10_000, 10_000
		for i := range protocols {
			r.Protocols = append(r.Protocols, kmsg.JoinGroupRequestProtocol{Name: fmt.Sprint(i), Metadata: make([]byte, bytes)})
		}
		join := &JoinRequest{JoinGroupRequest: r, ClientID: "c"}
		join.Prepare()
		p := coordinator.NewPromise[*kmsg.JoinGroupResponse]()
		s.do(func(tx *coordinator.Tx) { s.m.Join(tx, join, p) })
		if !p.Done() {
			return -1
		}
		resp, err := p.Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return resp.ErrorCode
	}
	for _, c := range []struct {
		protocols, bytes int
		code             int16
	}{{1, 10_001, kafka.ErrInvalidRequest.Code}, {100_000, 1, kafka.ErrInvalidRequest.Code}, {5, 9_000, kafka.ErrInvalidRequest.Code}, {3, 9_000, -1}} {
		s := newScript(t)
		s.limits.RecordMaxBytes = 10_000
		if got := join(s, c.protocols, c.bytes); got != c.code {
			t.Errorf("%d protocols of %d bytes: code %d, want %d", c.protocols, c.bytes, got, c.code)
		}
		if members := len(s.m.groups); (members > 0) != (c.code < 0) {
			t.Errorf("%d protocols of %d bytes: %d groups", c.protocols, c.bytes, members)
		}
	}
}

// What a JoinGroup or SyncGroup says is taken out of its frame once: when it is tried again, the frame is another's.
func TestJoinAndSyncAreTakenOnce(t *testing.T) {
	frame := []byte("before")
	join := &JoinRequest{JoinGroupRequest: &kmsg.JoinGroupRequest{Protocols: []kmsg.JoinGroupRequestProtocol{{Name: "p", Metadata: frame}}}}
	sync := &SyncRequest{SyncGroupRequest: &kmsg.SyncGroupRequest{GroupAssignment: []kmsg.SyncGroupRequestGroupAssignment{{MemberID: "m", MemberAssignment: frame}}}}
	for range 2 {
		join.Prepare()
		sync.Prepare()
		if a, b := string(join.protocols[0].metadata), string(sync.assignments["m"]); a != "before" || b != "before" {
			t.Fatalf("%q and %q", a, b)
		}
		copy(frame, "after!")
	}
}
