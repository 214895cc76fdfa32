package load

func newClient(r *run) (client, error) {
	if r.portable() {
		return newPortableClient(r), nil
	}
	return newRawClient(r)
}

func (r *run) portable() bool { return r.opts.Portable || r.opts.URL.Scheme == "https" }

func (r *run) clientForm() string {
	if r.portable() {
		return "net/http"
	}
	return "epoll"
}
