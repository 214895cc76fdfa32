package doctor

// A cause is what remedies help against, and the heading in docs/proxies.md that says more.
type cause string

const (
	buffering   cause = "buffering"
	lateness    cause = "lateness"
	compression cause = "compression"
	caching     cause = "caching"
	headers     cause = "headers"
	idle        cause = "idle-time-outs"
	http2       cause = "http2"
	https       cause = "certificates"
	cors        cause = "cors"
	resume      cause = "resumption"
	clock       cause = "clocks"
)

// Whom remedies are for.
const (
	forServer     = "server"
	forTidewire   = "tidewire"
	forNginx      = "nginx"
	forCaddy      = "Caddy"
	forApache     = "Apache"
	forHAProxy    = "HAProxy"
	forAWS        = "AWS ALB"
	forCloudFront = "CloudFront"
	forGoogle     = "Google Cloud"
	forAzure      = "Azure App Gateway"
	forCloudflare = "Cloudflare"
)

// remedies stand in docs/proxies.md too, with their surroundings.
var remedies = map[cause][]Remedy{
	buffering: {
		{forServer, "send X-Accel-Buffering: no, and a comment line at once, as tidewire does"},
		{forNginx, "proxy_buffering off; (in the location of the stream; of each nginx on the way)"},
		{forCaddy, "flush_interval -1 (in reverse_proxy)"},
		{forApache, `ProxyPass "/events" "http://127.0.0.1:7730/events" flushpackets=on`},
		{forHAProxy, "option http-no-delay (it never waits for the end)"},
		{forAWS, "none needed; an API Gateway in its place buffers: use a load balancer"},
		{forGoogle, "none needed"},
		{forAzure, "az network application-gateway update -g GROUP -n NAME --set globalConfiguration.enableResponseBuffering=false"},
		{forCloudflare, "Content-Type: text/event-stream has it stream; Cache-Control: no-store, no-transform has it leave the stream alone"},
	},
	lateness: {
		{forHAProxy, "option http-no-delay (in defaults, or in the frontend and the backend)"},
		{forNginx, "proxy_buffering off; tcp_nodelay on;"},
		{forCaddy, "flush_interval -1 (in reverse_proxy)"},
		{forApache, "flushpackets=on, with no flushwait (in ProxyPass)"},
		{forAzure, "az network application-gateway update -g GROUP -n NAME --set globalConfiguration.enableResponseBuffering=false"},
	},
	compression: {
		{forNginx, "gzip off; (in the location of the stream), or gzip_types without text/event-stream and without *"},
		{forCaddy, "@plain not path /events /events/*, and encode @plain gzip"},
		{forApache, `SetEnvIf Request_URI "^/events" no-gzip=1 no-brotli=1`},
		{forHAProxy, "compression type without text/event-stream"},
		{forCloudFront, "Compress objects automatically: No (in the behavior of the stream)"},
		{forGoogle, "gcloud compute backend-services update NAME --compression-mode=DISABLED"},
		{forCloudflare, "Cache-Control: no-store, no-transform, from the server"},
	},
	caching: {
		{forServer, "send Cache-Control: no-store, as tidewire does"},
		{forNginx, "proxy_cache off;"},
		{forApache, `CacheDisable "/events"`},
		{forCloudFront, "the cache policy CachingDisabled (in the behavior of the stream)"},
		{forGoogle, "gcloud compute backend-services update NAME --no-enable-cdn"},
		{forCloudflare, "a cache rule for /events that bypasses the cache"},
	},
	headers: {
		{forServer, "send Content-Type: text/event-stream"},
		{forNginx, "no default_type, add_header or error_page that stands in for it"},
	},
	idle: {
		{forTidewire, "serve --heartbeat 15s (the default), and less than the proxy waits"},
		{forNginx, "proxy_read_timeout 1h;"},
		{forCaddy, "no read_timeout (in transport http), and no write (in servers timeouts); there is none by default"},
		{forApache, "ProxyTimeout 3600"},
		{forHAProxy, "timeout server 1h, and timeout client 1h"},
		{forAWS, "aws elbv2 modify-load-balancer-attributes --load-balancer-arn ARN --attributes Key=idle_timeout.timeout_seconds,Value=3600"},
		{forCloudFront, "origin response timeout: more than the heartbeat; no response completion timeout"},
		{forGoogle, "gcloud compute backend-services update NAME --timeout=86400 (it bounds the whole answer)"},
		{forAzure, "az network application-gateway http-settings update -g GROUP --gateway-name NAME -n SETTINGS --timeout 3600"},
		{forCloudflare, "a heartbeat of less than 100 s"},
	},
	http2: {
		{forTidewire, "serve --tls files --tls-cert cert.pem --tls-key key.pem"},
		{forNginx, "listen 443 ssl; http2 on; (before 1.25.1: listen 443 ssl http2;)"},
		{forCaddy, "a site with a name has it"},
		{forApache, "Protocols h2 http/1.1"},
		{forHAProxy, "bind :443 ssl crt FILE alpn h2,http/1.1"},
		{forAWS, "an HTTPS listener, and routing.http2.enabled=true (the default)"},
		{forGoogle, "a target HTTPS proxy has it"},
		{forAzure, "az network application-gateway update -g GROUP -n NAME --http2 Enabled"},
		{forCloudflare, "an edge certificate has it"},
	},
	https: {
		{forTidewire, "serve --tls acme --acme-domain events.example.com"},
		{forNginx, "ssl_certificate FULLCHAIN; ssl_certificate_key KEY; and nginx -s reload after each renewal"},
		{forCaddy, "a site with a name gets and renews it"},
		{forApache, "MDomain events.example.com (mod_md), and SSLEngine on"},
		{forHAProxy, "bind :443 ssl crt FILE (chain and key), and a reload after each renewal"},
		{forAWS, "a certificate of ACM renews itself while its DNS record is there"},
		{forGoogle, "a Google-managed certificate"},
		{forAzure, "a certificate in Key Vault, which the gateway follows"},
	},
	cors: {
		{forTidewire, "serve --allow-origin https://example.com, and --allow-credentials for cookies"},
		{forNginx, "no add_header Access-Control-… of its own, and proxy_pass for OPTIONS too"},
		{forCaddy, "no header Access-Control-… of its own"},
		{forApache, "no Header Access-Control-… of its own"},
		{forHAProxy, "no http-response add-header Access-Control-… of its own"},
		{forCloudFront, "the origin request policy AllViewer, and OPTIONS among the allowed methods"},
	},
	resume: {
		{forServer, "give each event an id, keep a history, and send what follows the Last-Event-ID of a request, as tidewire does"},
		{forNginx, "proxy_set_header Last-Event-ID $http_last_event_id; (only where proxy_pass_request_headers is off), and proxy_cache off;"},
		{forApache, "no RequestHeader unset Last-Event-ID"},
		{forHAProxy, "no http-request del-header Last-Event-ID; several servers must share a history"},
		{forCloudFront, "the origin request policy AllViewer: without one that header is not passed on"},
	},
	clock: {
		{forServer, "timedatectl set-ntp true"},
	},
}
