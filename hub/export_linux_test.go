//go:build linux && !portable && (amd64 || arm64)

package hub

// StaleRuns returns how much in gzip is kept of events that the hot log has let go of.
func (h *Hub) StaleRuns() (n int) {
	h.hot.mu.Lock()
	defer h.hot.mu.Unlock()
	for _, t := range h.hot.topics {
		for _, runs := range []laneRuns{t.lane.gzip.runs, t.lane.gzip.inContext} {
			for _, r := range runs {
				if r.end() <= t.lane.base {
					n++
				}
			}
		}
	}
	return n
}
