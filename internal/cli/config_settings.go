package cli

import (
	"strings"
	"time"

	"github.com/tidewire/tidewire/auth"
	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/log/disk"
	"github.com/tidewire/tidewire/server"
)

// A setting is one thing that a server can be told: by a flag, by a variable of the
// environment, and by a key of the configuration file. All of those, the help, and the
// reference come from what stands here.
type setting struct {
	name  string // of the flag and the key
	kind  settingKind
	list  bool   // of values, each of which is read by itself
	def   string // the default, as it is written; "" for none
	words string // what to say of the default where nothing is written
	help  string // what a value is called stands in backquotes, as pflag has it
	group settingGroup

	secret bool // its value is never shown
	reload bool // SIGHUP can change it

	// needs are settings of which one must be given where this one is.
	needs []string

	// read takes one value in. The error says what would be right.
	read func(value string) error
}

// variable is the setting's name in the environment.
func (s *setting) variable() string { return variable(s.name) }

func variable(name string) string {
	return "TIDEWIRE_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// A settingGroup is a heading of the help and the reference.
type settingGroup int

const (
	groupServer settingGroup = iota
	groupHistory
	groupDelivery
	groupAuth
	groupTransport
	groupLimits
	groups
)

func (g settingGroup) String() string {
	return [...]string{"Server", "History", "Delivery", "Authorisation", "TLS and proxies", "Limits"}[g]
}

// A draft is a configuration that is being read.
type draft struct {
	server server.Config
	auth   authSettings
	memory bool
	tls    string
	demo   bool // there is no data directory to speak of
}

// settings are all there are, in the order of the help. What they read goes to the draft.
func (d *draft) settings() []setting {
	c, h, l, t := &d.server, &d.server.Hub, &d.server.Limits, &d.server.Transport
	a, o := &d.auth, &d.auth.access.Options
	var all []setting
	group := func(g settingGroup, some ...setting) {
		for _, s := range some {
			s.group = g
			all = append(all, s)
		}
	}
	group(groupServer,
		setting{name: "listen", def: server.DefaultListen, help: "`address` to listen on; others than this machine's own need keys, or --anonymous; port 0 takes any free one", read: readText(&c.Listen)},
		setting{name: "drain-timeout", kind: durationSetting, def: brief(server.DefaultDrainTimeout), help: "how long an orderly stop may take", read: readDuration(&c.DrainTimeout)},
	)

	retain, history := server.DefaultRetain, size(server.DefaultHistoryBytes)
	if memory, bytes := server.DefaultMemoryRetain, size(server.DefaultMemoryHistoryBytes); d.demo {
		retain, history = memory, bytes
	} else {
		retain, history = retain+", in memory "+memory, history+", in memory "+bytes
		group(groupHistory,
			setting{name: "data", def: defaultData, help: "`directory` that keeps the history", read: readText(&c.Data)},
			setting{name: "memory", kind: toggleSetting, help: "keep the history in memory, until the process ends", read: readToggle(&d.memory)},
			setting{name: "sync", def: disk.SyncAlways.String(), help: "`when` a publish is answered: always, when the disk has it; interval=100ms, the end of the machine can lose so much; never, half a minute or so", read: readBy(&c.Sync, disk.ParseSync)},
			setting{name: "min-free", kind: sizeSetting, words: size(disk.DefaultMinFree) + ", or a twentieth of the disk", help: "`bytes` that must stay free on the disk, or publishing is refused; 0 for none", read: readSizeOrNone(&c.MinFree)},
		)
	}
	group(groupHistory,
		setting{name: "retain", list: true, words: retain, reload: true, help: "`pattern=bounds` of a topic's history: age:24h, count:1000, bytes:64MiB, or latest for one event, or all; the first that matches counts", read: readEach((*[]hub.RetentionRule)(&c.Retention), server.ParseRetain)},
		setting{name: "history", kind: sizeSetting, words: history, reload: true, help: "`bytes` of all topics' history together; 0 for no bound", read: readSizeOrNone(&c.HistoryBytes)},
	)

	group(groupDelivery,
		setting{name: "heartbeat", kind: durationSetting, def: brief(hub.DefaultHeartbeat), help: "how long a stream may be idle before a comment keeps it open; 0 for ever", read: readDurationOrNone(&h.Heartbeat)},
		setting{name: "retry", kind: durationSetting, def: brief(hub.DefaultRetry), help: "reconnection time that subscribers are told", read: readDuration(&h.Retry)},
		setting{name: "write-timeout", kind: durationSetting, def: brief(hub.DefaultWriteTimeout), help: "how long a subscriber may take nothing before it is cut off", read: readDuration(&h.WriteTimeout)},
		setting{name: "compression", def: "gzip", help: "`coding` of what subscribers get who ask for it: gzip, or off, for topics that have both secrets and text that others may choose", read: readBy(&h.Compression, parseCompression)},
		setting{name: "slow", list: true, words: "**=replay", help: "`pattern=policy` for a subscriber that takes nothing while events wait: replay sends it all of them, later; latest,lag:1000 skips to the newest event; disconnect,lag:1000 closes its connection; the first that matches counts", read: readEach((*[]hub.SlowRule)(&h.Slow), server.ParseSlow)},
	)

	tokens := []string{"token-secret", "token-key", "token-jwks"}
	group(groupAuth,
		setting{name: "token-secret", secret: true, reload: true, help: "`secret` of 32 bytes or more that signs tokens (HS256); in the environment others on this machine do not see it", read: a.readSecret},
		setting{name: "token-key", list: true, reload: true, help: "`algorithm:file` of a public key that tokens are checked with, such as ES256:issuer.pem, and perhaps # and its key id", read: readEach(&o.Keys, auth.ParseKey)},
		setting{name: "token-jwks", list: true, reload: true, help: "`URL` of a set of keys that tokens are checked with (JWKS)", read: readEach(&o.JWKS, parseJWKS)},
		setting{name: "token-issuer", reload: true, needs: tokens, help: "`text` that a token's iss must be", read: readText(&o.Issuer)},
		setting{name: "token-audience", list: true, reload: true, needs: tokens, help: "`text` of which a token's aud must have one", read: readEach(&o.Audience, asIs)},
		setting{name: "token-require-expiry", kind: toggleSetting, reload: true, needs: tokens, help: "refuse tokens that have no exp", read: readToggle(&o.RequireExpiry)},
		setting{name: "token-leeway", kind: durationSetting, def: brief(auth.DefaultLeeway), reload: true, help: "how far clocks may be apart; 0 for not at all", read: readDurationOrNone(&o.Leeway)},
		setting{name: "token-cookie", def: auth.DefaultCookie, reload: true, help: "`name` of a cookie that may carry a token; - for none", read: readBy(&o.Cookie, parseCookieName)},
		setting{name: "keys", reload: true, help: "`file` of publishers' keys, which \"tidewire key new\" makes", read: a.readPublishers},
		setting{name: "authorize-url", reload: true, help: "`URL` of the application, which is asked who may do what", read: readBy(&a.access.Application.URL, parseURL)},
		setting{name: "authorize-timeout", kind: durationSetting, def: brief(auth.DefaultApplicationTimeout), reload: true, help: "how long the application may take to answer", read: readDuration(&a.access.Application.Timeout)},
		setting{name: "anonymous", list: true, reload: true, words: "nothing with keys, and everything without, on this machine", help: "`what` anyone may do without credentials: subscribe, publish, or with a pattern, subscribe:news/**", read: a.readAnonymous},
		setting{name: "ticket-secret", secret: true, words: "one that is kept in the data directory", help: "`secret` of 32 bytes or more that signs tickets", read: a.readTicketSecret},
		setting{name: "ticket-life", kind: durationSetting, def: brief(auth.DefaultTicketLife), help: "how long a ticket is good at most", read: readDuration(&a.access.Tickets.Life)},
		setting{name: "allow-origin", list: true, help: "`origin` whose pages may use the hub from a browser, such as https://example.com, or *", read: readEach(&h.AllowedOrigins, parseOrigin)},
		setting{name: "allow-credentials", kind: toggleSetting, help: "let cookies come with requests from the allowed origins", read: readToggle(&h.AllowCredentials)},
	)

	group(groupTransport,
		setting{name: "tls", words: "off, and files with tls-cert", help: "`where` certificates come from: off, for clear text; dev, one of its own for localhost; files; acme, an authority such as Let's Encrypt", read: readBy(&d.tls, parseTLS)},
		setting{name: "tls-cert", reload: true, needs: []string{"tls-key"}, help: "`file` of the certificate, and those up to the root, in PEM; it is read again when it changes", read: readText(&t.CertFile)},
		setting{name: "tls-key", reload: true, needs: []string{"tls-cert"}, help: "`file` of the certificate's private key, in PEM", read: readText(&t.KeyFile)},
		setting{name: "acme-domain", list: true, help: "`name` to have certificates for, with --tls=acme", read: readEach(&t.ACME.Domains, parseDomain)},
		setting{name: "acme-email", needs: []string{"acme-domain"}, help: "`address` to which the authority may write", read: readText(&t.ACME.Email)},
		setting{name: "acme-directory", needs: []string{"acme-domain"}, words: "Let's Encrypt", help: "`URL` of the authority", read: readBy(&t.ACME.Directory, parseURL)},
		setting{name: "acme-roots", needs: []string{"acme-domain"}, words: "the system's", help: "`file` of certificates, in PEM, that a private authority's own URL is trusted by", read: readBy(&t.ACME.Roots, parseRoots)},
		setting{name: "acme-cache", needs: []string{"acme-domain"}, words: "acme in the data directory", help: "`directory` that keeps the keys and certificates", read: readText(&t.ACME.Cache)},
		setting{name: "http3", kind: toggleSetting, help: "speak HTTP/3 too, over UDP at the same port; it needs TLS", read: readToggle(&t.HTTP3)},
		setting{name: "trusted-proxy", list: true, help: "`addresses` of proxies, such as 10.0.0.0/8, whose word on the client's address counts", read: readEach(&t.TrustedProxies, parsePrefix)},
		setting{name: "forwarded-header", def: server.XForwardedFor, help: "`header` in which those proxies say it, X-Forwarded-For or Forwarded; they must set it themselves", read: readBy(&t.ForwardedHeader, parseForwardedHeader)},
		setting{name: "proxy-protocol", kind: toggleSetting, needs: []string{"trusted-proxy"}, help: "expect a header of the PROXY protocol from those proxies", read: readToggle(&t.ProxyProtocol)},
		setting{name: "allow-host", list: true, help: "`name` by which the server may be reached while anyone may come in, beside its addresses and localhost; * for all", read: readEach(&t.AllowedHosts, parseHost)},
	)

	none := "; 0 for no bound"
	local := func(n int) string { return number(n) + ", and no bound for addresses of this machine" }
	group(groupLimits,
		setting{name: "max-connections", kind: countSetting, reload: true, words: "nine tenths of the file descriptors that the process may have", help: "connections at most" + none, read: readCountOrNone(&l.Connections)},
		setting{name: "max-waiting", kind: countSetting, reload: true, words: "a quarter of max-connections, and 4096 at most", help: "connections at most whose request has not all come" + none, read: readCountOrNone(&l.Waiting)},
		setting{name: "max-connections-per-address", kind: countSetting, reload: true, words: local(server.DefaultConnectionsPerAddress), help: "connections of an address at most; a trusted proxy has no bound" + none, read: readCountOrNone(&l.ConnectionsPerAddress)},
		setting{name: "max-streams", kind: countSetting, reload: true, words: "nine tenths of max-connections", help: "streams at most" + none, read: readCountOrNone(&l.Streams)},
		setting{name: "max-streams-per-address", kind: countSetting, reload: true, words: local(server.DefaultStreamsPerAddress), help: "streams of an address at most" + none, read: readCountOrNone(&l.StreamsPerAddress)},
		setting{name: "max-streams-per-subject", kind: countSetting, reload: true, def: number(server.DefaultStreamsPerSubject), help: "streams of a token's subject at most" + none, read: readCountOrNone(&l.StreamsPerSubject)},
		setting{name: "max-streams-per-connection", kind: countSetting, def: number(server.DefaultStreamsPerConnection), help: "requests under way on a connection of HTTP/2 or HTTP/3 at most", read: readCount(&t.StreamsPerConnection)},
		setting{name: "connect-rate", kind: rateSetting, reload: true, words: local(server.DefaultConnectRate), help: "streams that an address may begin a `second`, and twice as many at once" + none, read: readRateOrNone(&l.ConnectRate)},
		setting{name: "publish-rate", kind: rateSetting, reload: true, words: "no bound", help: "requests to publish of a subject, or an address, a `second`, and twice as many at once", read: readRateOrNone(&l.PublishRate)},
		setting{name: "header-timeout", kind: durationSetting, reload: true, def: brief(server.DefaultHeaderTimeout), help: "how long a request's headers may take" + none, read: readDurationOrNone(&l.HeaderTimeout)},
		setting{name: "body-timeout", kind: durationSetting, reload: true, def: brief(server.DefaultBodyTimeout), help: "how long each next 4 KiB of a body may take" + none, read: readDurationOrNone(&l.BodyTimeout)},
		setting{name: "idle-timeout", kind: durationSetting, reload: true, def: brief(server.DefaultIdleTimeout), help: "how long a connection may be idle between requests" + none, read: readDurationOrNone(&l.IdleTimeout)},
		setting{name: "max-event", kind: sizeSetting, reload: true, def: size(hub.DefaultMaxEventSize), help: "`bytes` of an event's data at most", read: readSize(&h.Limits.EventSize, 1)},
		setting{name: "max-batch", kind: sizeSetting, reload: true, def: size(hub.DefaultMaxBatchSize), help: "`bytes` of a batch's body at most", read: readSize(&h.Limits.BatchSize, 1)},
		setting{name: "max-batch-events", kind: countSetting, reload: true, def: number(hub.DefaultMaxBatchEvents), help: "events in a batch at most", read: readCount(&h.Limits.BatchEvents)},
		setting{name: "max-topics", kind: countSetting, reload: true, def: number(hub.DefaultMaxTopics), help: "topics and patterns of a request or an event at most", read: readCount(&h.Limits.Topics)},
		setting{name: "max-id", kind: countSetting, reload: true, def: number(hub.DefaultMaxIDSize), help: "bytes of an id, a type or an idempotency key at most", read: readCount(&h.Limits.IDSize)},
		setting{name: "max-headers", kind: sizeSetting, reload: true, def: size(hub.DefaultMaxHeaderSize), help: "`bytes` of a request's URL and headers at most", read: readSize(&h.Limits.HeaderSize, 1024)},
	)
	return all
}

// brief writes a duration as people do: 2m, not 2m0s.
func brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
