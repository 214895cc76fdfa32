package cli

import (
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/tidewire/tidewire/hub"
	"github.com/tidewire/tidewire/server"
)

// A settingKind is what a value is, as a word of the help has it.
type settingKind string

const (
	textSetting     settingKind = ""
	sizeSetting     settingKind = "bytes"
	durationSetting settingKind = "duration"
	countSetting    settingKind = "number"
	rateSetting     settingKind = "rate"
	toggleSetting   settingKind = "bool" // pflag's word for what needs no value
)

// quoted tells whether a value of the kind is text in the file.
func (k settingKind) quoted() bool {
	return k == textSetting || k == sizeSetting || k == durationSetting
}

// inTOML writes a value that was read well and has no quotes in the file.
func (k settingKind) inTOML(value string) string {
	switch k {
	case toggleSetting:
		on, _ := strconv.ParseBool(value)
		return strconv.FormatBool(on)
	case countSetting:
		n, _ := strconv.Atoi(value)
		return strconv.Itoa(n)
	}
	f, _ := strconv.ParseFloat(value, 64)
	return strconv.FormatFloat(f, 'f', -1, 64)
}

func number(n int) string { return strconv.Itoa(n) }

// readBy makes a setting's reader of what parses its values.
func readBy[T any](to *T, parse func(string) (T, error)) func(string) error {
	return func(value string) (err error) {
		*to, err = parse(value)
		return err
	}
}

// readEach makes the reader of a list.
func readEach[T any](to *[]T, parse func(string) (T, error)) func(string) error {
	return func(value string) error {
		v, err := parse(value)
		*to = append(*to, v)
		return err
	}
}

func asIs(value string) (string, error) { return value, nil }

func readText(to *string) func(string) error { return readBy(to, asIs) }

func readToggle(to *bool) func(string) error {
	return readBy(to, func(value string) (bool, error) {
		on, err := strconv.ParseBool(value)
		if err != nil {
			return false, fmt.Errorf("%q must be true or false", value)
		}
		return on, nil
	})
}

func parseDuration(value string) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q must be a number and a unit, such as 3s or 1m30s", value)
	case d < 0:
		return 0, fmt.Errorf("%q must not be less than 0", value)
	case d > 0 && d < time.Millisecond:
		return 0, fmt.Errorf("%q must be 1ms or more", value)
	}
	return d, nil
}

func readDuration(to *time.Duration) func(string) error {
	return readBy(to, func(value string) (time.Duration, error) {
		d, err := parseDuration(value)
		if err == nil && d == 0 {
			err = errors.New("must be more than 0")
		}
		return d, err
	})
}

// readDurationOrNone reads one whose 0 is none, which options have as a negative one.
func readDurationOrNone(to *time.Duration) func(string) error {
	return readBy(to, func(value string) (time.Duration, error) {
		d, err := parseDuration(value)
		return orNone(d), err
	})
}

func parseCount(value string) (int, error) {
	n, err := strconv.Atoi(value)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("%q is too large a number", value)
	case err != nil:
		return 0, fmt.Errorf("%q must be a whole number", value)
	case n < 0:
		return 0, fmt.Errorf("%q must not be less than 0", value)
	}
	return n, nil
}

func readCount(to *int) func(string) error {
	return readBy(to, func(value string) (int, error) {
		n, err := parseCount(value)
		if err == nil && n == 0 {
			err = errors.New("must be more than 0")
		}
		return n, err
	})
}

func readCountOrNone(to *int) func(string) error {
	return readBy(to, func(value string) (int, error) {
		n, err := parseCount(value)
		return orNone(n), err
	})
}

func readRateOrNone(to *float64) func(string) error {
	return readBy(to, func(value string) (float64, error) {
		f, err := strconv.ParseFloat(value, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) || f < 0 {
			return 0, fmt.Errorf("%q must be a number from 0, such as 100 or 0.5", value)
		}
		return orNone(f), nil
	})
}

func readSize(to *int, least int64) func(string) error {
	return readBy(to, func(value string) (int, error) {
		n, err := server.ParseBytes(value)
		switch {
		case err == nil && n < least:
			err = fmt.Errorf("%q must be %d or more", value, least)
		case err == nil && n > math.MaxInt:
			err = fmt.Errorf("%q must be %d at most", value, math.MaxInt)
		}
		return int(n), err
	})
}

func readSizeOrNone(to *int64) func(string) error {
	return readBy(to, func(value string) (int64, error) {
		n, err := server.ParseBytes(value)
		return orNone(n), err
	})
}

// orNone is how options have it that there is none: their 0 is the default.
func orNone[T int | int64 | float64 | time.Duration](n T) T {
	if n == 0 {
		return -1
	}
	return n
}

func parseOrigin(value string) (string, error) {
	o := hub.Options{AllowedOrigins: []string{value}}
	return value, o.CheckOrigins()
}

// shownURL writes a URL without what may be a secret: its password, and its query.
func shownURL(u *url.URL) string {
	shown := *u
	if shown.RawQuery != "" {
		shown.RawQuery = "xxxxx"
	}
	return shown.Redacted()
}

// parseURL takes http and https ones.
func parseURL(value string) (string, error) {
	u, err := url.Parse(value)
	switch {
	case err != nil:
		return "", errors.New("is no URL such as https://example.com/path")
	case u.Host == "" || !isHTTP(u.Scheme):
		return "", fmt.Errorf("%q is no http or https URL such as https://example.com/path", shownURL(u))
	case u.Fragment != "":
		return "", fmt.Errorf("%q has a fragment, which is never sent: take # and what follows away", shownURL(u))
	}
	return value, nil
}

func parseCookieName(value string) (string, error) {
	if !isToken(value) {
		return "", fmt.Errorf("%q is no name of a cookie: use letters, digits, - and _", value)
	}
	return value, nil
}

// parsePrefix takes an address for a network of one.
func parsePrefix(value string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(value); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(value)
	if err != nil {
		return p, fmt.Errorf("%q is neither an address such as 10.0.0.1 nor a network such as 10.0.0.0/8", value)
	}
	if p.Masked() != p {
		return p, fmt.Errorf("%q has bits behind those that count: write %s", value, p.Masked())
	}
	if p.Addr().Is4In6() {
		return p, fmt.Errorf("%q is of IPv4 in IPv6: write it as IPv4", value)
	}
	return p, nil
}

func parseForwardedHeader(value string) (string, error) {
	for _, h := range []string{server.XForwardedFor, server.Forwarded} {
		if strings.EqualFold(value, h) {
			return h, nil
		}
	}
	return "", fmt.Errorf("%q is neither %s nor %s", value, server.XForwardedFor, server.Forwarded)
}

// parseHost takes a name, without what else a URL has.
func parseHost(value string) (string, error) {
	u, err := url.Parse("http://" + value)
	if value != "*" && (err != nil || value == "" || u.Hostname() != value || u.Host != value) {
		return "", fmt.Errorf("%q is no host's name: write it without scheme, port and path, as in events.example.com", value)
	}
	return strings.ToLower(value), nil
}

// parseDomain takes a name that an authority gives certificates for.
func parseDomain(value string) (string, error) {
	name, err := parseHost(value)
	if _, notAddress := netip.ParseAddr(name); err == nil && (notAddress == nil || !strings.Contains(name, ".")) {
		err = fmt.Errorf("%q is no full domain name such as events.example.com", value)
	}
	return name, err
}

// parseRoots takes a file of certificates.
func parseRoots(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err == nil && !x509.NewCertPool().AppendCertsFromPEM(text) {
		err = fmt.Errorf("%s has no certificate in PEM", file)
	}
	return file, err
}

func parseCompression(value string) (hub.Compression, error) {
	switch value {
	case "gzip":
		return hub.CompressionGzip, nil
	case "off":
		return hub.CompressionOff, nil
	}
	return 0, fmt.Errorf("%q is neither gzip nor off", value)
}

// The values of tls.
const (
	tlsOff   = "off"
	tlsDev   = "dev"
	tlsFiles = "files"
	tlsACME  = "acme"
)

func parseTLS(value string) (string, error) {
	switch value {
	case tlsOff, tlsDev, tlsFiles, tlsACME:
		return value, nil
	}
	return "", fmt.Errorf("%q is none of off, dev, files and acme", value)
}
