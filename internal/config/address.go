package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

func notEmpty(value string) error {
	if value == "" {
		return errors.New("the value is empty")
	}
	return nil
}

// SplitHostPort takes host:port apart. The host may be empty, a name, an IPv4 address or an IPv6 address in brackets.
// (Package net is not for this layer.)
func SplitHostPort(addr string) (host string, port int32, err error) {
	i := strings.LastIndexByte(addr, ':')
	if i < 0 {
		return "", 0, fmt.Errorf("%q has no port, want host:port", addr)
	}
	host = addr[:i]
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	} else if strings.Contains(host, ":") {
		return "", 0, fmt.Errorf("%q: an IPv6 address goes in brackets, as in [::1]:9092", addr)
	}
	if strings.ContainsAny(host, "/[] ") {
		return "", 0, fmt.Errorf("%q is not host:port", addr)
	}
	n, err := strconv.ParseUint(addr[i+1:], 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("%q: the port is not a number from 0 to 65535", addr)
	}
	return host, int32(n), nil
}

func hostPortOrNone(value string) error {
	if value == "none" || value == "" {
		return nil
	}
	_, _, err := SplitHostPort(value)
	return err
}

// listeners is the key of the Kafka listeners.
func listeners(name, def, doc string) Key {
	return Key{Name: name, Type: List, Default: def, Doc: doc, Valid: "[tls://]host:port, ...", set: func(c *Config, value string) error {
		c.Kafka = nil
		count := map[string]int{}
		for _, e := range SplitList(value) {
			l := Listener{Given: e, Name: "tcp", Addr: e}
			if scheme, addr, ok := strings.Cut(e, "://"); ok {
				switch scheme {
				case "tls":
					l.TLS, l.Name = true, "tls"
				case "tcp":
				default:
					return fmt.Errorf("%q: the scheme is neither tls nor tcp", e)
				}
				l.Addr = addr
			}
			if _, _, err := SplitHostPort(l.Addr); err != nil {
				return err
			}
			for _, other := range c.Kafka {
				if other.Addr == l.Addr && !strings.HasSuffix(l.Addr, ":0") {
					return fmt.Errorf("%q is given twice", l.Addr)
				}
			}
			if count[l.Name]++; count[l.Name] > 1 {
				l.Name = fmt.Sprintf("%s-%d", l.Name, count[l.Name])
			}
			c.Kafka = append(c.Kafka, l)
		}
		if len(c.Kafka) == 0 {
			return errors.New("no address is given")
		}
		return nil
	}}
}

// advertise is the key of the addresses for clients; a port may be left out.
func advertise(name, doc string) Key {
	return Key{Name: name, Type: List, Doc: doc, Valid: "host[:port], ...", set: func(c *Config, value string) error {
		c.Advertise = nil
		for _, e := range SplitList(value) {
			host, _, err := splitAdvertised(e)
			if err != nil {
				return err
			}
			if host == "" || host == "0.0.0.0" || host == "::" {
				return fmt.Errorf("%q: clients need a host that they can connect to", e)
			}
			c.Advertise = append(c.Advertise, e)
		}
		return nil
	}}
}

func splitAdvertised(e string) (host string, port int32, err error) {
	if !strings.Contains(e, ":") || strings.HasSuffix(e, "]") {
		e += ":0"
	}
	return SplitHostPort(e)
}

// Advertised is what clients of listener i are told: its host is empty for the address that they dialled, its port 0
// for the listener's own.
func (c *Config) Advertised(i int) (host string, port int32) {
	if len(c.Advertise) == 0 {
		return "", 0
	}
	if i >= len(c.Advertise) {
		i = 0
	}
	host, port, err := splitAdvertised(c.Advertise[i])
	if err != nil {
		return "", 0
	}
	return host, port
}
