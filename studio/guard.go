package studio

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// guard stands before every route: it knows by which names the studio may be
// called, which proxies are believed, and whether a browser was led here by
// somebody else's page.
type guard struct {
	names   []string // besides addresses in numbers and localhost; lower case
	proxies []netip.Prefix
	origins *http.CrossOriginProtection
	public  *url.URL // nil = none
	tls     bool     // the studio itself speaks it
}

// newGuard checks the part of the config that says how the studio is reached.
func newGuard(cfg Config) (*guard, error) {
	g := &guard{proxies: cfg.TrustedProxies, origins: http.NewCrossOriginProtection(), tls: cfg.TLSCert != ""}
	if (cfg.TLSCert == "") != (cfg.TLSKey == "") {
		return nil, errors.New("TLS needs both files, the certificate and its key")
	}
	if host, _, err := net.SplitHostPort(cfg.Listen); err == nil && host != "" {
		g.names = append(g.names, strings.ToLower(host))
	}
	// The name that this computer gives itself is not an attacker's to choose.
	if name, err := os.Hostname(); err == nil && name != "" {
		name = strings.ToLower(name)
		g.names = append(g.names, name, name+".local")
	}
	if cfg.PublicURL == "" {
		return g, nil
	}
	u, err := url.Parse(cfg.PublicURL)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.User != nil:
		return nil, errors.New("the public address must start with http:// or https:// and name a host")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("the public address must have no path: the studio needs a host name of its own")
	}
	g.public = &url.URL{Scheme: u.Scheme, Host: u.Host}
	g.names = append(g.names, strings.ToLower(u.Hostname()))
	if err := g.origins.AddTrustedOrigin(g.public.String()); err != nil {
		return nil, fmt.Errorf("the public address: %w", err)
	}
	return g, nil
}

// knows says whether the studio may be called by this Host. A page whose own
// name is made to point at this computer (DNS rebinding) comes with that name. An
// address in numbers cannot be made to point elsewhere, and a browser always
// names one.
func (g *guard) knows(host string) bool {
	if host == "" {
		return true
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return true
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || slices.Contains(g.names, name)
}

// client returns the address of who sent the request, without port. Behind
// trusted proxies it is the last one in X-Forwarded-For that is not theirs: what
// stands before it could be made up.
func (g *guard) client(r *http.Request) string {
	direct := remoteIP(r)
	if !g.trusts(direct) {
		return direct
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	last := direct
	for _, hop := range slices.Backward(hops) {
		addr, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			return last
		}
		last = addr.Unmap().String()
		if !g.trusts(last) {
			return last
		}
	}
	return last
}

func (g *guard) trusts(address string) bool {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(g.proxies, func(p netip.Prefix) bool { return p.Contains(addr.Unmap()) })
}

// secure says whether the browser reached the studio over TLS: cookies may then
// be bound to it.
func (g *guard) secure(r *http.Request) bool {
	if g.tls || r.TLS != nil {
		return true
	}
	return g.trusts(remoteIP(r)) && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// guarded puts the guard, the limits and the records of requests before the
// routes.
func (s *Studio) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		rec := &recorder{ResponseWriter: w}
		defer func() { s.record(r, rec, time.Since(begun)) }() // when the handler gives up, too
		deadlines(rec, requestLimit)
		if !s.guard.knows(r.Host) {
			drain(rec, r)
			writeError(rec, http.StatusMisdirectedRequest, "unknown_host", fmt.Sprintf(
				"the studio does not go by the name %.100q; start it with --public-url if it should", r.Host))
			return
		}
		if err := s.guard.origins.Check(r); err != nil {
			drain(rec, r)
			writeError(rec, http.StatusForbidden, "cross_origin", "another web page sent this request; open the studio itself and try there")
			return
		}
		next.ServeHTTP(rec, r)
	})
}

// record counts a request that has been answered, and writes its line. Addresses
// are left out where they are a secret.
func (s *Studio) record(r *http.Request, rec *recorder, took time.Duration) {
	route := r.Pattern
	if route == "" {
		route = "none"
	}
	status := rec.status
	if status == 0 { // nothing was written
		status = http.StatusOK
	}
	s.metrics.request(route, status, took)
	log, level := s.cfg.Access, slog.LevelInfo
	if log == nil {
		log, level = s.cfg.Log, slog.LevelDebug
	}
	id := r.PathValue("id")
	if strings.Contains(route, "/inputs/") {
		id = "" // whoever knows it may read the input
	}
	log.Log(context.WithoutCancel(r.Context()), level, "request",
		"method", r.Method, "route", route, "id", id, "status", status, "bytes", rec.bytes,
		"ms", took.Milliseconds(), "address", s.guard.client(r), "agent", clip(r.UserAgent(), maxName))
}

// recorder remembers how a request was answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 || r.status < http.StatusOK {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// Unwrap gives http.ResponseController the real writer.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// Hijack hands the connection to the WebSocket library, which asks for it here.
func (r *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	r.status = http.StatusSwitchingProtocols
	return http.NewResponseController(r.ResponseWriter).Hijack()
}

// bare returns the server's own writer: only that one lets http.MaxBytesReader
// close the connection in good order.
func bare(w http.ResponseWriter) http.ResponseWriter {
	for {
		inner, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = inner.Unwrap()
	}
}
