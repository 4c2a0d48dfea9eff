// Package localapi lets programs on this computer use its engines over HTTP: an
// OpenAI-compatible chat, pictures, speech and video, and what models there are.
//
// It listens on loopback only. Every request needs the token that the discovery
// file holds, which only the same person can read, and must name this computer
// as its host and no foreign page as its origin; /healthz alone needs no token.
// A job waits for its turn among those of the studio. The server never fetches
// an address that a caller names: pictures and sounds come in the request.
//
// Run serves until its context ends, and then stops the jobs in flight.
package localapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"studioworker/worker/atomicfile"
	"studioworker/worker/engine"
	"studioworker/worker/observe"
)

// DefaultPort is where the reference's local API listens.
const DefaultPort = 4787

// Limits of the server. A job may take long, so an answer as a whole has none.
const (
	headerTime  = 10 * time.Second
	bodyTime    = 2 * time.Minute
	maxHeader   = 32 << 10
	maxBody     = 96 << 20 // bytes: a sound or a picture as base64
	maxWaiting  = 16       // requests at a time
	patience    = 30 * time.Second
	minToken    = 16
	loadTime    = 12 * time.Minute
	contentJSON = "application/json"
)

// runner runs jobs in turns with those of the studio.
type runner interface {
	RunLocal(ctx context.Context, patience time.Duration, prompt string, req engine.Request, progress func(engine.Progress)) (engine.Result, error)
	CancelJob(id string) bool
}

// catalogue knows the engines and what they can serve.
type catalogue interface {
	Roster() []engine.Engine
	Find(kind engine.Kind, model string) (engine.ID, bool)
}

// loader is an engine that keeps models in memory.
type loader interface {
	Load(ctx context.Context, model string, source engine.Source, progress func(engine.Progress)) error
	Unload(ctx context.Context, model string) error
	Loaded() []string
}

// offerer gives a file of this computer an address that engines take.
type offerer interface {
	Offer(path string) (address string, release func())
}

// Config is what the server needs.
type Config struct {
	// Port is where to listen; nil means DefaultPort, or any other when that is
	// taken. 0 is any.
	Port      *uint16
	Token     string // at least 16 characters
	Discovery string // path of the file that tells address and token
	Version   string
	Jobs      runner
	Engines   catalogue
	Models    loader
	Inputs    offerer
	Observers *observe.WorkerObservers
	Busy      error // what Jobs returns while another job runs
	Log       *slog.Logger
}

// Server is the local API.
type Server struct {
	cfg      Config
	listener net.Listener
	token    [sha256.Size]byte
	room     chan struct{} // one for each request that may be in flight
}

// New begins to listen. The caller runs the server, which closes the port.
func New(ctx context.Context, cfg Config) (*Server, error) {
	if len(cfg.Token) < minToken {
		return nil, fmt.Errorf("local_api_token: must have at least %d characters", minToken)
	}
	s := &Server{cfg: cfg, token: sha256.Sum256([]byte(cfg.Token)), room: make(chan struct{}, maxWaiting)}
	port := uint16(DefaultPort)
	if cfg.Port != nil {
		port = *cfg.Port
	}
	listen := func(port uint16) (net.Listener, error) {
		return (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	}
	var err error
	if s.listener, err = listen(port); err != nil && cfg.Port == nil {
		s.listener, err = listen(0) // the discovery file says which
	}
	if err != nil {
		return nil, fmt.Errorf("local_api_port: %w", err)
	}
	return s, nil
}

// URL is where the server listens.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// discovery is what programs find the server by.
type discovery struct {
	URL     string `json:"url"`
	Token   string `json:"token"`
	PID     int    `json:"pid"`
	Version string `json:"version"`
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	server := &http.Server{
		Handler: s.guard(s.routes()), ReadHeaderTimeout: headerTime, MaxHeaderBytes: maxHeader,
		ErrorLog:    slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	data, err := json.MarshalIndent(discovery{s.URL(), s.cfg.Token, os.Getpid(), s.cfg.Version}, "", "  ")
	if err == nil {
		err = atomicfile.Write(s.cfg.Discovery, append(data, '\n'), 0o600)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("say where the local API is: %w", err), s.listener.Close())
	}
	s.cfg.Log.Info("local API is served", "address", s.URL(), "discovery", s.cfg.Discovery)
	stopped := make(chan error, 1)
	go func() { // ends with ctx, which is over when Serve returns
		<-ctx.Done()
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
		defer cancel()
		if err := server.Shutdown(closing); err != nil {
			err = server.Close()
			stopped <- err
			return
		}
		stopped <- nil
	}()
	err = server.Serve(s.listener)
	if !errors.Is(err, http.ErrServerClosed) {
		return errors.Join(fmt.Errorf("serve the local API: %w", err), os.Remove(s.cfg.Discovery))
	}
	return errors.Join(<-stopped, os.Remove(s.cfg.Discovery))
}

// closeTime is how long the answers in flight have once their jobs are stopped.
const closeTime = 5 * time.Second

// FileName is the name of the discovery file beside a config.
const FileName = "local-api.json"

// DiscoveryPath is where the discovery file of a config lies.
func DiscoveryPath(config string) string { return filepath.Join(filepath.Dir(config), FileName) }

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.health)
	mux.HandleFunc("POST /v1/chat/completions", s.chat)
	mux.HandleFunc("GET /v1/models", s.listModels)
	mux.HandleFunc("GET /models", s.listModels)
	mux.HandleFunc("POST /models/load", s.load)
	mux.HandleFunc("POST /models/unload", s.unload)
	mux.HandleFunc("POST /image", s.image)
	mux.HandleFunc("POST /tts", s.speak)
	mux.HandleFunc("POST /stt", s.listen)
	mux.HandleFunc("POST /video", s.video)
	mux.HandleFunc("GET /jobs", s.jobs)
	mux.HandleFunc("POST /jobs/{id}/cancel", s.cancel)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, problem{http.StatusNotFound, "invalid_request_error", "not_found", fmt.Sprintf("there is no %s %s here", r.Method, r.URL.Path), nil})
	})
	return mux
}

// guard lets in who names this computer, comes from no foreign page and knows the
// token.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		switch {
		case !s.isMe(r.Host):
			fail(w, problem{http.StatusForbidden, "invalid_request_error", "bad_host", "this server answers as 127.0.0.1 and localhost only", nil})
			return
		case r.Header.Get("Origin") != "" && !s.isMine(r.Header.Get("Origin")), r.Header.Get("Sec-Fetch-Site") == "cross-site":
			fail(w, problem{http.StatusForbidden, "invalid_request_error", "bad_origin", "pages of other sites may not use this server", nil})
			return
		case r.URL.Path == "/healthz":
		case !s.knows(r.Header.Get("Authorization")):
			w.Header().Set("WWW-Authenticate", "Bearer")
			fail(w, problem{http.StatusUnauthorized, "authentication_error", "invalid_api_key", "the token is missing or wrong; it is in the file " + FileName, nil})
			return
		}
		select {
		case s.room <- struct{}{}:
			defer func() { <-s.room }()
		default:
			fail(w, problem{http.StatusTooManyRequests, "rate_limit_error", "too_many_requests", "too many requests at a time", nil})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

// isMe tells whether a Host header names this server.
func (s *Server) isMe(host string) bool {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		return false
	}
	_, mine, err := net.SplitHostPort(s.listener.Addr().String())
	return err == nil && port == mine && (name == "127.0.0.1" || strings.EqualFold(name, "localhost"))
}

// isMine tells whether an Origin header is a page of this computer.
func (s *Server) isMine(origin string) bool {
	u, err := url.Parse(origin)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

func (s *Server) knows(authorization string) bool {
	scheme, token, ok := strings.Cut(authorization, " ")
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	return ok && strings.EqualFold(scheme, "bearer") && subtle.ConstantTimeCompare(sum[:], s.token[:]) == 1
}

// problem is an answer that is none, in the shape of OpenAI's API.
type problem struct {
	status  int
	kind    string
	code    string
	message string
	more    map[string]any
}

func (p problem) Error() string { return p.message }

func fail(w http.ResponseWriter, p problem) {
	body := map[string]any{"message": p.message, "type": p.kind, "param": nil, "code": p.code}
	maps.Copy(body, p.more)
	if p.status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "5")
	}
	answer(w, p.status, map[string]any{"error": body})
}

func answer(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		status, data = http.StatusInternalServerError, []byte(`{"error":{"message":"the answer cannot be encoded","type":"server_error","param":null,"code":null}}`)
	}
	w.Header().Set("Content-Type", contentJSON)
	w.WriteHeader(status)
	_, _ = w.Write(data) // who asked has gone, then
}

func badRequest(format string, args ...any) problem {
	return problem{http.StatusBadRequest, "invalid_request_error", "invalid_value", fmt.Sprintf(format, args...), nil}
}

// problemOf words the error of a job.
func (s *Server) problemOf(err error) problem {
	if p, ok := errors.AsType[problem](err); ok {
		return p
	}
	if errors.Is(err, s.cfg.Busy) {
		return problem{http.StatusTooManyRequests, "rate_limit_error", "busy", "another job is running; try again in a moment", nil}
	}
	if errors.Is(err, errDeadline) {
		return problem{http.StatusGatewayTimeout, "server_error", "deadline", "deadline passed", nil}
	}
	p := problem{http.StatusInternalServerError, "server_error", "internal", err.Error(), nil}
	e, ok := errors.AsType[*engine.Error](err)
	if !ok {
		return p
	}
	p.code, p.message = string(e.Class), e.Error()
	switch e.Class {
	case engine.ClassBadInput, engine.ClassUnsupportedKind, engine.ClassInputGone:
		p.status, p.kind = http.StatusBadRequest, "invalid_request_error"
	case engine.ClassInsufficientMemory, engine.ClassOutOfMemory:
		p.status = http.StatusConflict
		if m, ok := errors.AsType[*engine.MemoryError](err); ok {
			p.more = map[string]any{"neededGib": m.Needed, "freeGib": m.Free, "marginGib": m.Margin}
		}
	case engine.ClassEngineMissing, engine.ClassModelUnavailable, engine.ClassGPURuntime:
		p.status = http.StatusServiceUnavailable
	case engine.ClassTimeout:
		p.status = http.StatusGatewayTimeout
	default:
	}
	return p
}

// errDeadline says that the caller's deadline_ms is over.
var errDeadline = errors.New("deadline passed")
