package api

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
)

// InitProducerId (key 22, KIP-98): a producer ID for an idempotent producer.
//
//	2   flexible
//	3   the producer's present ID and epoch (KIP-360). Without a transactional ID they change nothing: the answer is a
//	    new ID, as in Kafka
//	4   PRODUCER_FENCED
//	5   TRANSACTION_ABORTABLE
//
// With a transactional ID it is refused: transactions come later. The error is the one that every client takes as final.
func (h *Handlers) initProducerID(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.InitProducerIDRequest)
	return func(ctx context.Context) Response {
		resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
		resp.ProducerID, resp.ProducerEpoch = -1, -1
		id, err := h.newProducerID(ctx, req)
		if err != nil {
			resp.ErrorCode = kafka.CodeOf(err)
		} else {
			resp.ProducerID, resp.ProducerEpoch = int64(id), 0
		}
		return Response{Message: resp}
	}
}

// transactionTimeoutMax is Kafka's transaction.max.timeout.ms.
const transactionTimeoutMax = 15 * time.Minute

func (h *Handlers) newProducerID(ctx context.Context, req *kmsg.InitProducerIDRequest) (kafka.ProducerID, error) {
	if req.Version >= 3 && (req.ProducerID == -1) != (req.ProducerEpoch == -1) {
		return 0, kafka.ErrInvalidRequest
	}
	if id := req.TransactionalID; id != nil {
		switch timeout := time.Duration(req.TransactionTimeoutMillis) * time.Millisecond; {
		case *id == "":
			return 0, kafka.ErrInvalidRequest
		case timeout <= 0 || timeout > transactionTimeoutMax:
			return 0, kafka.ErrInvalidTransactionTimeout
		}
		h.Logger.Warn("a transactional producer was refused: transactions are not supported by this version of chronik", "transactional.id", *id)
		return 0, kafka.ErrTransactionalIDAuthorizationFailed
	}
	ctx, cancel := h.within(ctx, int32(producerIDWait.Milliseconds()))
	defer cancel()
	return h.producerIDs.next(ctx, h.Store)
}

const producerIDWait = 5 * time.Second

// producerIDs gives out producer IDs from blocks that the metadata reserved for this node; the zero value has none yet.
type producerIDs struct {
	mu struct {
		sync.Mutex
		next, end kafka.ProducerID
		filling   chan struct{} // closed when the request for a block has been answered; nil if there is none
	}
}

// allocator is what reserves blocks: the metadata store.
type allocator interface {
	AllocateProducerIDs(ctx context.Context) (first kafka.ProducerID, count int64, err error)
}

// next gives out an ID that nobody else will ever have. COORDINATOR_LOAD_IN_PROGRESS, which clients retry, if no block
// could be had.
func (p *producerIDs) next(ctx context.Context, a allocator) (kafka.ProducerID, error) {
	for {
		p.mu.Lock()
		if p.mu.next < p.mu.end {
			id := p.mu.next
			p.mu.next++
			p.mu.Unlock()
			return id, nil
		}
		if wait := p.mu.filling; wait != nil {
			p.mu.Unlock()
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return 0, kafka.ErrCoordinatorLoadInProgress
			}
		}
		p.mu.filling = make(chan struct{})
		p.mu.Unlock()
		if err := p.fill(ctx, a); err != nil {
			return 0, kafka.ErrCoordinatorLoadInProgress.With("no block of producer IDs could be reserved: %v", err)
		}
	}
}

func (p *producerIDs) fill(ctx context.Context, a allocator) error {
	first, count, err := a.AllocateProducerIDs(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.mu.next, p.mu.end = first, first+kafka.ProducerID(count)
	}
	close(p.mu.filling)
	p.mu.filling = nil
	return err
}
