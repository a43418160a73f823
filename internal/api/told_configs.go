package api

import (
	"path/filepath"
	"strconv"
	"strings"

	"chronik/internal/config"
	"chronik/internal/metadata"
)

// told are this broker's addresses and its data directory under the names that Kafka has for them.
func (h *Handlers) told(img *metadata.Image, conn *Conn) []config.Entry {
	values := map[string]string{"broker.id": strconv.Itoa(int(h.NodeID)), "log.dirs": h.Static.DataDir}
	if abs, err := filepath.Abs(h.Static.DataDir); err == nil {
		values["log.dirs"] = abs
	}
	var listeners, advertised []string
	for i := range h.Static.Kafka {
		listeners = append(listeners, protocolOf(h.Static.Kafka[i].Name)+"://"+h.Static.Kafka[i].Addr)
	}
	values["listeners"] = strings.Join(listeners, ",")
	if b := img.Broker(h.NodeID); b != nil {
		for _, e := range b.Endpoints {
			if e.Host == "" && conn != nil {
				e.Host = conn.Local.Host
			}
			if strings.Contains(e.Host, ":") {
				e.Host = "[" + e.Host + "]"
			}
			advertised = append(advertised, protocolOf(e.Listener)+"://"+e.Host+":"+strconv.Itoa(int(e.Port)))
		}
		values["advertised.listeners"] = strings.Join(advertised, ",")
	}
	return config.Told(values)
}

// protocolOf is what Kafka calls a listener by default.
func protocolOf(name string) string {
	return strings.NewReplacer("tcp", "PLAINTEXT", "tls", "SSL").Replace(name)
}
