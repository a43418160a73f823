package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"chronik/internal/nodes"
)

// CeilingOptions of the machine's own limit: framed payloads to the least code that is still a replicated log. With
// Sendfile it is the least code that serves a file instead.
type CeilingOptions struct {
	Binary      string // this program, which is started again for each node; it must answer CeilingArgs
	Dir         string // where the log files go; they are removed
	Replicas    int    // 1 or 3
	Sync        bool   // fdatasync before the ack
	Sendfile    bool
	Connections int
	Bytes       int // of a payload, or of one sendfile
	InFlight    int
	Warmup      time.Duration
	Duration    time.Duration
	Progress    io.Writer
}

// ceilingArgs is the hidden command that runs a node: a leader with its followers' addresses, a follower, or a file server.
func ceilingArgs(role, path string, sync bool, followers []string) []string {
	return []string{"bench", "ceiling-node", "--role", role, "--path", path, fmt.Sprintf("--sync=%v", sync), "--followers", strings.Join(followers, ",")}
}

// Ceiling runs one workload against fresh nodes.
func Ceiling(ctx context.Context, o CeilingOptions) (*Report, error) {
	setDefault(&o.Replicas, 1)
	setDefault(&o.Connections, 1)
	setDefault(&o.InFlight, 1)
	setDefault(&o.Bytes, 1024)
	setDefault(&o.Duration, 3*time.Second)
	setDefault(&o.Dir, os.TempDir())
	dir, err := os.MkdirTemp(o.Dir, "chronik-ceiling-")
	if err != nil {
		return nil, fmt.Errorf("bench ceiling: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var nodes []*ceilingNode
	defer func() {
		for _, n := range nodes {
			n.kill()
		}
	}()
	start := func(role string, followers []string) (*ceilingNode, error) {
		n, err := startCeilingNode(o.Binary, ceilingArgs(role, filepath.Join(dir, fmt.Sprintf("log-%d", len(nodes))), o.Sync, followers))
		if err == nil {
			nodes = append(nodes, n)
		}
		return n, err
	}
	var followers []string
	for range o.Replicas - 1 {
		n, err := start("follower", nil)
		if err != nil {
			return nil, err
		}
		followers = append(followers, n.addr)
	}
	role := "leader"
	if o.Sendfile {
		role = "file"
	}
	leader, err := start(role, followers)
	if err != nil {
		return nil, err
	}
	return ceilingLoad(ctx, &o, leader)
}

type ceilingNode struct {
	cmd  *exec.Cmd
	addr string
}

func startCeilingNode(binary string, args []string) (*ceilingNode, error) {
	cmd := exec.Command(binary, args...)
	cmd.SysProcAttr = nodes.Orphaned(&syscall.SysProcAttr{}, syscall.SIGKILL)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("bench ceiling: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("bench ceiling: start a node: %w", err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = cmd.Process.Kill()
		return nil, fmt.Errorf("bench ceiling: a node did not say where it listens: %w", errors.Join(err, cmd.Wait()))
	}
	return &ceilingNode{cmd: cmd, addr: strings.TrimSpace(line)}, nil
}

func (n *ceilingNode) kill() {
	_ = n.cmd.Process.Kill() // it may be gone
	_ = n.cmd.Wait()         // killed: the status says nothing
}

func ceilingLoad(ctx context.Context, o *CeilingOptions, leader *ceilingNode) (*Report, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	phase, m := &phases{}, &meter{}
	hists := make([]histogram, o.Connections)
	errs := make([]error, o.Connections)
	var group sync.WaitGroup
	for i := range o.Connections {
		group.Go(func() { errs[i] = ceilingConn(ctx, o, leader.addr, phase, m, &hists[i]) })
	}
	go progress(ctx, o.Progress, "ceiling", m)
	wait(ctx, o.Warmup, nil)
	before := processCPU(leader.cmd.Process.Pid)
	elapsed := phase.run(ctx, 0, o.Duration, nil)
	cpu := processCPU(leader.cmd.Process.Pid) - before
	group.Wait()
	var h histogram
	for i := range hists {
		h.merge(&hists[i])
	}
	name := fmt.Sprintf("ceiling-%d", o.Replicas)
	if o.Sendfile {
		name = "ceiling-sendfile"
	}
	r := &Report{Workload: name, Connections: o.Connections, RecordBytes: o.Bytes, BatchSize: 1, Acks: -1, Compression: "none"}
	r.Requests, r.Records, r.Bytes = m.requests.Load(), m.records.Load(), m.bytes.Load()
	r.finish(elapsed, &h)
	r.BrokerCPU = cpu
	return r, errors.Join(errs...)
}

func ceilingConn(ctx context.Context, o *CeilingOptions, addr string, phase *phases, m *meter, h *histogram) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("bench ceiling: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	request, answer := make([]byte, 4+o.Bytes), make([]byte, 8)
	binary.BigEndian.PutUint32(request, uint32(o.Bytes))
	for i := 4; i < len(request); i++ {
		request[i] = byte(i * 31)
	}
	if o.Sendfile {
		request, answer = request[:4], make([]byte, o.Bytes)
	}
	answered := func(began time.Time) {
		if phase.measuring.Load() {
			h.add(time.Since(began))
			m.requests.Add(1)
			m.records.Add(1)
			m.bytes.Add(int64(o.Bytes))
		}
	}
	if o.InFlight == 1 {
		for !phase.stop.Load() {
			began := time.Now()
			if _, err := conn.Write(request); err != nil {
				return fmt.Errorf("bench ceiling: %w", err)
			}
			if _, err := io.ReadFull(conn, answer); err != nil {
				return fmt.Errorf("bench ceiling: %w", err)
			}
			answered(began)
		}
		return nil
	}
	sent := make(chan time.Time, o.InFlight)
	go func() {
		defer close(sent)
		for !phase.stop.Load() {
			sent <- time.Now()
			if _, err := conn.Write(request); err != nil {
				return
			}
		}
	}()
	in := bufio.NewReader(conn)
	for began := range sent {
		if _, err := io.ReadFull(in, answer); err != nil {
			_ = conn.Close()
			for range sent { // until the writer saw it
			}
			return fmt.Errorf("bench ceiling: %w", err)
		}
		answered(began)
	}
	return nil
}
