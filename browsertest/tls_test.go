package browsertest

import (
	"net"
	"testing"
)

func TestChromium_TLS(t *testing.T) {
	t.Parallel()
	node, chromium := needNode(t), needChromium(t)
	hub := startTLS(t, nil, "--http3", "--max-streams-per-address", "12")
	_, port, err := net.SplitHostPort(hub.host)
	if err != nil {
		t.Fatal(err)
	}
	trust := []string{"NODE_EXTRA_CA_CERTS=" + certificateFile(t, hub.certificate)}
	runChecks(t, trust, node, "tls.mjs", "https://localhost:"+port+"/", chromium, keyHash(hub.certificate))
}
