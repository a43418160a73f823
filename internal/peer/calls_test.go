package peer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"chronik/internal/kafka"
)

func TestCallsAndErrors(t *testing.T) {
	a, b := pair(t, nil)
	b.Handle(Forward, func(_ context.Context, from Identity, body []byte) ([]byte, error) {
		if !from.SameProcess(a.Self()) || from.ClusterID != "c" {
			t.Errorf("the call comes from %+v", from)
		}
		switch string(body) {
		case "kafka":
			return nil, fmt.Errorf("create topic: %w", kafka.ErrTopicAlreadyExists.With("topic x exists"))
		case "bare":
			return nil, kafka.ErrNotController
		case "other":
			return nil, errors.New("disk on fire")
		}
		return append([]byte("re: "), body...), nil
	})
	answer, err := a.Call(ctx(t), 2, Forward, []byte("hello"))
	if err != nil || string(answer) != "re: hello" {
		t.Fatalf("got %q, %v", answer, err)
	}
	large := bytes.Repeat([]byte("x"), 3<<20)
	if answer, err = a.Call(ctx(t), 2, Forward, large); err != nil || !bytes.Equal(answer[4:], large) {
		t.Fatalf("a large call: %d bytes, %v", len(answer), err)
	}
	_, err = a.Call(ctx(t), 2, Forward, []byte("kafka"))
	var e *kafka.Error
	if !errors.As(err, &e) || e.Code != kafka.ErrTopicAlreadyExists.Code || e.Msg != "topic x exists" || e.Name == "" {
		t.Errorf("a Kafka error arrives as %#v", err)
	}
	if _, err = a.Call(ctx(t), 2, Forward, []byte("bare")); !errors.Is(err, kafka.ErrNotController) {
		t.Errorf("a bare Kafka error arrives as %v", err)
	}
	var remote *RemoteError
	if _, err = a.Call(ctx(t), 2, Forward, []byte("other")); !errors.As(err, &remote) || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("another error arrives as %v", err)
	}
	if _, err = a.Call(ctx(t), 2, Join, nil); !errors.Is(err, ErrNotSent) {
		t.Errorf("a method without handler gives %v", err)
	}
	if _, err = a.Call(ctx(t), 7, Forward, nil); !errors.Is(err, ErrNotSent) {
		t.Errorf("an unknown peer gives %v", err)
	}
	if _, err = a.Call(ctx(t), 2, Forward, make([]byte, 65<<20)); !errors.Is(err, ErrNotSent) {
		t.Errorf("a call that is too large gives %v", err)
	}
}

func TestNoErrorBecomesSuccess(t *testing.T) {
	for _, status := range []byte{statusKafka, statusError, statusNotRun, 9, 255} {
		for _, body := range [][]byte{nil, {0}, {0, 0}, {0, 0, 'x'}, {255, 127}} {
			if _, err := decodeAnswer(1, Forward, status, body); err == nil {
				t.Errorf("status %d with %v is taken for success", status, body)
			}
		}
	}
	if status, _ := encodeResult(nil, kafka.ErrUnknownServerError.With("")); status == statusOK {
		t.Error("an error is encoded as success")
	}
	if status, _ := encodeResult(nil, &kafka.Error{}); status == statusOK || status == statusKafka {
		t.Error("an error of code 0 is encoded as success")
	}
}

func TestCallEndsWithItsContextAndItsConnection(t *testing.T) {
	a, b := pair(t, nil)
	entered, ended := make(chan struct{}, 2), make(chan error, 2)
	b.Handle(Forward, func(ctx context.Context, _ Identity, _ []byte) ([]byte, error) {
		entered <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := a.Call(short, 2, Forward, nil); !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call that times out gives %v", err)
	}
	<-entered
	if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the handler's context ends with %v: the caller's deadline has not travelled", err)
	}
	result := make(chan error, 1)
	go func() {
		_, err := a.Call(context.Background(), 2, Forward, nil)
		result <- err
	}()
	<-entered
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := <-result; !errors.Is(err, ErrOutcomeUnknown) || errors.Is(err, ErrNotSent) {
		t.Errorf("a call whose peer goes away gives %v", err)
	}
	over, cancelled := context.WithCancel(context.Background())
	cancelled()
	if _, err := a.Call(over, 2, Forward, nil); !errors.Is(err, ErrNotSent) {
		t.Errorf("a call without time gives %v", err)
	}
}

func TestNotificationsKeepTheirOrder(t *testing.T) {
	a, b := pair(t, nil)
	const count = 20000
	var next uint64
	done := make(chan struct{})
	b.OnNotify(Raft, func(from Identity, body []byte) {
		if got := binary.LittleEndian.Uint64(body); got != next {
			t.Errorf("notification %d where %d is due", got, next)
		}
		if next++; next == count {
			close(done)
		}
	})
	for i := range uint64(count) {
		if !a.Notify(2, Raft, binary.LittleEndian.AppendUint64(nil, i)) {
			t.Fatalf("notification %d was dropped", i)
		}
	}
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("only %d of %d came", next, count)
	}
	if a.Notify(9, Raft, nil) {
		t.Error("a notification to nobody is reported as sent")
	}
}

func TestHandlersAreBounded(t *testing.T) {
	a, b := pair(t, func(o *Options) { o.Limits.Calls = 3 })
	var most, running atomic.Int64
	b.Handle(Forward, func(ctx context.Context, _ Identity, _ []byte) ([]byte, error) {
		most.Store(max(most.Load(), running.Add(1)))
		defer running.Add(-1)
		<-ctx.Done()
		return nil, nil
	})
	// Calls that were given up keep their handlers busy: the bound must hold at the side that runs them.
	for range 3 {
		short, cancel := context.WithTimeout(context.Background(), time.Minute)
		go func() { time.Sleep(20 * time.Millisecond); cancel() }()
		_, _ = a.Call(short, 2, Forward, nil)
	}
	if _, err := a.Call(ctx(t), 2, Forward, nil); !errors.Is(err, ErrNotSent) {
		t.Errorf("a call above the bound gives %v", err)
	}
	if most.Load() != 3 {
		t.Errorf("%d handlers ran at once, not 3", most.Load())
	}
}
