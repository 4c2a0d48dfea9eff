package observe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"syscall"
	"testing"
)

func TestWhyOf(t *testing.T) {
	addr := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 443}
	dial := func(err error) error {
		return &net.OpError{Op: "dial", Addr: addr, Err: os.NewSyscallError("connect", err)}
	}
	for _, tc := range []struct {
		name string
		err  error
		want Why
	}{
		{"nothing", nil, Why{}},
		{"words alone", errors.New("no such thing"), Why{}},
		{"a name that is not known", &net.DNSError{Name: "studio.example", IsNotFound: true}, Why{Reason: ReasonNoHost, Said: "studio.example"}},
		{"no answer about a name", &net.DNSError{Name: "studio.example", IsTemporary: true}, Why{Reason: ReasonNoLookup, Said: "studio.example"}},
		{"nobody listens", dial(errnoRefused), Why{Reason: ReasonNobodyThere, Said: "192.0.2.7:443"}},
		{"nobody listens, of an HTTP call", &url.Error{Op: "Get", URL: "https://studio.example/x", Err: dial(errnoRefused)}, Why{Reason: ReasonNobodyThere, Said: "studio.example"}},
		{"no network", dial(errnoNoNetwork), Why{Reason: ReasonNoNetwork, Said: "192.0.2.7:443"}},
		{"no way to the host", dial(errnoNoHost), Why{Reason: ReasonNoNetwork, Said: "192.0.2.7:443"}},
		{"a limit of a context", fmt.Errorf("connect: %w", context.DeadlineExceeded), Why{Reason: ReasonTooLate}},
		{"a limit of a connection", &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, Why{Reason: ReasonTooLate}},
		{"reset", dial(errnoReset), Why{Reason: ReasonCut, Said: "192.0.2.7:443"}},
		{"aborted", dial(errnoAborted), Why{Reason: ReasonCut, Said: "192.0.2.7:443"}},
		{"the end in the middle", fmt.Errorf("read: %w", io.ErrUnexpectedEOF), Why{Reason: ReasonCut}},
		{"closed by us", net.ErrClosed, Why{Reason: ReasonCut}},
		{"a certificate that nobody signed", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, Why{Reason: ReasonUntrusted}},
		{"a certificate of another", x509.HostnameError{Certificate: &x509.Certificate{}, Host: "other"}, Why{Reason: ReasonCertificate, Said: "x509: certificate is not valid for any names, but wanted to match other"}},
		{"an old certificate", x509.CertificateInvalidError{Reason: x509.Expired}, Why{Reason: ReasonExpired}},
		{"a certificate that may not do this", x509.CertificateInvalidError{Reason: x509.IncompatibleUsage}, Why{Reason: ReasonCertificate, Said: "x509: certificate specifies an incompatible key usage"}},
		{"a proxy of an HTTP call", &net.OpError{Op: "proxyconnect", Err: io.EOF}, Why{Reason: ReasonProxy, Said: "EOF"}},
		{"no TLS", tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, Why{Reason: ReasonNotSecure}},
		{"a full disk", &fs.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}, Why{Reason: ReasonDiskFull, Said: "/x"}},
		{"a file that is closed to us", &fs.PathError{Op: "open", Path: "/x", Err: fs.ErrPermission}, Why{Reason: ReasonNotAllowed, Said: "/x"}},
		{"given", Because(io.EOF, ReasonDeleted, "bye"), Why{Reason: ReasonDeleted, Said: "bye"}},
		{"given beneath", fmt.Errorf("outer: %w", Because(io.EOF, ReasonDeleted, "")), Why{Reason: ReasonDeleted}},
		{"given twice", Because(fmt.Errorf("outer: %w", Because(io.EOF, ReasonDeleted, "")), ReasonToken, ""), Why{Reason: ReasonToken}},
	} {
		if got := WhyOf(tc.err); got != tc.want {
			t.Errorf("%s: got %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

func TestBecauseKeepsTheError(t *testing.T) {
	err := Because(fmt.Errorf("read: %w", io.EOF), ReasonCut, "x")
	if err.Error() != "read: EOF" || !errors.Is(err, io.EOF) {
		t.Errorf("%v lost its text or its cause", err)
	}
	if got := WhyOf(Otherwise(io.EOF, ReasonFeed)).Reason; got != ReasonCut {
		t.Errorf("a known reason became %q", got)
	}
	if got := WhyOf(Otherwise(errors.New("x"), ReasonFeed)); got != (Why{Reason: ReasonFeed, Said: "x"}) {
		t.Errorf("got %+v, want the reason given, and the text", got)
	}
	if Otherwise(nil, ReasonFeed) != nil || Because(nil, ReasonCut, "") != nil {
		t.Error("no error became one")
	}
}
