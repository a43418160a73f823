// Package steps reports the steps of a client program in the form that the Go test reads.
package steps
