package network

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"studioworker/worker/observe"
)

// maxCAFile bounds the extra certificates, in bytes: a system's whole store has
// about 250 KiB.
const maxCAFile = 1 << 20

// readRoots returns the system's certificates and those of a file.
func readRoots(path string) (*x509.CertPool, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxCAFile+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	extra, err := parseRoots(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("read the system's certificates: %w", err)
	}
	for _, certificate := range extra {
		roots.AddCert(certificate)
	}
	return roots, nil
}

// parseRoots reads certificates in PEM. Nothing is left out silently: a
// certificate that is missed later is hard to find.
func parseRoots(data []byte) ([]*x509.Certificate, error) {
	if len(data) > maxCAFile {
		return nil, fmt.Errorf("larger than %d bytes", maxCAFile)
	}
	var all []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds a %q: only certificates belong there", block.Type)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(all)+1, err)
		}
		all = append(all, certificate)
	}
	if len(all) == 0 {
		return nil, errors.New("it holds no certificate in PEM")
	}
	return all, nil
}

// certificateError says in words why a certificate was not accepted.
type certificateError struct {
	words string
	why   observe.Why
	err   error
}

// Why is what the words say.
func (e *certificateError) Why() observe.Why { return e.why }

func (e *certificateError) Error() string { return e.words }

func (e *certificateError) Unwrap() error { return e.err }

// explain words the certificate errors that a person can do something about; all
// others stay as they are.
func (n *Network) explain(host string, err error) error {
	why := observe.Why{Said: host}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "proxyconnect" {
		host = "the proxy"
		why.Said = "" // which proxy says the error around this one
	}
	if unknown, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		words := fmt.Sprintf("the certificate of %s was issued by %s, which this computer does not trust; if that is right, "+
			"add the issuer's certificate to the system, or name its file as ca_file in the config", host, issuer(unknown.Cert, err))
		why.Reason, why.More = observe.ReasonUntrusted, issuer(unknown.Cert, err)
		return &certificateError{words, why, err}
	}
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	if !ok || invalid.Reason != x509.Expired || invalid.Cert == nil {
		return err
	}
	why.More = issuer(invalid.Cert, err)
	now, state := time.Now(), "expired on "+day(invalid.Cert.NotAfter)
	why.Reason, why.At = observe.ReasonExpired, invalid.Cert.NotAfter
	if now.Before(invalid.Cert.NotBefore) {
		why.Reason, why.At = observe.ReasonNotYet, invalid.Cert.NotBefore
		state = "is not valid before " + day(invalid.Cert.NotBefore)
	}
	words := fmt.Sprintf("the certificate of %s, issued by %s, %s; is this computer's clock right? It says %s",
		host, why.More, state, day(now))
	if theirs, known := n.timeAt(host); known {
		words += ", the studio says " + day(theirs)
		why.Clock = theirs
	}
	return &certificateError{words, why, err}
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// timeAt is the time by the clock of a host that has answered us before.
func (n *Network) timeAt(host string) (time.Time, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.date.says.IsZero() || n.date.host != host {
		return time.Time{}, false
	}
	return n.date.says.Add(time.Since(n.date.heard)), true // by the time lived: nobody sets that
}

// issuer names who issued a certificate.
func issuer(certificate *x509.Certificate, err error) string {
	if certificate == nil { // the system's verifier may keep it to itself
		if all, ok := errors.AsType[*tls.CertificateVerificationError](err); ok && len(all.UnverifiedCertificates) > 0 {
			certificate = all.UnverifiedCertificates[0]
		}
	}
	name := pkix.Name{}
	if certificate != nil {
		name = certificate.Issuer
	}
	switch {
	case name.CommonName != "":
		return fmt.Sprintf("%q", name.CommonName)
	case len(name.Organization) > 0:
		return fmt.Sprintf("%q", name.Organization[0])
	}
	return "somebody without a name"
}
