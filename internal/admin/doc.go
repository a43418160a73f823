// Package admin is the node's HTTP side: /metrics in Prometheus's format, /healthz, /readyz and /debug/pprof.
//
// It knows nothing of what it measures: sources give samples when somebody asks (package broker connects them). It owns
// its listener and its server's goroutines, which end with Close. Start reading at admin.go.
package admin
