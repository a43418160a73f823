package store

// The page cache of a node is for what is read there: the partitions that it leads. A replica that follows, and that nobody
// reads, is written once and read when its leader has died. So it leaves the cache behind it, but for its end, which is what
// consumers that keep up ask for after a failover. That is most of what a node with replicas writes; and memory that was in
// use just now is also the cheapest to write to (docs/decisions/2026-11-22-followers-and-the-page-cache.md).

// behindQueue is how many partitions wait to be looked at; one that finds no room comes again with the next append.
const behindQueue = 64

// grew counts what a leader sent, and asks for a look each time that a quarter of what may stay has come.
func (p *Partition) grew(n int64) {
	keep := p.s.o.Config.FollowerCacheBytes
	if keep < 0 || p.unseen.Add(n) < keep/4 {
		return
	}
	select {
	case p.s.behind <- p:
		p.unseen.Store(0)
	default:
	}
}

func (s *Store) behindLoop() {
	defer s.background.Done()
	for {
		select {
		case p := <-s.behind:
			p.dropBehind()
		case <-s.stop:
			return
		}
	}
}

// dropBehind lets go of cached pages, unless somebody has read here since it looked last, as consumers in the rack of a
// follower do (KIP-392), or compaction is going to.
func (p *Partition) dropBehind() {
	p.mu.Lock()
	compact := p.mu.config.CleanupPolicy.Compact
	p.mu.Unlock()
	if read := p.fetched.Swap(false); read || compact || !p.follows.Load() || p.deleting.Load() {
		return
	}
	if l := p.log.Load(); l != nil {
		l.DropBehind(p.s.o.Config.FollowerCacheBytes)
	}
}

// wasFetched notes that somebody reads.
func (p *Partition) wasFetched() {
	if !p.fetched.Load() {
		p.fetched.Store(true)
	}
}
