package feed

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"aead.dev/minisign"
	"golang.org/x/mod/semver"

	"studioworker/worker/observe"
)

// Names of the documents, and what their signatures add to a name.
const (
	KeysName        = "keys.json"
	ReleaseName     = "release.json"
	SignatureSuffix = ".minisig"
)

// Product is what a release must be of.
const Product = "studio-worker"

// Channels of releases. ChannelPrerelease is only taken by who asks for it.
const (
	ChannelStable     = "stable"
	ChannelPrerelease = "prerelease"
)

// What the documents call themselves; another form gets another number.
const (
	keysSchema    = "keys/1"
	releaseSchema = "release/1"
)

// Bounds. An archive of ours has about 40 MB.
const (
	MaxDocument  = 64 << 10  // bytes of a document
	MaxSignature = 4 << 10   // bytes of a signature's text
	MaxArchive   = 512 << 20 // bytes of an archive
	MaxNotes     = 8 << 10   // bytes of what a release brings
	maxKeys      = 16
	maxRevoked   = 256
	maxTargets   = 64
	maxRoots     = 8
	maxText      = 256 // bytes of a name or an address
	maxSeq       = 1 << 53
)

// What keeps a document from being believed.
var (
	ErrMalformed  = errors.New("the document is not of the form that is known here")
	ErrSignature  = errors.New("the signature does not fit the document")
	ErrUnknownKey = errors.New("the document is signed by a key that may not sign it")
)

// ExpiredError says that a document was right but must not be believed any more.
type ExpiredError struct {
	Name  string    // of the document, or of the key
	Since time.Time // when it ended
}

// Error names the document.
func (e *ExpiredError) Error() string {
	return fmt.Sprintf("%s was good until %s only; see whether this computer's clock is right", e.Name, e.Since.UTC().Format(time.DateOnly))
}

// Keys says who may sign releases.
type Keys struct {
	Epoch   uint64    // counts from 1; a higher one begins a new order of releases
	Expires time.Time // to the second
	Keys    []Key     // 1 to 16
	Revoked []string  // ids of keys that never may sign again
}

// Key may sign releases until NotAfter.
type Key struct {
	Public   minisign.PublicKey
	NotAfter time.Time // to the second
}

// Release is one release of one product.
type Release struct {
	Channel  string
	Seq      uint64 // place in the order of releases, from 1
	Version  string // semantic version without a v
	Released time.Time
	Expires  time.Time // when it must not be begun with any more
	MinSeq   uint64    // the oldest release that may step to this one; 0 = any
	Percent  int       // share of installs that take it unasked, 0 to 100
	Notes    string    // what it brings, plain text
	Targets  []Target  // 1 to 64
}

// Target is the archive for one kind of computer and build.
type Target struct {
	OS      string `json:"os"`      // as GOOS
	Arch    string `json:"arch"`    // as GOARCH
	Variant string `json:"variant"` // headless, window
	// URL is where the archive lies: a plain name beside release.json, or an address
	// with https.
	URL    string `json:"url"`
	Size   int64  `json:"size"`   // bytes, 1 to MaxArchive
	SHA256 string `json:"sha256"` // 64 hex digits
}

// The forms on the wire.
type (
	wireKeys struct {
		Schema  string    `json:"schema"`
		Epoch   uint64    `json:"epoch"`
		Expires time.Time `json:"expires"`
		Keys    []wireKey `json:"keys"`
		Revoked []string  `json:"revoked,omitempty"`
	}
	wireKey struct {
		ID       string    `json:"id"`
		Pub      string    `json:"pub"`
		NotAfter time.Time `json:"notAfter"`
	}
	wireRelease struct {
		Schema   string      `json:"schema"`
		Product  string      `json:"product"`
		Channel  string      `json:"channel"`
		Seq      uint64      `json:"seq"`
		Version  string      `json:"version"`
		Released time.Time   `json:"released"`
		Expires  time.Time   `json:"expires"`
		MinSeq   uint64      `json:"minSeq"`
		Rollout  wireRollout `json:"rollout"`
		Notes    string      `json:"notes,omitempty"`
		Targets  []Target    `json:"targets"`
	}
	wireRollout struct {
		Percent int `json:"percent"`
	}
)

// KeyID writes the id of a key as the documents do: 16 hex digits.
func KeyID(k minisign.PublicKey) string { return fmt.Sprintf("%016X", k.ID()) }

// ParseRoots reads the root keys that a program was built with: public keys in
// minisign's form, without their comment, separated by commas.
func ParseRoots(text string) ([]minisign.PublicKey, error) {
	var roots []minisign.PublicKey
	for part := range strings.SplitSeq(text, ",") {
		key, err := parseKey(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("read root key %d: %w", len(roots)+1, err)
		}
		if roots = append(roots, key); len(roots) > maxRoots {
			return nil, fmt.Errorf("there are more than %d root keys", maxRoots)
		}
	}
	return roots, nil
}

func parseKey(text string) (minisign.PublicKey, error) {
	var key minisign.PublicKey
	if text == "" || strings.ContainsAny(text, "\r\n") {
		return key, errors.New("it is not a minisign key of one line")
	}
	return key, key.UnmarshalText([]byte(text))
}

// Sign returns the text of the signature of a document.
func Sign(document []byte, name string, key minisign.PrivateKey, at time.Time) []byte {
	comment := fmt.Sprintf("timestamp:%d\tfile:%s", at.Unix(), name)
	return minisign.SignWithComments(key, document, comment, "signature of "+Product)
}

// Encode writes the document, ready to be signed. It refuses what [OpenKeys] would.
func (k Keys) Encode() ([]byte, error) {
	w := wireKeys{Schema: keysSchema, Epoch: k.Epoch, Expires: k.Expires.UTC().Truncate(time.Second), Revoked: k.Revoked}
	for _, key := range k.Keys {
		w.Keys = append(w.Keys, wireKey{ID: KeyID(key.Public), Pub: key.Public.String(), NotAfter: key.NotAfter.UTC().Truncate(time.Second)})
	}
	text, err := encode(w)
	if err != nil {
		return nil, err
	}
	_, err = parseKeys(text)
	return text, err
}

// Encode writes the document, ready to be signed. It refuses what [Keys.OpenRelease]
// would.
func (r Release) Encode() ([]byte, error) {
	text, err := encode(wireRelease{
		Schema: releaseSchema, Product: Product, Channel: r.Channel, Seq: r.Seq, Version: r.Version,
		Released: r.Released.UTC().Truncate(time.Second), Expires: r.Expires.UTC().Truncate(time.Second),
		MinSeq: r.MinSeq, Rollout: wireRollout{r.Percent}, Notes: r.Notes, Targets: r.Targets,
	})
	if err != nil {
		return nil, err
	}
	_, err = parseRelease(text)
	return text, err
}

func encode(v any) ([]byte, error) {
	text, err := json.MarshalIndent(v, "", "  ")
	return append(text, '\n'), err
}

// OpenKeys believes keys.json when one of the roots has signed it and it has not expired.
// Its errors are ErrMalformed, ErrUnknownKey, ErrSignature or an [ExpiredError].
func OpenKeys(document, signature []byte, roots []minisign.PublicKey, now time.Time) (Keys, error) {
	if err := verify(document, signature, roots); err != nil {
		return Keys{}, disbelieved(KeysName, err)
	}
	k, err := parseKeys(document)
	if err != nil {
		return Keys{}, disbelieved(KeysName, err)
	}
	if !now.Before(k.Expires) {
		return Keys{}, outdated(&ExpiredError{KeysName, k.Expires})
	}
	return k, nil
}

// OpenRelease believes release.json when a key that may has signed it and it has not
// expired. Its errors are ErrMalformed, ErrUnknownKey, ErrSignature or an
// [ExpiredError].
func (k Keys) OpenRelease(document, signature []byte, now time.Time) (Release, error) {
	var able []minisign.PublicKey
	var late *ExpiredError
	for _, key := range k.Keys {
		switch {
		case slices.Contains(k.Revoked, KeyID(key.Public)):
		case !now.Before(key.NotAfter):
			if verify(document, signature, []minisign.PublicKey{key.Public}) == nil {
				late = &ExpiredError{"the key " + KeyID(key.Public), key.NotAfter}
			}
		default:
			able = append(able, key.Public)
		}
	}
	if err := verify(document, signature, able); err != nil {
		if late != nil {
			return Release{}, outdated(late)
		}
		return Release{}, disbelieved(ReleaseName, err)
	}
	r, err := parseRelease(document)
	if err != nil {
		return Release{}, disbelieved(ReleaseName, err)
	}
	if !now.Before(r.Expires) {
		return Release{}, outdated(&ExpiredError{ReleaseName, r.Expires})
	}
	return r, nil
}

// disbelieved is the error of a document, with its reason.
func disbelieved(name string, err error) error {
	err = fmt.Errorf("%s: %w", name, err)
	reason := observe.ReasonSignature
	if errors.Is(err, ErrMalformed) {
		reason = observe.ReasonFeed
	}
	return observe.Because(err, reason, err.Error())
}

func outdated(err *ExpiredError) error {
	return observe.Explained(err, observe.Why{Reason: observe.ReasonOutdated, Said: err.Name, At: err.Since})
}

// verify finds the key that signed a document.
func verify(document, signature []byte, keys []minisign.PublicKey) error {
	if len(document) > MaxDocument || len(signature) > MaxSignature {
		return fmt.Errorf("%w: it is too long", ErrMalformed)
	}
	var s minisign.Signature
	if err := s.UnmarshalText(signature); err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	known := false
	for _, key := range keys {
		if key.ID() != s.KeyID {
			continue
		}
		if known = true; minisign.Verify(key, document, signature) {
			return nil
		}
	}
	if !known {
		return fmt.Errorf("%w: %016X", ErrUnknownKey, s.KeyID)
	}
	return ErrSignature
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrMalformed, fmt.Errorf(format, args...))
}

func parseKeys(text []byte) (Keys, error) {
	var w wireKeys
	if err := decode(text, &w); err != nil {
		return Keys{}, err
	}
	switch {
	case w.Schema != keysSchema:
		return Keys{}, malformed("its schema is %.20q, not %q", w.Schema, keysSchema)
	case w.Epoch == 0 || w.Epoch > maxSeq:
		return Keys{}, malformed("its epoch is %d", w.Epoch)
	case len(w.Keys) == 0 || len(w.Keys) > maxKeys:
		return Keys{}, malformed("it has %d keys", len(w.Keys))
	case len(w.Revoked) > maxRevoked:
		return Keys{}, malformed("it revokes more than %d keys", maxRevoked)
	}
	if err := plausible(w.Expires); err != nil {
		return Keys{}, err
	}
	k := Keys{Epoch: w.Epoch, Expires: w.Expires}
	for _, wk := range w.Keys {
		public, err := parseKey(wk.Pub)
		if err != nil {
			return Keys{}, malformed("one of its keys cannot be read: %w", err)
		}
		if wk.ID != KeyID(public) {
			return Keys{}, malformed("its key %.20q has another id", wk.ID)
		}
		if err := plausible(wk.NotAfter); err != nil {
			return Keys{}, err
		}
		k.Keys = append(k.Keys, Key{public, wk.NotAfter})
	}
	for _, id := range w.Revoked {
		if raw, err := hex.DecodeString(id); err != nil || len(raw) != 8 || id != strings.ToUpper(id) {
			return Keys{}, malformed("it revokes %.20q, which is no key's id", id)
		}
	}
	k.Revoked = w.Revoked
	return k, nil
}

func parseRelease(text []byte) (Release, error) {
	var w wireRelease
	if err := decode(text, &w); err != nil {
		return Release{}, err
	}
	switch {
	case w.Schema != releaseSchema:
		return Release{}, malformed("its schema is %.20q, not %q", w.Schema, releaseSchema)
	case w.Product != Product:
		return Release{}, malformed("it is of %.20q, not of %s", w.Product, Product)
	case w.Channel != ChannelStable && w.Channel != ChannelPrerelease:
		return Release{}, malformed("its channel is %.20q", w.Channel)
	case w.Seq == 0 || w.Seq > maxSeq:
		return Release{}, malformed("its place in the order is %d", w.Seq)
	case w.MinSeq > w.Seq:
		return Release{}, malformed("it wants a release that is newer than it")
	case !goodVersion(w.Version):
		return Release{}, malformed("its version is %.20q", w.Version)
	case w.Rollout.Percent < 0 || w.Rollout.Percent > 100:
		return Release{}, malformed("its share is %d percent", w.Rollout.Percent)
	case len(w.Notes) > MaxNotes:
		return Release{}, malformed("its notes are longer than %d bytes", MaxNotes)
	case len(w.Targets) == 0 || len(w.Targets) > maxTargets:
		return Release{}, malformed("it has %d targets", len(w.Targets))
	}
	if err := errors.Join(plausible(w.Released), plausible(w.Expires)); err != nil {
		return Release{}, err
	}
	for i, t := range w.Targets {
		if err := t.check(); err != nil {
			return Release{}, err
		}
		same := func(o Target) bool { return o.OS == t.OS && o.Arch == t.Arch && o.Variant == t.Variant }
		if slices.ContainsFunc(w.Targets[:i], same) {
			return Release{}, malformed("it has two archives for %s/%s %s", t.OS, t.Arch, t.Variant)
		}
	}
	return Release{
		Channel: w.Channel, Seq: w.Seq, Version: w.Version, Released: w.Released, Expires: w.Expires, MinSeq: w.MinSeq,
		Percent: w.Rollout.Percent, Notes: w.Notes, Targets: w.Targets,
	}, nil
}

func decode(text []byte, v any) error {
	if len(text) > MaxDocument {
		return malformed("it is longer than %d bytes", MaxDocument)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return malformed("it is not the JSON that was expected: %w", err)
	}
	return nil
}

// plausible refuses times that a mistake made, and those that JSON cannot carry.
func plausible(t time.Time) error {
	if y := t.UTC().Year(); y < 2020 || y > 9998 {
		return malformed("one of its times is in the year %d", y)
	}
	return nil
}

// goodVersion says whether a text is a whole semantic version, which is a safe name for
// a folder, too.
func goodVersion(v string) bool {
	return len(v) <= 64 && semver.IsValid("v"+v) && semver.Canonical("v"+v) == "v"+v
}

func (t Target) check() error {
	for _, name := range []string{t.OS, t.Arch, t.Variant} {
		if name == "" || len(name) > 32 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return malformed("it has a target for %.20q", name)
		}
	}
	if t.Size < 1 || t.Size > MaxArchive {
		return malformed("one of its archives has %d bytes", t.Size)
	}
	if raw, err := hex.DecodeString(t.SHA256); err != nil || len(raw) != 32 || t.SHA256 != strings.ToLower(t.SHA256) {
		return malformed("the hash %.70q is none of SHA-256", t.SHA256)
	}
	if PlainName(t.URL) {
		return nil
	}
	u, err := url.Parse(t.URL)
	if err != nil || len(t.URL) > maxText || CheckURL(u) != nil {
		return malformed("one of its archives lies at %.80q: wanted a name beside it, or an address with https", t.URL)
	}
	return nil
}

// Target finds the archive for a kind of computer and build.
func (r Release) Target(goos, goarch, variant string) (Target, bool) {
	i := slices.IndexFunc(r.Targets, func(t Target) bool { return t.OS == goos && t.Arch == goarch && t.Variant == variant })
	if i < 0 {
		return Target{}, false
	}
	return r.Targets[i], true
}

// PlainName says whether a text can only be the name of a file in a folder.
func PlainName(name string) bool {
	const others = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+~-"
	return name != "" && len(name) <= maxText && strings.Trim(name, others) == "" && !strings.HasPrefix(name, ".")
}

// CheckURL refuses addresses that nothing of a release may be fetched from: what is not
// https, but for this computer itself.
func CheckURL(u *url.URL) error {
	err := checkURL(u)
	if err == nil {
		return nil
	}
	return observe.Because(err, observe.ReasonUnsafe, err.Error())
}

func checkURL(u *url.URL) error {
	host := u.Hostname()
	switch {
	case host == "":
		return errors.New("the address has no host")
	case u.User != nil:
		return errors.New("the address has a name or password in it")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && (host == "127.0.0.1" || host == "::1" || host == "localhost"):
		return nil
	}
	return fmt.Errorf("%s://%s is not safe: releases come over https only", u.Scheme, u.Host)
}
