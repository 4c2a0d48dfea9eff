package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"studioworker/worker/network"
	"studioworker/worker/protocol"
)

// way is how the studio is reached.
type way struct {
	address string   // of the studio, as the config has it
	target  *url.URL // its scheme is http or https
	poll    string   // a question that leaves nothing behind
	proxy   *url.URL // nil = none
}

func newWay(address string, n *network.Network) (way, error) {
	base, err := protocol.ParseBase(address)
	if err != nil {
		return way{}, err
	}
	poll, err := base.PollURL("doctor")
	if err != nil {
		return way{}, err
	}
	target, err := url.Parse(poll)
	if err != nil {
		return way{}, err
	}
	if target.Port() == "" {
		target.Host = net.JoinHostPort(target.Hostname(), target.Scheme) // a name of the port as well
	}
	proxy, err := n.Proxy(target)
	if err != nil {
		return way{}, fmt.Errorf("choose a proxy: %w", err)
	}
	return way{address: address, target: target, poll: poll, proxy: proxy}, nil
}

// dns looks up the first host on the way.
func (d *doctor) dns(ctx context.Context, w way) bool {
	host, whose := w.target.Hostname(), "the studio"
	if w.proxy != nil {
		host, whose = w.proxy.Hostname(), "the proxy"
	}
	if net.ParseIP(strings.Trim(host, "[]")) != nil {
		d.ok(CheckDNS, fmt.Sprintf("%s is named by its address %s", whose, host))
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	addresses, err := d.cfg.Lookup(ctx, host)
	if err != nil {
		fix := "see whether this computer is online, and whether the name is right"
		if w.proxy != nil {
			fix += "; it comes from HTTP_PROXY or HTTPS_PROXY"
		}
		d.problem(CheckDNS, fmt.Errorf("look up %s, %s: %w", host, whose, err), fix)
		return false
	}
	d.ok(CheckDNS, fmt.Sprintf("%s is %s", host, strings.Join(addresses, ", ")))
	return true
}

// proxy reaches the studio's host through the proxy, without encryption yet.
func (d *doctor) proxy(ctx context.Context, w way) bool {
	if w.proxy == nil {
		d.skipped(CheckProxy, "none is set for the studio")
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	plain := *w.target
	plain.Scheme = "http"
	conn, err := d.net.DialVia(ctx, w.proxy, plain.Host)
	if err != nil {
		d.problem(CheckProxy, err, "correct HTTP_PROXY and HTTPS_PROXY, or name the studio in NO_PROXY")
		return false
	}
	if err := conn.Close(); err != nil {
		d.problem(CheckProxy, err, "see whether the proxy works")
		return false
	}
	d.ok(CheckProxy, w.proxy.Redacted())
	return true
}

// tls connects to the studio, with encryption where its address asks for it.
func (d *doctor) tls(ctx context.Context, w way) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := d.net.Dial(ctx, w.target)
	if err == nil {
		err = conn.Close()
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		d.skipped(CheckTLS, "the studio does not answer")
		return true // the next check says why
	}
	if err != nil {
		d.problem(CheckTLS, err, "set the clock, or have the operator renew the certificate; for a certificate of your own network set ca_file in the config")
		return false
	}
	if w.target.Scheme != "https" {
		d.skipped(CheckTLS, "the studio's address is http: nothing is encrypted")
		return true
	}
	d.ok(CheckTLS, "the certificate of "+w.target.Hostname()+" is good")
	return true
}
