//go:build !synctests

package sim

const tagged = false
