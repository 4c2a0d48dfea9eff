package network

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"golang.org/x/net/proxy"

	"studioworker/worker/observe"
)

// reach opens a connection to address, through the proxy unless it is nil.
func (n *Network) reach(ctx context.Context, via *url.URL, address string) (net.Conn, error) {
	if via == nil {
		return n.dialer.DialContext(ctx, "tcp", address)
	}
	conn, err := n.reachVia(ctx, via, address)
	if err != nil {
		return nil, &proxyError{err, via.Host}
	}
	return conn, nil
}

// proxyError is the error of a proxy that does not connect us.
type proxyError struct {
	error
	host string
}

func (e *proxyError) Unwrap() error { return e.error }

// Why is why the proxy does not connect.
func (e *proxyError) Why() observe.Why {
	cause := e.error
	if _, known := errors.AsType[observe.Reasoner](cause); !known {
		if op, ok := errors.AsType[*net.OpError](cause); ok && op.Op == "proxyconnect" {
			cause = op.Err
		}
	}
	why := observe.WhyOf(cause)
	if why.Reason == observe.ReasonUnknown {
		why = observe.Why{Reason: observe.ReasonProxy, Said: e.Error()}
	}
	why.Proxy = e.host
	return why
}

func (n *Network) reachVia(ctx context.Context, via *url.URL, address string) (net.Conn, error) {
	switch via.Scheme {
	case "socks5", "socks5h":
		dialer, err := proxy.FromURL(via, &n.dialer)
		if err != nil {
			return nil, fmt.Errorf("proxy %s: %w", via.Host, err)
		}
		conn, err := dialer.(proxy.ContextDialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, fmt.Errorf("proxy %s: %w", via.Host, err)
		}
		return conn, nil
	case "http", "https":
		conn, err := n.reachProxy(ctx, via)
		if err != nil {
			return nil, fmt.Errorf("proxy %s: %w", via.Host, err)
		}
		if err := tunnel(ctx, conn, via, address); err != nil {
			_ = conn.Close() // it is of no use
			return nil, err
		}
		return conn, nil
	}
	return nil, fmt.Errorf("proxy %s: its scheme must be http, https or socks5", via.Host)
}

// reachProxy opens a connection to an HTTP proxy itself.
func (n *Network) reachProxy(ctx context.Context, via *url.URL) (net.Conn, error) {
	port := via.Port()
	if port == "" {
		port = via.Scheme // a name of the port as well
	}
	conn, err := n.dialer.DialContext(ctx, "tcp", net.JoinHostPort(via.Hostname(), port))
	if err != nil || via.Scheme == "http" {
		return conn, err
	}
	return n.secure(ctx, conn, via.Hostname())
}

// tunnel asks the proxy at the other end of conn to connect us to address.
func tunnel(ctx context.Context, conn net.Conn, via *url.URL, address string) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // wakes what waits
	err := ask(conn, via, address)
	if !stop() {
		return fmt.Errorf("proxy %s: %w", via.Host, context.Cause(ctx))
	}
	return err
}

func ask(conn net.Conn, via *url.URL, address string) error {
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if user := via.User; user != nil {
		password, _ := user.Password()
		request.Header.Set("Proxy-Authorization",
			"Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	if err := request.Write(conn); err != nil {
		return fmt.Errorf("proxy %s: ask for a connection: %w", via.Host, err)
	}
	reader := bufio.NewReader(io.LimitReader(conn, maxHeader))
	answer, err := http.ReadResponse(reader, request)
	if err != nil {
		return fmt.Errorf("proxy %s: read its answer: %w", via.Host, err)
	}
	_ = answer.Body.Close() // an answer to CONNECT has none that we want
	if err := refusal(via, answer); err != nil {
		return err
	}
	if reader.Buffered() > 0 { // nobody was asked anything yet
		return fmt.Errorf("proxy %s: %w", via.Host, errTalkative)
	}
	return nil
}

var errTalkative = errors.New("something was sent before it was asked for")

// refusal is the error of a proxy that does not connect us, or nil. It names
// neither user nor password.
func refusal(via *url.URL, answer *http.Response) error {
	switch {
	case answer.StatusCode == http.StatusOK:
		return nil
	case answer.StatusCode == http.StatusProxyAuthRequired && via.User == nil:
		return observe.Because(
			fmt.Errorf("proxy %s wants a name and a password: put them into the proxy's address, as http://NAME:PASSWORD@HOST:PORT", via.Host), observe.ReasonProxyLogin, "")
	case answer.StatusCode == http.StatusProxyAuthRequired:
		return observe.Because(
			fmt.Errorf("proxy %s does not accept the name and password in its address (only Basic authentication is known)", via.Host), observe.ReasonProxyLogin, "Basic")
	}
	return observe.Because(
		fmt.Errorf("proxy %s refused the connection with status %d", via.Host, answer.StatusCode), observe.ReasonStatus, strconv.Itoa(answer.StatusCode))
}
