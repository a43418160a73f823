package controller

import "slices"

// waitingAnswer is the answer to a command that writes nothing: a refusal, or the success of an earlier try. It rests on the
// image of a node that takes itself for the leader, which may have missed its deposition: like a heartbeat's answer it waits
// for a round of confirmation that begins after it was decided.
type waitingAnswer struct {
	call   *call
	result result
	round  uint64 // that confirms it; 0 until it is begun
}

// confirm has answers wait that no proposal carries. The loop's own calls need not.
func (l *loop) confirm(p *proposal) {
	for i, c := range p.calls {
		if c.notify != nil {
			c.answer(p.results[i])
			continue
		}
		l.beats.answers = append(l.beats.answers, &waitingAnswer{call: c, result: p.results[i]})
	}
}

// giveAnswers gives those that are confirmed.
func (l *loop) giveAnswers() {
	b := &l.beats
	b.answers = slices.DeleteFunc(b.answers, func(w *waitingAnswer) bool {
		if w.round == 0 || w.round > b.confirmed {
			return w.call.ctx.Err() != nil // nobody waits
		}
		w.call.answer(w.result)
		return true
	})
}

// takeBack is what losing the leadership does to answers that wait: their commands have done nothing, and another leader decides
// them. What the loop itself had in mind is for nobody.
func (l *loop) takeBack() {
	var queue []*call
	for _, w := range l.beats.answers {
		queue = append(queue, w.call)
	}
	l.beats.answers = nil
	for _, c := range l.commands.queue {
		if c.notify == nil {
			queue = append(queue, c)
		}
	}
	l.commands.queue = queue
}
