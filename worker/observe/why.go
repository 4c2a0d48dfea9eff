package observe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"slices"
	"syscall"
	"time"
)

// Reason is the sort of a reason, for who words it in another language.
type Reason string

// ReasonUnknown says that the text that stands beside it is all there is.
const ReasonUnknown Reason = ""

// The reasons of any connection.
const (
	ReasonNoHost      Reason = "no_host"      // no address belongs to the name; said: the name
	ReasonNoLookup    Reason = "no_lookup"    // nobody can tell the name's address now; said: the name
	ReasonNoNetwork   Reason = "no_network"   // no way leads there; said: where
	ReasonNobodyThere Reason = "nobody_there" // nobody listens at the address; said: the address
	ReasonTooLate     Reason = "too_late"     // a limit of time is over; said: the limit, or who was asked
	ReasonCut         Reason = "cut"          // the connection ended; said: who it was with
	ReasonCertificate Reason = "certificate"  // who answers cannot prove who it is; said: how that shows
	ReasonUntrusted   Reason = "untrusted"    // its certificate's issuer is not trusted here; said: who was asked; more: the issuer
	ReasonExpired     Reason = "expired"      // its certificate is not valid any more; said, more as above; at: since when; clock
	ReasonNotYet      Reason = "not_yet"      // its certificate is not valid yet; said, more, clock as above; at: from when
	ReasonNotSecure   Reason = "not_secure"   // who answers does not speak TLS; said: who was asked
	ReasonProxy       Reason = "proxy"        // the proxy does not connect; said: what it says of it
	ReasonProxyLogin  Reason = "proxy_login"  // the proxy wants a name and a password, or others
	ReasonStatus      Reason = "status"       // an answer that is no success; said: the HTTP status and the text
)

// The reasons of this computer.
const (
	ReasonDiskFull   Reason = "disk_full"   // no room; said: where
	ReasonNotAllowed Reason = "not_allowed" // the system forbids a file; said: which
	ReasonNotSaved   Reason = "not_saved"   // the config cannot be written; said: why
	ReasonNoPresence Reason = "no_presence" // nobody can tell whether a person is here
	ReasonDamaged    Reason = "damaged"     // a result on this disk is not as it was written
	ReasonSlept      Reason = "slept"       // the computer slept, and the connection is from before
	ReasonGone       Reason = "gone"        // the credentials are not in the config any more
	ReasonCopied     Reason = "copied"      // the config is another computer's; said: where its credentials are kept
)

// The reasons why the memory of a graphics card is unknown.
const (
	ReasonUnified  Reason = "unified"   // it is the computer's own
	ReasonUntold   Reason = "untold"    // the driver does not tell
	ReasonNoDriver Reason = "no_driver" // the driver is not installed
)

// The reasons of a studio.
const (
	ReasonToken      Reason = "token"       // it does not accept the worker's token; said: its words, may be empty
	ReasonDuplicate  Reason = "duplicate"   // another computer has this worker's identity; said as above
	ReasonDeleted    Reason = "deleted"     // the operator removed this worker; said as above
	ReasonRestarts   Reason = "restarts"    // it starts anew and said when it is back
	ReasonLeft       Reason = "left"        // it goes away and did not say for how long; said: its words, may be empty
	ReasonStudioSays Reason = "studio_says" // it ended the session; said as above
	ReasonSilent     Reason = "silent"      // it gave no sign of life
	ReasonViolation  Reason = "violation"   // one side sent what the protocol does not allow; said: what
	ReasonNoStudio   Reason = "no_studio"   // who answers is no studio; said: how that shows
	ReasonAddress    Reason = "address"     // its address cannot be used; said: why
)

// The reasons of an update.
const (
	ReasonTurn        Reason = "turn"         // this computer's turn comes later
	ReasonHours       Reason = "hours"        // outside the hours of updates; at: when they begin
	ReasonMetered     Reason = "metered"      // the connection's bytes are counted
	ReasonTrial       Reason = "trial"        // the running version has to prove itself first
	ReasonTrialFailed Reason = "trial_failed" // the release was tried here and did not work; said: how that showed
	ReasonFeed        Reason = "feed"         // what the feed holds cannot be used; said: why
	ReasonUnsafe      Reason = "unsafe"       // an address that is not safe; said: why
	ReasonOutdated    Reason = "outdated"     // what the feed holds is out of date; said: its name; at: since when
	ReasonSignature   Reason = "signature"    // the signature is not one that is trusted; said: of what, and why
	ReasonOlder       Reason = "older"        // it comes before one that was seen here; said: which, and the two numbers
	ReasonByHand      Reason = "by_hand"      // it cannot follow the running version; said: which
	ReasonNoArchive   Reason = "no_archive"   // it has nothing for this system; said: which, and the system
	ReasonNoRoom      Reason = "no_room"      // too little room for it; said: what is free; more: what is needed
	ReasonArchive     Reason = "archive"      // the archive is not the one of the release; said: how that shows
	ReasonDoesNotRun  Reason = "does_not_run" // the new program does not start here; said: how that shows
	ReasonOwnFiles    Reason = "own_files"    // the folder or the program of updates cannot be used; said: why
	ReasonInstall     Reason = "install"      // another program updates this one; said: which
	ReasonPackages    Reason = "packages"     // the system's package manager updates this program
	ReasonPlaced      Reason = "placed"       // whoever put this program into its place replaces it
	ReasonUnwatched   Reason = "unwatched"    // nothing watches over this process
	ReasonNoFeed      Reason = "no_feed"      // this build does not say where releases are
	ReasonFeedUnset   Reason = "feed_unset"   // nobody says where releases are, and the config may
	ReasonStamp       Reason = "stamp"        // what this build says of updates is wrong; said: why
)

// Why is a reason without words. The text beside it says the same in English. What
// the fields mean stands at each reason; each may be empty.
type Why struct {
	Reason Reason
	// Said and More are what others said, a name or a number, as it was heard: not of
	// one line, and of any length.
	Said, More string
	At         time.Time // the moment that it is about
	Clock      time.Time // what the other side's clock says, where it matters
	Proxy      string    // host and port of the proxy that is concerned; empty = none
}

// Reasoner is an error that knows its reason.
type Reasoner interface {
	error
	Why() Why
}

type whyError struct {
	error
	why Why
}

func (e *whyError) Unwrap() error { return e.error }

func (e *whyError) Why() Why { return e.why }

// Because gives err a reason and keeps its text. nil stays nil.
func Because(err error, reason Reason, said string) error {
	return Explained(err, Why{Reason: reason, Said: said})
}

// Explained is [Because] with all that is known of the reason.
func Explained(err error, why Why) error {
	if err == nil {
		return nil
	}
	return &whyError{err, why}
}

// Otherwise gives err a reason when it has none. It is a broad one, so that the text
// stays with it.
func Otherwise(err error, reason Reason) error {
	if err == nil || WhyOf(err).Reason != ReasonUnknown {
		return err
	}
	return Because(err, reason, err.Error())
}

// WhyOf is the reason of an error: what the outermost [Reasoner] says, else what it
// is to the system.
func WhyOf(err error) Why {
	if known, ok := errors.AsType[Reasoner](err); ok {
		return known.Why()
	}
	reason := systemReason(err)
	why := Why{Reason: reason}
	switch reason {
	case ReasonUnknown:
	case ReasonProxy:
		op, _ := errors.AsType[*net.OpError](err)
		why.Said = op.Err.Error()
	case ReasonCertificate: // it names the names
		why.Said = certificateText(err)
	default:
		why.Said = where(err)
	}
	return why
}

// where names the other side of a connection, or the file, that an error is about;
// empty = it does not say.
func where(err error) string {
	if name, ok := errors.AsType[*net.DNSError](err); ok {
		return name.Name
	}
	if call, ok := errors.AsType[*url.Error](err); ok {
		if u, err := url.Parse(call.URL); err == nil && u.Host != "" {
			return u.Host
		}
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" && op.Addr != nil {
		return op.Addr.String()
	}
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		return file.Path
	}
	return ""
}

func systemReason(err error) Reason {
	is := func(targets ...error) bool {
		return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "proxyconnect" { // of package net/http
		return ReasonProxy
	}
	if name, ok := errors.AsType[*net.DNSError](err); ok {
		if name.IsNotFound {
			return ReasonNoHost
		}
		return ReasonNoLookup
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return ReasonNotSecure
	}
	if reason := certificateReason(err); reason != ReasonUnknown {
		return reason
	}
	timeout, ok := errors.AsType[net.Error](err)
	switch {
	case is(context.DeadlineExceeded, os.ErrDeadlineExceeded), ok && timeout.Timeout():
		return ReasonTooLate
	case is(errnoRefused):
		return ReasonNobodyThere
	case is(errnoNoNetwork, errnoNoHost):
		return ReasonNoNetwork
	case is(io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, errnoReset, errnoAborted, syscall.EPIPE):
		return ReasonCut
	case is(syscall.ENOSPC, errnoDiskFull):
		return ReasonDiskFull
	case is(fs.ErrPermission):
		return ReasonNotAllowed
	}
	return ReasonUnknown
}

// certificateText is what the library says of a certificate, without what was done.
func certificateText(err error) string {
	if name, ok := errors.AsType[x509.HostnameError](err); ok {
		return name.Error()
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return invalid.Error()
	}
	return err.Error()
}

// certificateReason says what is wrong with a certificate, if that is it.
func certificateReason(err error) Reason {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return ReasonUntrusted
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return ReasonExpired
	}
	_, verify := errors.AsType[*tls.CertificateVerificationError](err)
	_, host := errors.AsType[x509.HostnameError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	if verify || host || invalid {
		return ReasonCertificate
	}
	return ReasonUnknown
}
