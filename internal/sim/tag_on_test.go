//go:build synctests

package sim

// tagged: the client library is built with mutexes that fake time can see; with others a wait for one stops time.
const tagged = true
