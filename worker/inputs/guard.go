package inputs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
)

// special are the ranges that are not the open internet, beside those that
// net/netip tells itself.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),       // this network
	netip.MustParsePrefix("100.64.0.0/10"),   // carrier-grade NAT
	netip.MustParsePrefix("192.0.0.0/24"),    // protocol assignments
	netip.MustParsePrefix("192.0.2.0/24"),    // documentation
	netip.MustParsePrefix("192.88.99.0/24"),  // 6to4 relays
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarks
	netip.MustParsePrefix("198.51.100.0/24"), // documentation
	netip.MustParsePrefix("203.0.113.0/24"),  // documentation
	netip.MustParsePrefix("240.0.0.0/4"),     // reserved, and broadcast
	netip.MustParsePrefix("64:ff9b::/96"),    // NAT64: any IPv4 address behind it
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("100::/64"),      // discard
	netip.MustParsePrefix("2001::/23"),     // protocol assignments, Teredo
	netip.MustParsePrefix("2001:db8::/32"), // documentation
	netip.MustParsePrefix("2002::/16"),     // 6to4: any IPv4 address behind it
	netip.MustParsePrefix("fec0::/10"),     // site-local
}

// public tells whether an address is one of the open internet.
func public(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return a.IsGlobalUnicast() && !a.IsPrivate() && !slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}

// openPorts are where web servers listen; others may be services that take
// anything for a command.
var openPorts = []string{"", "80", "443", "8443"}

// errRefused says that an address may not be used.
var errRefused = errors.New("refused")

// trusted is a host whose private address may be used: that of the studio, or
// one that the person has named.
type trustedKey struct{}

// admit looks at the address of a request, before anything is sent. It returns a
// context that tells the dialler whether the host is trusted.
func (f *Fetcher) admit(ctx context.Context, u *url.URL) (context.Context, error) {
	trusted := f.trusts(u)
	switch {
	case u.Host == "" || u.User != nil:
		return nil, fmt.Errorf("%w: it is not a plain web address", errRefused)
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("%w: scheme %q is not https", errRefused, u.Scheme)
	case trusted:
		return context.WithValue(ctx, trustedKey{}, true), nil
	case u.Scheme == "http":
		return nil, fmt.Errorf("%w: http is allowed to the studio and to allow_input_hosts only; use https", errRefused)
	case !slices.Contains(openPorts, u.Port()):
		return nil, fmt.Errorf("%w: port %s is not one of web servers", errRefused, u.Port())
	}
	return context.WithValue(ctx, trustedKey{}, false), nil
}

// trusts tells whether a URL leads to the studio itself, or to a host that the
// person allowed, with or without its port.
func (f *Fetcher) trusts(u *url.URL) bool {
	if own, err := url.Parse(f.cfg.Studio()); err == nil && own.Host != "" && own.Scheme == u.Scheme && strings.EqualFold(hostPort(own), hostPort(u)) {
		return true
	}
	return slices.ContainsFunc(f.cfg.AllowHosts(), func(host string) bool {
		return strings.EqualFold(host, u.Hostname()) || strings.EqualFold(host, hostPort(u))
	})
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// control sees the address that a name has led to, for each connection, and
// refuses one inside a private network unless the host is trusted.
func control(ctx context.Context, _, address string, _ syscall.RawConn) error {
	if trusted, ok := ctx.Value(trustedKey{}).(bool); ok && trusted {
		return nil
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil || !public(at.Addr()) {
		return fmt.Errorf("%w: it leads into a private network; the person at this worker can allow its host with allow_input_hosts", errRefused)
	}
	return nil
}

// maxRedirects bounds the redirects of one input.
const maxRedirects = 3

// get sends a request and follows redirects itself, since each hop is looked at
// like the first.
func (f *Fetcher) get(ctx context.Context, address string) (*http.Response, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("%w: it is not a web address", errRefused)
	}
	for range maxRedirects + 1 {
		hop, err := f.admit(ctx, u)
		if err != nil {
			return nil, err
		}
		r, err := http.NewRequestWithContext(hop, http.MethodGet, u.String(), http.NoBody)
		if err != nil {
			return nil, fmt.Errorf("%w: it is not a web address", errRefused)
		}
		r.Header.Set("User-Agent", f.cfg.UserAgent)
		answer, err := f.http.Do(r)
		if err != nil {
			return nil, err
		}
		if answer.StatusCode < 300 || answer.StatusCode > 399 || answer.Header.Get("Location") == "" {
			return answer, nil
		}
		to, err := answer.Location()
		if err != nil {
			answer.Body.Close()
			return nil, fmt.Errorf("%w: it redirects to no web address", errRefused)
		}
		answer.Body.Close()
		u = to
	}
	return nil, fmt.Errorf("%w: more than %d redirects", errRefused, maxRedirects)
}
