package nodes

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"chronik/internal/config"
)

// Command is a process to start.
type Command struct {
	Binary string
	Node   Node
	Args   []string // instead of start --config node.toml, if given
	Env    []string // beside this process's own; see Environ
	// Orphan is what the kernel sends the process when its parent is gone: SIGTERM for people's data, SIGKILL for tests. Linux only:
	// elsewhere the process goes on.
	Orphan syscall.Signal
	// Line gets each line that the process prints, and whether it was on standard error; it is called from two goroutines.
	// May be nil.
	Line func(line string, stderr bool)
}

// Process is a node that runs, or has run.
type Process struct {
	Node    Node
	Started time.Time

	cmd    *exec.Cmd
	serves chan struct{}
	ended  chan struct{}
	err    error                  // of Wait; read it after ended is closed
	last   atomic.Pointer[string] // the last line on standard error
}

// Environ is this process's environment without what would override a node's own keys.
func Environ() []string {
	dropped := map[string]bool{config.EnvConfig: true}
	for _, key := range ownKeys {
		dropped[config.EnvPrefix+strings.ToUpper(strings.ReplaceAll(key, ".", "_"))] = true
	}
	var env []string
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); !dropped[name] {
			env = append(env, e)
		}
	}
	return env
}

// Start runs a node in a process group of its own, so that a Ctrl-C at the terminal reaches it only through us.
func Start(c Command) (*Process, error) {
	args := c.Args
	if args == nil {
		args = []string{"start", "--config", c.Node.ConfigFile()}
	}
	p := &Process{Node: c.Node, Started: time.Now(), cmd: exec.Command(c.Binary, args...), serves: make(chan struct{}), ended: make(chan struct{})}
	p.cmd.Env = append(Environ(), c.Env...)
	p.cmd.SysProcAttr = Orphaned(&syscall.SysProcAttr{Setpgid: true}, c.Orphan)
	line := c.Line
	if line == nil {
		line = func(string, bool) {}
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start node %d: %w", c.Node.ID, err)
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("start node %d: %w", c.Node.ID, err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start node %d: %w", c.Node.ID, err)
	}
	go p.follow(stdout, stderr, line)
	return p, nil
}

// follow reads both outputs to their ends, then waits for the process.
func (p *Process) follow(stdout, stderr io.Reader, line func(string, bool)) {
	errorsRead := make(chan struct{})
	go func() {
		defer close(errorsRead)
		eachLine(stderr, func(s string) {
			p.last.Store(&s)
			line(s, true)
		})
	}()
	first := true
	eachLine(stdout, func(s string) {
		if first && strings.Contains(s, " serves ") {
			close(p.serves)
		}
		first = false
		line(s, false)
	})
	<-errorsRead
	p.err = p.cmd.Wait()
	close(p.ended)
}

// eachLine goes on past lines that are too long to be of use.
func eachLine(r io.Reader, line func(string)) {
	in := bufio.NewReaderSize(r, 16<<10)
	for {
		text, err := in.ReadSlice('\n')
		if s := string(bytes.TrimRight(text, "\r\n")); s != "" {
			line(s)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// Pid is that of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Serves is closed once the node says that it serves.
func (p *Process) Serves() <-chan struct{} { return p.serves }

// Ended is closed once the process is gone.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// ExitCode is -1 for a process that was killed or still runs.
func (p *Process) ExitCode() int {
	if !closed(p.ended) {
		return -1
	}
	return p.cmd.ProcessState.ExitCode()
}

// Outcome tells a person how the process ended, with the last line that it printed on standard error.
func (p *Process) Outcome() string {
	if !closed(p.ended) {
		return "it runs"
	}
	how := p.cmd.ProcessState.String()
	if last := p.last.Load(); last != nil && p.ExitCode() > 0 {
		how += ": " + *last
	}
	return how
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// AwaitServing returns once the node serves; the error says what became of it instead.
func (p *Process) AwaitServing(limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.serves:
		return nil
	case <-p.ended:
		if closed(p.serves) {
			return nil
		}
		return fmt.Errorf("node %d ended before it served: %s", p.Node.ID, p.Outcome())
	case <-timer.C:
		return fmt.Errorf("node %d does not serve after %v; its last words: %s", p.Node.ID, limit, p.lastWords())
	}
}

func (p *Process) lastWords() string {
	if last := p.last.Load(); last != nil {
		return *last
	}
	return "none"
}

// Signal sends a signal; to a process that is gone it does nothing.
func (p *Process) Signal(s syscall.Signal) {
	if !closed(p.ended) {
		_ = p.cmd.Process.Signal(s) // gone in this moment is gone
	}
}

// Kill ends the process with SIGKILL and returns once it is gone.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.ended
}

// Stop ends the process with SIGTERM, or with SIGKILL after the limit, and returns the error of its exit.
func (p *Process) Stop(limit time.Duration) error {
	p.Signal(syscall.SIGTERM)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.ended:
		return p.err
	case <-timer.C:
		p.Kill()
		return fmt.Errorf("node %d still ran %v after SIGTERM", p.Node.ID, limit)
	}
}

// Freeze stops the process where it is and returns once it runs no more; Thaw lets it go on.
func (p *Process) Freeze() error {
	p.Signal(syscall.SIGSTOP)
	for range 2000 {
		switch state(p.Pid()) {
		case 'T', 'Z', 0:
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("node %d (process %d) does not freeze", p.Node.ID, p.Pid())
}

// Thaw ends a Freeze.
func (p *Process) Thaw() { p.Signal(syscall.SIGCONT) }

// state is the process's state letter in /proc, 0 if it is gone.
func state(pid int) byte {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	if rest := stat[bytes.LastIndexByte(stat, ')')+1:]; len(rest) > 1 {
		return rest[1]
	}
	return 0
}
