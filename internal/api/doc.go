// Package api holds Kafka's API: one file per API key and one table (table.go) from which ApiVersions, the version
// checks and the documentation come.
//
// A handler decodes, calls the domain and maps errors to codes; nothing else. It runs on the connection's read side,
// where requests get their order, and returns a [Reply] that is awaited on the write side. Start reading at api.go.
package api
