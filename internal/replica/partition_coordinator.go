package replica

import "chronik/internal/kafka"

// Bounds is Snapshot for a coordinator that runs on the log, whatever the lease says: what it answers is proven by commits,
// and it asks for the lease itself where it is not. The last stable offset is left out.
func (p *Partition) Bounds(epoch kafka.LeaderEpoch) (Snapshot, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.checkLeaderLocked(epoch); err != nil {
		return Snapshot{}, err
	}
	return p.offsetsLocked(), nil
}
