package simnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

const ipA, ipB = "10.0.0.1", "10.0.0.2"

// world is two hosts and a connection between them.
type world struct {
	*Network
	a, b     *Process
	listener net.Listener
	x, y     net.Conn // dialled by a, accepted by b
}

func bubble(t *testing.T, opts Options, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{Network: New(opts)}
		w.a, w.b = w.Host(ipA).Boot(), w.Host(ipB).Boot()
		var err error
		if w.listener, err = w.b.Listen("tcp", "0.0.0.0:9092"); err != nil {
			t.Fatal(err)
		}
		w.connect(t)
		f(t, w)
		w.a.Kill()
		w.b.Kill()
	})
}

func (w *world) connect(t *testing.T) {
	t.Helper()
	var err error
	if w.x, err = w.a.Dial(t.Context(), "tcp", ipB+":9092"); err != nil {
		t.Fatal(err)
	}
	if w.y, err = w.listener.Accept(); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if n, err := c.Write([]byte(s)); err != nil || n != len(s) {
		t.Fatalf("write: %d, %v", n, err)
	}
}

func read(t *testing.T, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("read %q, %v; want %q", b, err, want)
	}
}

func dial(p *Process, address string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c, err := p.Dial(ctx, "tcp", address)
	if err == nil {
		_ = c.Close()
	}
	return err
}

func TestBytesArriveInOrderAndLater(t *testing.T) {
	bubble(t, Options{DelayMin: time.Millisecond, DelayMax: 3 * time.Millisecond}, func(t *testing.T, w *world) {
		began := time.Now()
		write(t, w.x, "hello")
		write(t, w.x, " there")
		read(t, w.y, "hello there")
		if took := time.Since(began); took < time.Millisecond || took > 3*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		payload := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // more than the window
		go func() { _, _ = w.y.Write(payload) }()
		got := make([]byte, len(payload))
		if _, err := io.ReadFull(w.x, got); err != nil || !bytes.Equal(got, payload) {
			t.Errorf("a megabyte arrived broken: %v", err)
		}
		_ = w.x.Close()
		if _, err := w.y.Read(got); err != io.EOF {
			t.Errorf("an orderly end reads as %v", err)
		}
		if _, err := w.x.Read(got); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a closed connection reads as %v", err)
		}
		write(t, w.y, "into the void") // answered by a reset
		time.Sleep(time.Second)
		if _, err := w.y.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("a write behind that gives %v", err)
		}
	})
}

func TestDeadlinesAndWindow(t *testing.T) {
	bubble(t, Options{Window: 1000}, func(t *testing.T, w *world) {
		_ = w.x.SetReadDeadline(time.Now().Add(time.Second))
		began := time.Now()
		if _, err := w.x.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("read ends after %v with %v", time.Since(began), err)
		}
		_ = w.x.SetDeadline(time.Time{})
		_ = w.x.SetWriteDeadline(time.Now().Add(time.Second))
		if n, err := w.x.Write(make([]byte, 5000)); n != 1000 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a write into a full window: %d, %v", n, err)
		}
		go func() { time.Sleep(time.Second); _ = w.y.Close() }()
		if _, err := w.y.Write(make([]byte, 5000)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a write that waits while its connection is closed gives %v", err)
		}
	})
}

func TestCutHoldsAndHealDelivers(t *testing.T) {
	bubble(t, Options{Window: 1000}, func(t *testing.T, w *world) {
		w.Cut(ipA, ipB)
		write(t, w.x, "later")
		write(t, w.y, "one way still works")
		read(t, w.x, "one way still works")
		_ = w.y.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := w.y.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a cut gives %v", err)
		}
		if err := dial(w.a, ipB+":9092", 5*time.Second); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a dial into a cut gives %v", err)
		}
		// What b sends arrives, but a cannot acknowledge it: b's window fills.
		go func() { _, _ = io.Copy(io.Discard, w.x) }()
		_ = w.y.SetWriteDeadline(time.Now().Add(time.Second))
		if n, err := w.y.Write(make([]byte, 5000)); err == nil || n > 1000 {
			t.Errorf("%d bytes were sent without acknowledgement, %v", n, err)
		}
		_ = w.y.SetDeadline(time.Time{})
		w.Heal(ipA, ipB)
		read(t, w.y, "later")
		write(t, w.y, "again")
	})
}

func TestKill(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, w *world) {
		waiting := make(chan error)
		go func() { _, err := w.x.Read(make([]byte, 1)); waiting <- err }()
		synctest.Wait()
		w.b.Kill()
		if err := <-waiting; err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the peer of a killed process reads %v", err)
		}
		if err := dial(w.a, ipB+":9092", time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a killed process is dialled: %v", err)
		}
		if _, err := w.y.Write([]byte("ghost")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a killed process writes: %v", err)
		}
		if _, err := w.b.Listen("tcp", ":9092"); err == nil {
			t.Error("a killed process listens")
		}
		if err := dial(w.b, ipA+":1", time.Second); err == nil {
			t.Error("a killed process dials")
		}
		again := w.Host(ipB).Boot()
		if _, err := again.Listen("tcp", ":9092"); err != nil {
			t.Error(err)
		}
		if err := dial(w.a, ipB+":9092", time.Second); err != nil {
			t.Errorf("the process that follows is not reached: %v", err)
		}
		again.Kill()
	})
}

func TestPowerOff(t *testing.T) {
	bubble(t, Options{Window: 1000}, func(t *testing.T, w *world) {
		write(t, w.y, "never arrives")
		w.b.PowerOff()
		_ = w.x.SetReadDeadline(time.Now().Add(time.Hour))
		if n, err := w.x.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a host without power says %d, %v", n, err)
		}
		if err := dial(w.a, ipB+":9092", time.Second); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a host without power answers a dial: %v", err)
		}
		write(t, w.x, "kept by a's kernel")
		_ = w.x.SetReadDeadline(time.Time{})
		again := w.Host(ipB).Boot()
		if _, err := w.x.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a connection from before the loss of power gives %v", err)
		}
		if err := dial(w.a, ipB+":9092", time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a dial before anybody listens gives %v", err)
		}
		again.Kill()
	})
}

func TestPowerOffIsNoticedAtTheNextWrite(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, w *world) {
		w.b.PowerOff()
		again := w.Host(ipB).Boot()
		write(t, w.x, "who are you")
		if _, err := w.x.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v", err)
		}
		again.Kill()
	})
}

func TestRefuseAndReset(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, w *world) {
		w.Host(ipB).RefuseDials(true)
		if err := dial(w.a, ipB+":9092", time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("got %v", err)
		}
		write(t, w.x, "connected still")
		read(t, w.y, "connected still")
		w.Reset(ipA, ipB)
		for _, c := range []net.Conn{w.x, w.y} {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("got %v", err)
			}
		}
		w.HealAll()
		if err := dial(w.a, ipB+":9092", time.Second); err != nil {
			t.Error(err)
		}
	})
}

func TestSameSeedSameNetwork(t *testing.T) {
	run := func(seed uint64) (digest uint64) {
		bubble(t, Options{Seed: seed, SlowOneIn: 5, SlowMax: time.Second}, func(t *testing.T, w *world) {
			for range 50 {
				write(t, w.x, "ping")
				read(t, w.y, "ping")
				write(t, w.y, "pong")
				read(t, w.x, "pong")
			}
			digest = w.Digest()
		})
		return digest
	}
	if first, again := run(1), run(1); first != again {
		t.Error("two runs of one seed differ")
	}
	if run(1) == run(2) {
		t.Error("two seeds do not differ")
	}
}
