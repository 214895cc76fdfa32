package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4/json"

	"github.com/tidewire/tidewire/hub"
)

const (
	maxSetSize   = 1 << 20 // bytes of an answer
	maxSetKeys   = 200
	maxMissing   = 1000 // kids that a set is known not to have
	maxRedirects = 3

	fetchTimeout    = 10 * time.Second
	waitTimeout     = 5 * time.Second  // of a request, for a fetch
	fetchPause      = 10 * time.Second // between fetches that requests have asked for
	defaultInterval = 15 * time.Minute // between those of the owner
	minInterval     = time.Minute
	maxInterval     = 24 * time.Hour
	maxRetry        = time.Minute
	maxKeyAge       = 24 * time.Hour // since the last fetch that succeeded
)

// A keySet has the keys of a URL (RFC 7517, section 5). One goroutine fetches them: as often
// as the answer's max-age says, and when a token comes whose key is not there.
type keySet struct {
	url     string
	tickets *Tickets // that name the keys
	client  *http.Client
	now     func() time.Time
	logger  *slog.Logger
	changed func() // called after the keys have

	current atomic.Pointer[fetched]
	wake    chan struct{} // room for one
	stop    context.CancelFunc
	stopped chan struct{}

	mu      sync.Mutex
	next    *round          // that has not begun, or nil
	flight  *round          // that has begun and not ended, or nil
	free    time.Time       // from when on a request may have the keys fetched
	missing map[string]bool // kids that were not in the last fetch
}

// A fetched is what an answer had.
type fetched struct {
	text []byte
	keys []Key
	at   time.Time
}

// A round is a fetch with those who wait for it.
type round struct {
	done chan struct{}
	err  error // to be read when done
}

func newRound() *round { return &round{done: make(chan struct{})} }

// checkSetURL refuses what anyone on the way could change.
func checkSetURL(text string, insecure bool) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("a key set is at an https URL, such as https://login.example.com/jwks.json")
	case u.Scheme == "https" || insecure || isLoopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("key set %s: over http anyone on the way can put keys of their own in: use https, or say outright that http is allowed", u.Redacted())
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// newKeySet starts the goroutine, which close ends.
func newKeySet(u string, o *Options, changed func()) *keySet {
	client := *o.Client
	if client.CheckRedirect == nil {
		client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return errors.New("there are too many redirects")
			}
			return checkSetURL(r.URL.String(), o.InsecureJWKS)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &keySet{
		url: u, tickets: o.Tickets, client: &client, now: o.Now, logger: o.Logger, changed: changed,
		wake: make(chan struct{}, 1), stop: stop, stopped: make(chan struct{}),
		next: newRound(), missing: map[string]bool{},
	}
	go s.run(ctx)
	return s
}

// close waits for the goroutine. The keys may still be used.
func (s *keySet) close() {
	s.stop()
	<-s.stopped
}

// keys returns those that may be used; none before the first fetch, and when the last one is
// too long ago.
func (s *keySet) keys() []Key {
	f := s.current.Load()
	if f == nil || s.now().Sub(f.at) > maxKeyAge {
		return nil
	}
	return f.keys
}

func (s *keySet) run(ctx context.Context) {
	defer close(s.stopped)
	retry := time.Second
	for {
		s.mu.Lock()
		r := s.next
		if r == nil {
			r = newRound()
		}
		s.next, s.flight = nil, r
		s.mu.Unlock()
		interval, err := s.fetch(ctx)
		if err != nil && ctx.Err() == nil {
			s.logger.Warn("a key set could not be fetched: the keys of the last answer, if there was one, are good for a day", "url", redacted(s.url), "error", err, "retry", retry)
			interval, retry = retry, min(2*retry, maxRetry)
		} else {
			retry = time.Second
		}
		s.mu.Lock()
		s.flight = nil
		s.mu.Unlock()
		r.err = err
		close(r.done)
		timer := time.NewTimer(interval)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.wake:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// fetch gets the keys, and returns how long they are good for.
func (s *keySet) fetch(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, withoutURL(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("the answer is %s", resp.Status)
	}
	text, err := readBounded(resp.Body, maxSetSize)
	if err != nil {
		return 0, err
	}
	if err := s.take(text); err != nil {
		return 0, err
	}
	return freshness(resp.Header), nil
}

// take puts the keys of an answer in the place of those that were there.
func (s *keySet) take(text []byte) error {
	old := s.current.Load()
	f := &fetched{text: text, at: s.now()}
	same := old != nil && bytes.Equal(old.text, text)
	if same {
		f.keys = old.keys
	} else {
		keys, err := s.decode(text)
		if err != nil {
			return err
		}
		f.keys = keys
	}
	s.current.Store(f)
	s.mu.Lock()
	clear(s.missing)
	s.mu.Unlock()
	if !same {
		s.logger.Info("the keys of a key set have changed", "url", redacted(s.url), "keys", len(f.keys))
		s.changed()
	}
	return nil
}

// decode reads a set, and leaves out what is no key for tokens.
func (s *keySet) decode(text []byte) ([]Key, error) {
	var set struct {
		Keys *[]json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil || set.Keys == nil {
		return nil, errors.New("the answer is not a JWK set, which is a JSON object with \"keys\"")
	}
	if n := len(*set.Keys); n > maxSetKeys {
		return nil, fmt.Errorf("the answer has %d keys, more than %d", n, maxSetKeys)
	}
	keys := []Key{}
	for _, raw := range *set.Keys {
		k, err := decodeJWK(raw, "")
		if _, secret := k.key.([]byte); secret {
			err = fmt.Errorf("kid %s: it is a secret, which no key set may have", quote(k.ID))
		}
		if err != nil {
			s.logger.Warn("a key of a key set is left out", "url", redacted(s.url), "error", err)
			continue
		}
		keys = append(keys, s.tickets.named(k))
	}
	return keys, nil
}

// renew has the keys fetched because that of a token is not there, and waits for it. After
// nil they are as new as can be; after an error they may be new too. Requests cause a fetch
// each ten seconds at most.
func (s *keySet) renew(ctx context.Context, id string) error {
	s.mu.Lock()
	r, now := s.next, s.now()
	pause := s.free.Sub(now)
	switch {
	case r != nil:
		pause = 0
	case pause <= 0:
		s.free, pause = now.Add(fetchPause), 0
		r = newRound()
		s.next = r
		select {
		case s.wake <- struct{}{}:
		default:
		}
	case s.missing[id]:
		s.mu.Unlock()
		return nil
	default:
		r = s.flight // which may have begun before the key was there
	}
	s.mu.Unlock()
	if r != nil && !s.wait(ctx, r) {
		return unavailable("the keys that tokens are checked with cannot be fetched at the moment: try again", waitTimeout)
	}
	if pause > 0 {
		return unavailable("the keys that tokens are checked with were fetched a moment ago, and this token's was not there: try again", pause)
	}
	return nil
}

// wait waits for a fetch, and tells whether it has succeeded.
func (s *keySet) wait(ctx context.Context, r *round) bool {
	timer := time.NewTimer(waitTimeout)
	defer timer.Stop()
	select {
	case <-r.done:
		return r.err == nil
	case <-timer.C:
	case <-s.stopped:
	case <-ctx.Done():
	}
	return false
}

// lacks notes that the last fetch did not have a kid.
func (s *keySet) lacks(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.missing) < maxMissing {
		s.missing[id] = true
	}
}

func unavailable(detail string, after time.Duration) error {
	return &hub.RequestError{Problem: hub.ProblemUnavailable, Detail: detail, RetryAfter: max(after, time.Second)}
}

// freshness is how long an answer says that it may be kept (RFC 9111, section 5.2.2.1).
func freshness(h http.Header) time.Duration {
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		if !strings.EqualFold(name, "max-age") {
			continue
		}
		if seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
			return min(max(time.Duration(seconds)*time.Second, minInterval), maxInterval)
		}
	}
	return defaultInterval
}

// readBounded reads all, and no more than there may be.
func readBounded(r io.Reader, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("it has more than %d bytes", most)
	}
	return b, err
}

// redacted is a URL without its password and its query, where secrets can be.
func redacted(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	u.RawQuery = ""
	return u.Redacted()
}

// withoutURL is an error of a client without the URL, in whose query secrets can be.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
