// Package bench measures brokers that speak Kafka's protocol, chronik or any other, and what the machine itself allows.
//
// Two drivers load a broker: "client" is franz-go, what a user sees; "raw" sends prebuilt Produce and Fetch frames over
// plain sockets and checks the answers, which costs next to nothing, so that the broker is the bottleneck. The
// yardsticks are the ceiling (the least code that is still a replicated log) and discard (a broker that acknowledges
// and forgets). What was acknowledged is read back: a rate counts only then.
//
// Start reading at options.go and run.go.
package bench
