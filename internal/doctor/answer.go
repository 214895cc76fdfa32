package doctor

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// lateAfter is what makes a delay one that people notice. It is also well below the 200 ms
// for which a proxy may hold back what is not a full packet.
const lateAfter = 100 * time.Millisecond

// lookAtAnswer asks for the stream, looks at the headers of the answer, and waits for the
// first bytes.
func (x *examination) lookAtAnswer(ctx context.Context) error {
	x.progress("the connection and the first bytes")
	x.lookAtHead(ctx)
	a, err := x.ask(ctx, http.MethodGet, x.url, "", subscription("identity", ""))
	switch {
	case err == errSilent && a.peer != "":
		x.silent()
		return errOver
	case err != nil:
		x.unreachable(a, err)
		return errOver
	}
	x.plain = a
	x.lookAtConnection(a)
	x.lookAtProxies(a.Header)
	x.tellProxies()
	x.lookAtClock(a)
	if !x.lookAtStatus(a) {
		a.end()
		return errOver
	}
	if !x.lookAtHeaders(a) {
		a.end()
		return errOver
	}
	s := a.read()
	defer s.close()
	x.lookAtFirstBytes(ctx, s)
	if !x.started && s.ended != nil {
		return errOver
	}
	return nil
}

// lookAtHead finds out whether the server is a hub of ours, and how long an answer without
// a body takes.
func (x *examination) lookAtHead(ctx context.Context) {
	target := x.url
	if x.probe != "" {
		target = x.probe
	}
	a, err := x.ask(ctx, http.MethodHead, target, "", nil)
	if err != nil {
		return // the stream itself tells why
	}
	a.end()
	x.head = a.came.Sub(a.sent)
	x.lookAtProxies(a.Header)
	x.report.Tidewire = a.Header.Get("Tidewire-Closed") != ""
}

// silent tells of a stream whose headers have not come.
func (x *examination) silent() {
	x.tellProxies()
	if x.head == 0 {
		x.problem("answer", buffering, measured{"waited_ms": ms(x.timeout)}, "no answer came in %s: onopen does not fire, and no event can come. Does it come through a proxy that waits for the end of the stream, or from a server that sends its headers with the first event only?", brief(x.timeout))
		return
	}
	x.problem("first-bytes", buffering, measured{"waited_ms": ms(x.timeout), "head_ms": ms(x.head)}, "a HEAD was answered after %s, but of the stream not even headers came in %s: a proxy holds it back until it ends, or the server until the first event", brief(x.head), brief(x.timeout))
}

// unreachable tells of a request that has failed, of which the answer knows how far it came.
func (x *examination) unreachable(a *answer, err error) {
	var (
		certificate *tls.CertificateVerificationError
		request     *url.Error
	)
	switch {
	case errors.As(err, &certificate):
		x.problem("certificate", https, nil, "browsers do not connect: %v. Where an authority of your own has signed it, SSL_CERT_FILE=FILE has this program trust it", certificate.Err)
	case (err == errSilent || os.IsTimeout(err)) && a.reached.Load(): // the latter is net/http's own
		x.problem("connection", https, measured{"waited_ms": ms(x.timeout)}, "the port takes connections, but the TLS handshake was not done in %s: does it speak https?", brief(x.timeout))
	case err == errSilent:
		x.problem("connection", "", measured{"waited_ms": ms(x.timeout)}, "no connection in %s: is the address right, and does a firewall let it through?", brief(x.timeout))
	case errors.Is(err, io.EOF):
		x.problem("connection", "", nil, "the connection was closed before there was an answer: does the port speak http, or https, and is a server behind it?")
	case errors.As(err, &request):
		x.problem("connection", "", nil, "there is no answer: %v", request.Err)
	default:
		x.problem("connection", "", nil, "there is no answer: %v", err)
	}
}

// lookAtConnection tells how the server was reached.
func (x *examination) lookAtConnection(a *answer) {
	m := measured{"connect_ms": ms(a.connect), "answer_ms": ms(a.came.Sub(a.sent)), "peer": a.peer}
	x.ok("connection", m, "%s was connected to in %s, and answered after %s", a.peer, brief(a.connect), brief(a.came.Sub(a.sent)))
	if len(a.via) > 0 {
		final := redacted(a.Request.URL.String())
		x.note("redirect", "", measured{"redirects": len(a.via)}, "%s leads on to %s: when the stream breaks some browsers ask that URL and others the first one, so give pages the last one", strings.Join(a.via, " and "), final)
	}
	if a.TLS != nil {
		x.lookAtCertificate(a.TLS)
	}
	switch {
	case a.ProtoMajor >= 2:
		x.ok("protocol", measured{"protocol": a.Proto}, "%s: all tabs share one connection", a.Proto)
	case a.TLS != nil:
		x.note("protocol", http2, measured{"protocol": a.Proto}, "%s: a browser opens six connections to a server, so the seventh tab with a stream does not even load; HTTP/2 was offered and not taken", a.Proto)
	default:
		x.note("protocol", http2, measured{"protocol": a.Proto}, "%s: a browser opens six connections to a server, so the seventh tab with a stream does not even load; HTTP/2 needs https", a.Proto)
	}
}

// lookAtCertificate tells how long the certificate is good.
func (x *examination) lookAtCertificate(c *tls.ConnectionState) {
	leaf := c.PeerCertificates[0]
	left, life := time.Until(leaf.NotAfter), leaf.NotAfter.Sub(leaf.NotBefore)
	m := measured{"days_left": int(left.Hours() / 24), "until": leaf.NotAfter.UTC().Format(time.RFC3339)}
	const day = 24 * time.Hour
	switch text := fmt.Sprintf("the certificate is good until %s, %.1f days more", leaf.NotAfter.UTC().Format(time.RFC3339), left.Hours()/24); {
	case left < min(life/10, 14*day):
		x.problem("certificate", https, m, "%s: renew it now, as what should have done so has not", text)
	case left < min(life/3, 30*day):
		x.note("certificate", https, m, "%s: is its renewal due?", text)
	default:
		x.ok("certificate", m, "%s", text)
	}
}

// lookAtStatus tells whether there is a stream.
func (x *examination) lookAtStatus(a *answer) bool {
	m := measured{"status": a.StatusCode}
	switch {
	case a.StatusCode == http.StatusOK:
		return true
	case a.StatusCode == http.StatusNoContent:
		x.note("status", "", m, "204: the server says that nothing more will come, and an EventSource stays closed")
		return false
	}
	text := fmt.Sprintf("the server answered %s, after which an EventSource stays closed", a.Status)
	if why := x.explanation(a); why != "" {
		text += ": " + why
	}
	switch a.StatusCode {
	case http.StatusUnauthorized:
		if x.header.Get("Authorization") != "" {
			text += "; the token that was sent is not taken: tidewire token explain tells what is in it"
			break
		}
		text += "; give this program a token with --token, or a hub's in TIDEWIRE_TOKEN with its URL in TIDEWIRE_URL, and pages a cookie or a ticket in the URL, as an EventSource sends no header of theirs"
	case http.StatusForbidden:
		text += "; the credentials were understood, and do not suffice"
	case http.StatusMisdirectedRequest:
		text += "; a proxy may have to pass on another Host"
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		text += "; if a proxy says so, it does not reach the server behind it"
	}
	x.problem("status", "", m, "%s", text)
	return false
}

// explanation returns what a refusal says of itself (RFC 9457), or the first line of it. It
// waits for timeout at most.
func (x *examination) explanation(a *answer) string {
	defer time.AfterFunc(x.timeout, a.end).Stop()
	b, _ := io.ReadAll(io.LimitReader(a.Body, 64<<10)) // half of it is better than nothing
	media, _, _ := mime.ParseMediaType(a.Header.Get("Content-Type"))
	var p struct{ Type, Title, Detail, Field string }
	switch {
	case media == "application/problem+json" && json.Unmarshal(b, &p) == nil:
		text := p.Detail
		if text == "" {
			text = p.Title
		}
		if p.Field != "" {
			text += fmt.Sprintf(" (field %q)", p.Field)
		}
		if p.Type != "" {
			text += " [" + p.Type + "]"
		}
		return text
	case media == "text/plain":
		line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
		return line[:min(len(line), 300)]
	}
	return ""
}

// lookAtFirstBytes waits for what makes a stream one.
func (x *examination) lookAtFirstBytes(ctx context.Context, s *stream) {
	var retry time.Duration
	n, ok := s.await(ctx, x.timeout, nil, someBytes)
	if ok { // retry: is told just after the bytes that it is in
		_, _ = s.await(ctx, lateAfter, func(n news) { retry = max(retry, n.retry) }, func(n news) bool { return n.retry > 0 || n.event != nil || n.end != nil })
	}
	x.started = ok
	after := n.at.Sub(s.sent)
	for range 4 { // a few times may be chance, or a busy machine
		if ok && x.head > 0 && after-x.head > lateAfter {
			after = min(after, x.firstByteAgain(ctx, after))
		}
	}
	m := measured{"first_byte_ms": ms(after), "headers_ms": ms(s.came.Sub(s.sent)), "head_ms": ms(x.head)}
	switch {
	case !ok && s.ended != nil:
		x.problem("first-bytes", "", nil, "the headers came, and the stream %s without a byte: browsers come back to it again and again", ending(s.ended))
	case !ok && x.report.Tidewire:
		x.problem("first-bytes", buffering, measured{"waited_ms": ms(x.timeout)}, "the headers came, and then nothing in %s, though a hub sends retry: at once: a proxy holds the stream back", brief(x.timeout))
	case !ok:
		x.note("first-bytes", buffering, measured{"waited_ms": ms(x.timeout)}, "the headers came, and then nothing in %s: either there was nothing to send, or a proxy holds it back. A comment line as the first thing in a stream would tell", brief(x.timeout))
	case x.head > 0 && after-x.head > lateAfter && x.report.Tidewire:
		x.problem("first-bytes", lateness, m, "they came after %s, where an answer without a body came after %s: a proxy waits for more to send with them", brief(after), brief(x.head))
	case x.head > 0 && after-x.head > lateAfter:
		x.note("first-bytes", lateness, m, "they came after %s, where an answer without a body came after %s: either the server takes so long, or a proxy waits for more to send with them", brief(after), brief(x.head))
	default:
		x.ok("first-bytes", m, "they came after %s", brief(after))
	}
	if ok && retry > 0 {
		x.ok("retry", measured{"retry_ms": ms(retry)}, "after a break a browser comes back in %s", brief(retry))
	}
}

// firstByteAgain measures once more how long the first byte takes, and returns otherwise
// if that cannot be told.
func (x *examination) firstByteAgain(ctx context.Context, otherwise time.Duration) time.Duration {
	s, err := x.subscribe(ctx, x.url, "identity", "")
	if err != nil {
		return otherwise
	}
	defer s.close()
	n, ok := s.await(ctx, x.timeout, nil, someBytes)
	if !ok {
		return otherwise
	}
	return n.at.Sub(s.sent)
}
