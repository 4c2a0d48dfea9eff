package protocol

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// RegisterRequest asks a studio to let this worker in (§2.3).
type RegisterRequest struct {
	InstallID              string       `json:"installId"`
	RegistrationSecretHash string       `json:"registrationSecretHash"` // 64 hex: SHA-256 of the secret's text
	Capabilities           Capabilities `json:"capabilities"`
	UserAgent              string       `json:"userAgent"`
}

// DecodeRegisterRequest reads a register request.
func DecodeRegisterRequest(data []byte) (RegisterRequest, error) {
	f, err := body(data)
	if err != nil {
		return RegisterRequest{}, err
	}
	r := RegisterRequest{
		InstallID:              required[string](f, "installId"),
		RegistrationSecretHash: required[string](f, "registrationSecretHash"),
		Capabilities:           required[Capabilities](f, "capabilities"),
		UserAgent:              required[string](f, "userAgent"),
	}
	if f.err != nil {
		return RegisterRequest{}, f.err
	}
	if len(r.RegistrationSecretHash) != 64 || strings.Trim(r.RegistrationSecretHash, "0123456789abcdef") != "" {
		return RegisterRequest{}, errors.New(`field "registrationSecretHash": not 64 lower-case hex digits`)
	}
	if r.InstallID == "" {
		return RegisterRequest{}, errors.New(`field "installId": empty`)
	}
	return r, nil
}

// RegisterResponse names the pending request (§2.3).
type RegisterResponse struct {
	RequestID string `json:"requestId"`
	Status    string `json:"status"`
}

// DecodeRegisterResponse reads the answer to a register request.
func DecodeRegisterResponse(data []byte) (RegisterResponse, error) {
	f, err := body(data)
	if err != nil {
		return RegisterResponse{}, err
	}
	r := RegisterResponse{RequestID: required[string](f, "requestId"), Status: required[string](f, "status")}
	if f.err == nil && r.RequestID == "" {
		f.err = errors.New(`field "requestId": empty`)
	}
	return r, f.err
}

// RegistrationStatus is where a register request stands.
type RegistrationStatus string

// The registration statuses.
const (
	StatusPending  RegistrationStatus = "pending"
	StatusApproved RegistrationStatus = "approved"
	StatusRejected RegistrationStatus = "rejected"
)

// PollResponse is the answer to a poll (§2.4).
type PollResponse struct {
	Status    RegistrationStatus `json:"status"`
	WorkerID  string             `json:"workerId,omitempty"`  // approved
	AuthToken string             `json:"authToken,omitempty"` // approved; a secret
	Reason    string             `json:"reason,omitempty"`    // rejected
}

// DecodePollResponse reads the answer to a poll.
func DecodePollResponse(data []byte) (PollResponse, error) {
	f, err := body(data)
	if err != nil {
		return PollResponse{}, err
	}
	r := PollResponse{Status: oneOf(f, "status", RegistrationStatus(required[string](f, "status")),
		StatusPending, StatusApproved, StatusRejected)}
	switch r.Status {
	case StatusApproved:
		r.WorkerID, r.AuthToken = required[string](f, "workerId"), required[string](f, "authToken")
		if f.err == nil && (r.WorkerID == "" || r.AuthToken == "") {
			f.err = errors.New("approved without credentials")
		}
	case StatusRejected:
		if reason := optional[string](f, "reason"); reason != nil {
			r.Reason = *reason
		}
	case StatusPending:
	}
	return r, f.err
}

// Parts of the multipart body that delivers bytes (§2.5).
const (
	PartPrompt         = "prompt"
	PartExt            = "ext"
	PartFile           = "image" // also for sound and video
	PartGenerationMeta = "generationMeta"
)

// ContentType returns the type of a result's bytes by their extension, without
// a dot (§2.5).
func ContentType(ext string) string {
	switch ext {
	case "png", "webp", "gif":
		return "image/" + ext
	case "wav":
		return "audio/wav"
	case "mp3":
		return "audio/mpeg"
	case "mp4":
		return "video/mp4"
	}
	return "application/octet-stream"
}

// Prefix is the path under which every studio route lives (§2.1).
const Prefix = "/graphics/api"

// Base is the address of a studio.
type Base struct{ u url.URL }

// ParseBase reads api_base_url (§2.1). Query and fragment are dropped. The
// error says what is wrong with the address, without naming the setting.
func ParseBase(address string) (Base, error) {
	u, err := url.Parse(strings.TrimSpace(address))
	if err != nil {
		return Base{}, errors.New("not a web address")
	}
	switch u.Scheme {
	case "http", "https", "ws", "wss":
	case "":
		return Base{}, errors.New("the address must start with https:// or http://")
	default:
		return Base{}, fmt.Errorf("%.20q addresses are not supported, use https or http", u.Scheme)
	}
	if u.Hostname() == "" {
		return Base{}, errors.New("the address has no host name")
	}
	path := strings.TrimSuffix(strings.TrimRight(u.EscapedPath(), "/"), Prefix) + Prefix
	plain, err := url.PathUnescape(path)
	if err != nil {
		return Base{}, errors.New("the path of the address is not valid")
	}
	return Base{u: url.URL{Scheme: u.Scheme, Host: u.Host, Path: plain, RawPath: path}}, nil
}

// Host returns host and port of the studio.
func (b Base) Host() string { return b.u.Host }

// Secure says whether the connection is encrypted.
func (b Base) Secure() bool { return b.u.Scheme == "https" || b.u.Scheme == "wss" }

// RegisterURL is where a worker asks to be let in (§2.3).
func (b Base) RegisterURL() (string, error) { return b.http("workers", "register-request") }

// PollURL is where a worker asks how its request stands (§2.4).
func (b Base) PollURL(requestID string) (string, error) {
	return b.http("workers", "register-requests", requestID)
}

// CompleteURL is where bytes are delivered (§2.5).
func (b Base) CompleteURL(workerID, jobID string) (string, error) {
	return b.http("workers", workerID, "jobs", jobID, "complete")
}

// ConnectURL is the WebSocket address of a worker (§3.1).
func (b Base) ConnectURL(workerID string) string {
	u := b.u
	switch u.Scheme {
	case "http":
		u.Scheme = "ws"
	case "https":
		u.Scheme = "wss"
	}
	return u.String() + segments("workers", workerID, "connect")
}

func (b Base) http(path ...string) (string, error) {
	if b.u.Scheme != "http" && b.u.Scheme != "https" {
		return "", fmt.Errorf("a %s address has no HTTP side, use http or https", b.u.Scheme)
	}
	return b.u.String() + segments(path...), nil
}

// segments joins path segments, escaped: ids come from outside, and "." and
// ".." would walk (§2.1).
func segments(path ...string) string {
	var b strings.Builder
	for _, s := range path {
		b.WriteByte('/')
		switch s {
		case ".", "..":
			b.WriteString(strings.ReplaceAll(s, ".", "%2E"))
		default:
			b.WriteString(url.PathEscape(s))
		}
	}
	return b.String()
}
