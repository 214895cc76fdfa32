package load

// A process is the server's, or several that share its listener. Nil is one that is not
// known: it takes nothing.
type process struct {
	pids []int
	name string
	kind string // what memory returns
}

// findServer looks for the process that has the hub's address open.
func (r *run) findServer() {
	switch {
	case r.opts.PID > 0:
		r.server = newProcess([]int{r.opts.PID})
	case r.opts.PID == 0 && r.target.local:
		if pids := listeners(r.target.address); len(pids) > 0 {
			r.server = newProcess(pids)
		}
	}
}
