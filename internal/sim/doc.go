// Package sim runs whole clusters in one process, on fake time: the nodes are made by package broker's own constructor,
// only file system, network, clock and randomness are replaced. A seed decides the plan: workload, faults, delays.
//
// A run has a safety phase, in which a nemesis breaks what docs/simulation.md lists while clients produce, consume and
// administer; then everything heals, the cluster must converge within a bound, all nodes lose power once more, and the
// checkers compare what clients were told with what is there.
//
// It must run in a bubble of testing/synctest, in a process of its own with GOMAXPROCS=1: then two runs of one seed mostly
// agree to the byte. Where they do not, the plan is what repeats. Start reading at run.go, then cluster.go.
package sim
