// Package cert makes certificates for the tests of TLS listeners. It keeps nothing. Start reading at cert.go.
package cert
