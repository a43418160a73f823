package replica

import (
	"cmp"
	"io"
	"slices"

	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/vfs"
)

// Fetch reads as the leader, or, if the request allows it, as a follower; without waiting. The caller releases the result's
// Records. Errors: NOT_LEADER_OR_FOLLOWER, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, OFFSET_OUT_OF_RANGE below the log
// start or above the log end, and KAFKA_STORAGE_ERROR. Between the high watermark and the log end there is nothing yet,
// which is no error. Above a follower's log end it is OFFSET_NOT_AVAILABLE: the leader may well have it (KIP-392).
func (p *Partition) Fetch(r FetchRequest) (FetchResult, error) {
	s, led, err := p.readable(r)
	if err != nil {
		return FetchResult{}, err
	}
	res := FetchResult{Snapshot: s, Next: r.From}
	if r.LastFetchedEpoch != kafka.NoLeaderEpoch {
		if res.Diverging, err = p.diverging(r, s); err != nil || res.Diverging != nil {
			return res, err
		}
	}
	if r.From > s.LogEnd && !led {
		return FetchResult{}, kafka.ErrOffsetNotAvailable.With("the follower of %s-%d on broker %d has offsets up to %d, not %d",
			p.topic, p.id.Partition, p.node.broker, s.LogEnd, r.From)
	}
	if r.From < s.LogStart || r.From > s.LogEnd {
		return FetchResult{}, kafka.ErrOffsetOutOfRange.With("%s-%d has offsets %d to %d, not %d",
			p.topic, p.id.Partition, s.LogStart, s.LogEnd, r.From)
	}
	limit := s.HighWatermark
	switch r.Isolation {
	case ReadCommitted:
		limit = s.LastStable
	case ReadToEnd:
		return p.fetchCopy(r, res)
	}
	if r.From >= limit || r.MaxBytes <= 0 && !r.MinOneBatch {
		return res, nil
	}
	return p.fetchSlice(r, res, limit)
}

// fetchSlice reads below the high watermark. Records and aborted transactions are those of one state of the log: compaction
// and retention remove an abort marker with the records that it aborts, and a consumer that was told of one without the other
// would skip too much or too little.
func (p *Partition) fetchSlice(r FetchRequest, res FetchResult, limit kafka.Offset) (FetchResult, error) {
	for {
		slice, err := p.disk.Read(r.From, r.MaxBytes, limit, r.MinOneBatch)
		if err != nil {
			return FetchResult{}, err
		}
		res.Records, res.Next = Records{slice: slice}, slice.Next
		if r.Isolation != ReadCommitted || slice.Length == 0 {
			return res, nil
		}
		res.Aborted, err = p.aborted(r.From, slice.Next)
		same := p.disk.Swaps() == slice.Swaps
		if err == nil && same {
			return res, nil
		}
		res.Records.Release()
		if same {
			return FetchResult{}, err
		}
	}
}

// readable is the partition's offsets as the request may see them: those of its leader, or of a follower.
func (p *Partition) readable(r FetchRequest) (s Snapshot, led bool, err error) {
	p.mu.Lock()
	follows := p.mu.follower && r.AnyReplica
	if !follows {
		if err = p.checkLeaderLocked(r.LeaderEpoch); err == nil && r.Isolation != ReadToEnd && !p.node.leased() {
			err = p.leaseError()
		}
	} else {
		err = p.checkEpochLocked(r.LeaderEpoch)
	}
	if err == nil {
		s = p.offsetsLocked()
	}
	p.mu.Unlock()
	if err == nil {
		s.LastStable = p.lastStable(s.HighWatermark)
	}
	return s, !follows, err
}

// fetchCopy copies: what lies above the high watermark may be cut while a reader holds it.
func (p *Partition) fetchCopy(r FetchRequest, res FetchResult) (FetchResult, error) {
	if r.From >= res.LogEnd {
		return res, nil
	}
	buf, next, err := p.disk.ReadStretch(nil, r.From, r.MaxBytes, res.LogEnd, r.MinOneBatch)
	if err != nil {
		return FetchResult{}, err
	}
	res.Records, res.Next = Records{copied: buf}, next
	return res, nil
}

// diverging tells where the client's log and this one part, if the record before the offset that it asks for is not the
// one that this log has (KIP-320, KIP-595).
func (p *Partition) diverging(r FetchRequest, s Snapshot) (*EpochEnd, error) {
	end := p.endOffsetForEpoch(r.LastFetchedEpoch, s)
	if end.End == kafka.NoOffset || end.Epoch == kafka.NoLeaderEpoch {
		return nil, kafka.ErrOffsetOutOfRange.With("%s-%d does not know leader epoch %d", p.topic, p.id.Partition, r.LastFetchedEpoch)
	}
	if r.From < s.LogStart {
		return nil, kafka.ErrOffsetOutOfRange
	}
	if end.Epoch < r.LastFetchedEpoch || end.End < r.From {
		return &end, nil
	}
	return nil, nil
}

func (p *Partition) aborted(from, to kafka.Offset) ([]AbortedTransaction, error) {
	found, err := p.disk.AbortedTransactions(from, to)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	out := make([]AbortedTransaction, len(found))
	for i, a := range found {
		out[i] = AbortedTransaction{ProducerID: a.ProducerID, FirstOffset: a.FirstOffset}
	}
	slices.SortFunc(out, func(a, b AbortedTransaction) int { return cmp.Compare(a.FirstOffset, b.FirstOffset) })
	return out, nil
}

// FetchResult is what a fetch found.
type FetchResult struct {
	Snapshot
	Records   Records
	Next      kafka.Offset         // where to go on: above From also where compaction left no Records up to there
	Aborted   []AbortedTransaction // with ReadCommitted: those that overlap Records, by first offset
	Diverging *EpochEnd            // the client's last record is not in this log: no Records, truncate to this
}

// AbortedTransaction says that a producer's records from FirstOffset up to its next abort marker do not count.
type AbortedTransaction struct {
	ProducerID  kafka.ProducerID
	FirstOffset kafka.Offset
}

// Records are whole record batches: a stretch of a segment file, held against deletion until Release, or a copy. The
// first batch may begin below the offset that was asked for.
type Records struct {
	slice  log.Slice
	copied []byte
}

// Len is their size in bytes.
func (r *Records) Len() int { return int(r.slice.Length) + len(r.copied) }

// File is where they lie, length 0 if they are a copy (or nothing).
func (r *Records) File() (file vfs.File, position, length int64) {
	return r.slice.File, r.slice.Position, r.slice.Length
}

// AppendTo reads them all and appends them to dst.
func (r *Records) AppendTo(dst []byte) ([]byte, error) {
	dst = append(dst, r.copied...)
	if r.slice.Length == 0 {
		return dst, nil
	}
	n := len(dst)
	dst = append(dst, make([]byte, r.slice.Length)...)
	if got, err := r.slice.File.ReadAt(dst[n:], r.slice.Position); got < len(dst)-n {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return dst[:n], err
	}
	return dst, nil
}

// Release lets go of the file. It may be called again.
func (r *Records) Release() {
	if r.slice.Length > 0 {
		r.slice.Release()
	}
	*r = Records{}
}

// CopiedRecords are records that lie in memory. The bytes belong to them from now on.
func CopiedRecords(b []byte) Records { return Records{copied: b} }
