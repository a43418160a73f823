// Package wire is the frame level of Kafka's protocol: request and response headers, the guards that every request
// passes before kmsg decodes it, pooled frame buffers, and response payloads that mix bytes with file sections.
//
// It knows nothing of topics or logs. Start reading at payload.go.
package wire
