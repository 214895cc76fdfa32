package cli

import (
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

const (
	defaultURL = "http://127.0.0.1:7730"
	urlEnv     = "TIDEWIRE_URL"
	tokenEnv   = "TIDEWIRE_TOKEN"
)

// A hubFlags is how the commands that speak to a hub find it.
type hubFlags struct {
	url    string
	token  string
	header []string

	hubToken string // of the environment: for a hub, and not for any other URL
}

func (f *hubFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.url, "url", defaultURL, "the hub's `URL`; $"+urlEnv+" sets another default")
	cmd.Flags().StringVar(&f.token, "token", "", "send this `TOKEN` or publisher key, as Authorization: Bearer; $"+tokenEnv+" has one for the hub, which stands in no shell history")
	cmd.Flags().StringArrayVarP(&f.header, "header", "H", nil, "send this header, `'Name: value'`; may be repeated")
}

// base returns the hub's URL. The token of the environment is sent from then on.
func (f *hubFlags) base(cmd *cobra.Command, std IO) (*url.URL, error) {
	text, source := f.url, "--url"
	if env := std.Getenv(urlEnv); env != "" && !cmd.Flags().Changed("url") {
		text, source = env, urlEnv
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || !isHTTP(u.Scheme):
		return nil, usagef("%s is %q, which is not an http or https URL such as %s", source, text, defaultURL)
	case u.RawQuery != "" || u.Fragment != "":
		return nil, usagef("%s is %q, but a hub's URL has no query and no fragment", source, text)
	}
	f.hubToken = std.Getenv(tokenEnv)
	return u, nil
}

// headers returns those that --header gives, the token, and the program's own name.
func (f *hubFlags) headers() (http.Header, error) {
	h := http.Header{"User-Agent": {userAgent()}}
	own := true
	for _, line := range f.header {
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.TrimSpace(name), strings.Trim(value, " \t")
		if !ok || !isToken(name) {
			return nil, usagef("--header %q is not a header: write it as 'Name: value'", line)
		}
		if !isHeaderValue(value) {
			return nil, usagef("--header %q has a control character in its value, which HTTP does not allow", line)
		}
		if own && http.CanonicalHeaderKey(name) == "User-Agent" {
			h.Del(name)
			own = false
		}
		h.Add(name, value)
	}
	return h, f.authorize(h)
}

// authorize adds the token. Its errors do not repeat it.
func (f *hubFlags) authorize(h http.Header) error {
	text, source := f.token, "--token"
	switch {
	case text != "" && h["Authorization"] != nil:
		return usagef("--token and --header Authorization cannot be given together")
	case h["Authorization"] != nil:
		return nil
	case text == "":
		text, source = f.hubToken, tokenEnv
	}
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return nil
	case strings.ContainsAny(text, " \t") || !isHeaderValue(text):
		return usagef("%s has a blank or a control character in it: give the token alone, without \"Bearer\"", source)
	}
	h.Set("Authorization", "Bearer "+text)
	return nil
}

func userAgent() string {
	if info, ok := debug.ReadBuildInfo(); ok && strings.HasPrefix(info.Main.Version, "v") {
		return "tidewire/" + info.Main.Version
	}
	return "tidewire"
}

func isHTTP(scheme string) bool {
	return strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https")
}

// isToken tells whether s may name a header (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for _, c := range []byte(s) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// isHeaderValue tells whether a header may have the value (RFC 9110, section 5.5).
func isHeaderValue(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' && c != '\t' || c == 0x7F {
			return false
		}
	}
	return true
}

// eventsURL returns the URL under which a hub has topics and patterns.
func eventsURL(base *url.URL, topics, patterns []string, query url.Values) string {
	u := *base
	path := "/events"
	escaped := path
	if len(topics) == 1 && len(patterns) == 0 && survivesAsPath(topics[0]) {
		path += "/" + topics[0]
		escaped += "/" + escapeSegments(topics[0])
	} else {
		query["topic"] = topics
		query["pattern"] = patterns
	}
	u.Path, u.RawPath = strings.TrimRight(base.Path, "/")+path, strings.TrimRight(base.EscapedPath(), "/")+escaped
	u.RawQuery = query.Encode()
	return u.String()
}

// survivesAsPath tells whether a topic comes through what clients, proxies and routers
// do to paths: they take "a//b", "." and ".." away.
func survivesAsPath(topic string) bool {
	for segment := range strings.SplitSeq(topic, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

func escapeSegments(topic string) string {
	segments := strings.Split(topic, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	return strings.Join(segments, "/")
}

// checkTopics refuses what no hub takes and would change the meaning of a URL.
func checkTopics(what string, topics []string) error {
	for _, t := range topics {
		if t == "" {
			return usagef("a %s has at least one character", what)
		}
	}
	return nil
}

// newClient returns a client of its own, so that closing its connections closes
// nobody else's.
func newClient() *http.Client {
	return &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
}

// exclusive refuses flags that mean the same thing twice.
func exclusive(cmd *cobra.Command, names ...string) error {
	var given []string
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			given = append(given, "--"+name)
		}
	}
	if len(given) > 1 {
		return usagef("%s cannot be given together", strings.Join(given, " and "))
	}
	return nil
}

// needless refuses flags that have no meaning beside another.
func needless(cmd *cobra.Command, why string, names ...string) error {
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			return usagef("--%s %s", name, why)
		}
	}
	return nil
}

// hostOf names a URL's server in a message.
func hostOf(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "the server"
	}
	return fmt.Sprintf("%s://%s", u.Scheme, u.Host)
}

// redacted returns a URL without its password.
func redacted(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "the server"
	}
	return u.Redacted()
}
