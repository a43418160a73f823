// Package cluster holds no code, only tests of three real nodes: the six tests of the original (who is up and elects, what
// every node knows, what every replica holds), restarts of leaders and followers, handlers while the controller is away, real
// clients while nodes are killed and come back, groups of real clients while members and coordinators are killed and stopped,
// and a power cut of all three. Bounds on time are generous: what it takes
// is measured by `make bench`.
package cluster
