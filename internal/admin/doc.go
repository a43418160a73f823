// Package admin is the node's HTTP side: /metrics in Prometheus's format, /healthz, /readyz, /debug/pprof, and /v1, which
// tells in JSON of the cluster, its topics, why a partition is as it is, and streams the events of the metadata.
//
// It knows nothing of what it measures: sources give samples when somebody asks, and a [Cluster] gives the metadata and
// live views (package broker connects both). It changes nothing. It owns its listener and its server's goroutines, which
// end with Close. Start reading at admin.go; /v1 is in api.go, view.go, explain.go and events.go.
package admin
