package bench

import (
	"context"
	"errors"
)

// Produce loads a topic with records and reports rates and the latency of each request (raw) or record (client).
func Produce(ctx context.Context, o Options) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	t, err := prepare(ctx, &o)
	if err != nil {
		return nil, err
	}
	r, err := produceTo(ctx, &o, t)
	return r, errors.Join(err, t.close(context.WithoutCancel(ctx)))
}

func produceTo(ctx context.Context, o *Options, t *target) (r *Report, err error) {
	var acked []ack
	if o.Driver == DriverRaw {
		r, acked, err = produceRaw(ctx, o, t)
	} else {
		r, acked, err = produceClient(ctx, o, t)
	}
	if err != nil || !o.Verify || o.Acks == 0 {
		return r, err
	}
	return r, verify(ctx, o, t, r, acked)
}

// Consume reads a topic from its start and reports rates and the latency of each fetch. A topic made for the workload is
// filled first, with o.Records records (1 GiB of values unless set).
func Consume(ctx context.Context, o Options) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	made := o.Topic == ""
	t, err := prepare(ctx, &o)
	if err != nil {
		return nil, err
	}
	r, err := consumeFrom(ctx, &o, t, made)
	return r, errors.Join(err, t.close(context.WithoutCancel(ctx)))
}

func consumeFrom(ctx context.Context, o *Options, t *target, fillFirst bool) (*Report, error) {
	if fillFirst {
		if err := fill(ctx, o, t); err != nil {
			return nil, err
		}
	}
	if o.Driver == DriverRaw {
		return consumeRaw(ctx, o, t)
	}
	return consumeClient(ctx, o, t)
}
