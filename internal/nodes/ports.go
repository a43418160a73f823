package nodes

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
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

// listenFree listens on a free port of a host.
func listenFree(host string) (net.Listener, error) {
	for try := 0; ; try++ {
		port := freeFrom + rand.IntN(freeTo-freeFrom)
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) || try == freeTry {
			return nil, fmt.Errorf("pick a free port of %s: %w", host, err)
		}
	}
}
