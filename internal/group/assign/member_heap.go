package assign

// memberHeap is a heap of members in which one can be found and moved.
type memberHeap struct {
	items  []int32
	at     []int32 // by member: position in items; nobody if it is not there
	before func(a, b int32) bool
}

// newMemberHeap makes an empty one. at is room for positions, of each member, which heaps may share that never have the same
// member; what is in it before does not matter, for only members that were added are asked about.
func newMemberHeap(at []int32, before func(a, b int32) bool) *memberHeap {
	return &memberHeap{at: at, before: before}
}

func (h *memberHeap) empty() bool { return len(h.items) == 0 }
func (h *memberHeap) top() int32  { return h.items[0] }

func (h *memberHeap) add(m int32) {
	h.at[m] = int32(len(h.items))
	h.items = append(h.items, m)
	h.up(len(h.items) - 1)
}

// fix puts a member in its place after its order has changed; nothing if it is not there.
func (h *memberHeap) fix(m int32) {
	if i := h.at[m]; i != nobody {
		h.up(int(i))
		h.down(int(h.at[m]))
	}
}

func (h *memberHeap) remove(m int32) {
	i, last := int(h.at[m]), len(h.items)-1
	h.swap(i, last)
	h.items = h.items[:last]
	h.at[m] = nobody
	if i < last {
		h.fix(h.items[i])
	}
}

func (h *memberHeap) up(i int) {
	for i > 0 && h.before(h.items[i], h.items[(i-1)/2]) {
		h.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (h *memberHeap) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(h.items) {
			return
		}
		if child+1 < len(h.items) && h.before(h.items[child+1], h.items[child]) {
			child++
		}
		if !h.before(h.items[child], h.items[i]) {
			return
		}
		h.swap(i, child)
		i = child
	}
}

func (h *memberHeap) swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	h.at[h.items[i]], h.at[h.items[j]] = int32(i), int32(j)
}
