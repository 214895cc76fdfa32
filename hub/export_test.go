package hub

// Subscriptions returns how many subscriptions are open.
func (h *Hub) Subscriptions() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.streams
}
