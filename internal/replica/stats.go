package replica

// Stats are a node's partitions in numbers.
type Stats struct {
	Partitions      int // with a replica here
	Leaders         int // of those, led here
	UnderReplicated int // led here, with replicas that are not in sync
	UnderMinInsync  int // led here, taking no acks=all
	Waiting         int // appends whose acknowledgement is awaited
}

// Stats counts. It looks at every partition: for a scrape, not for a request.
func (m *Manager) Stats() Stats {
	var s Stats
	for _, p := range m.all() {
		s.Partitions++
		p.mu.Lock()
		if p.mu.leader {
			s.Leaders++
			if len(p.mu.progress.committed) < len(p.mu.progress.replicas) {
				s.UnderReplicated++
			}
			if p.mu.progress.underMinInsync() {
				s.UnderMinInsync++
			}
		}
		s.Waiting += p.mu.committed.len() + p.mu.durable.len()
		p.mu.Unlock()
	}
	return s
}

// Size is the size of this replica's segments in bytes. It may open the log's files.
func (p *Partition) Size() int64 { return p.disk.Size() }
