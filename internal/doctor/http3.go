package doctor

import (
	"context"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// lookAtHTTP3 tries HTTP/3 where the answer announces it (RFC 7838).
func (x *examination) lookAtHTTP3(ctx context.Context) error {
	u := x.plain.Request.URL // where redirects have led
	to := alternative(x.plain.Header.Values("Alt-Svc"), u.Hostname())
	if to == "" {
		return nil
	}
	x.progress("HTTP/3")
	ctx, cancel := context.WithTimeout(ctx, x.timeout)
	defer cancel()
	config := x.tlsConfig()
	config.ServerName = u.Hostname() // whatever the alternative's name is (RFC 7838, section 2.1)
	t := &http3.Transport{
		TLSClientConfig:    config,
		DisableCompression: true,
		QUICConfig:         &quic.Config{HandshakeIdleTimeout: x.timeout},
	}
	defer func() { _ = t.Close() }() // it has no more to say than its requests
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, "https://"+to+u.RequestURI(), nil)
	if err != nil {
		return nil
	}
	for name, values := range x.header {
		req.Header[name] = values
	}
	req.Host = u.Host
	begun := time.Now()
	resp, err := t.RoundTrip(req)
	m := measured{"address": to, "answer_ms": ms(time.Since(begun))}
	if err != nil {
		x.note("http3", http2, m, "HTTP/3 is announced at %s (Alt-Svc) and does not answer there: %v. Let UDP through to that port, or take the announcement away", to, err)
		return nil
	}
	_ = resp.Body.Close()
	x.ok("http3", m, "HTTP/3 is announced at %s, and was answered after %s, the connection included", to, brief(time.Since(begun)))
	return nil
}

// alternative returns where HTTP/3 is announced, "" if it is not.
func alternative(announced []string, host string) string {
	for entry := range strings.SplitSeq(strings.Join(announced, ","), ",") {
		entry, _, _ = strings.Cut(entry, ";")
		protocol, at, _ := strings.Cut(strings.TrimSpace(entry), "=")
		name, port, err := net.SplitHostPort(strings.Trim(at, `"`))
		if protocol != "h3" || err != nil {
			continue
		}
		if name == "" {
			name = host
		}
		return net.JoinHostPort(name, port)
	}
	return ""
}
