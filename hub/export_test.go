package hub

// Streams returns how many subscriptions are open.
func (h *Hub) Streams() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.streams
}

// HotBytes returns how much the hot log has.
func (h *Hub) HotBytes() int {
	h.hot.mu.Lock()
	defer h.hot.mu.Unlock()
	bytes := 0
	for _, it := range h.hot.items {
		bytes += it.size()
	}
	if bytes != h.hot.bytes {
		panic("the hot log's bytes do not add up")
	}
	return bytes
}
