package log

// behindSegments is at how many segments DropBehind looks, the last ones: older files were let go of before, or were not
// written by this process.
const behindSegments = 4

// behindOverlap is how far back DropBehind begins again, in bytes: the file system keeps the cached pages in pieces of up to
// that size, and only lets go of whole ones.
const behindOverlap = 2 << 20

// DropBehind asks the kernel to forget the cached pages of all but the last keep bytes of the log. What is not synced stays in
// the cache. It is advice: nothing that is read or synced depends on it, and what fails is tried again with what comes next.
func (l *Log) DropBehind(keep int64) {
	type stretch struct {
		s        *segment
		from, to int64
	}
	var list []stretch
	l.mu.Lock()
	for i := len(l.mu.segments) - 1; i >= max(len(l.mu.segments)-behindSegments, 0); i-- {
		s := l.mu.segments[i]
		if to := s.size - keep; to > s.uncached {
			list = append(list, stretch{s, max(s.uncached-behindOverlap, 0), to})
			s.uncached = to
		}
		keep = max(keep-s.size, 0)
	}
	l.mu.Unlock()
	for _, d := range list {
		file, err := d.s.data.acquire()
		if err != nil {
			continue
		}
		_ = file.DropCache(d.from, d.to-d.from)
		d.s.data.release()
	}
}
