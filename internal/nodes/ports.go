package nodes

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
)

// Free ports are looked for below those that kernels give to outgoing connections (32768 and up on Linux, 49152 on others): a
// port of that range can be taken before its node listens, and while it is down.
const (
	freeFrom = 10_000
	freeTo   = 32_000
	freeTry  = 1000
)

// FreeAddresses are that many addresses of 127.0.0.1 where nobody listens.
func FreeAddresses(n int) ([]string, error) {
	var addrs []string
	var held []net.Listener // until all are found, so that none comes twice
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	for range n {
		l, err := listenFree(host)
		if err != nil {
			return nil, err
		}
		held = append(held, l)
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

// given are the ports that this process was given: one that was given a moment ago may not be listened on yet.
var given struct {
	sync.Mutex
	ports map[int]bool
}

// pickPort picks one that this process was not given yet, of a part of the range that other processes rarely look into:
// tests of several packages run side by side.
func pickPort(try int) int {
	given.Lock()
	defer given.Unlock()
	port := 0
	for range freeTry {
		port = freeFrom + rand.IntN(freeTo-freeFrom)
		if try < freeTry/2 {
			const parts = 40
			size := (freeTo - freeFrom) / parts
			port = freeFrom + os.Getpid()%parts*size + rand.IntN(size)
		}
		if !given.ports[port] {
			break
		}
		try++ // the part is nearly used up
	}
	if given.ports == nil {
		given.ports = map[int]bool{}
	}
	given.ports[port] = true
	return port
}

// listenFree listens on a free port of a host.
func listenFree(host string) (net.Listener, error) {
	for try := 0; ; try++ {
		port := pickPort(try)
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) || try == freeTry {
			return nil, fmt.Errorf("pick a free port of %s: %w", host, err)
		}
	}
}
