// Package server is the Kafka listeners: it accepts connections, reads requests, dispatches them in order and writes
// the answers.
//
// A connection has two goroutines. Its read loop takes frames off the socket, checks header, version and body (package
// wire's guard) and calls Dispatch, which gives the request its order; the reply goes on a queue of at most 64. Its
// write loop runs the replies in that order, which may wait, and sends what they return. A full queue stops the read
// loop, and the client with it.
//
// Who owns what: the Server owns the set of connections and the budgets; a connection's socket, buffers and queue belong
// to its two goroutines. Nobody else writes to a socket. A sweeper, one goroutine for all connections, closes those that
// are idle or do not take their answers.
//
// Start reading at server.go, then connection.go, read.go and write.go.
package server
