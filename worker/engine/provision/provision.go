// Package provision fetches released programs and libraries of engines (engines
// spec §4.2): an archive over HTTPS, checked by its SHA-256, unpacked beside the
// models and published whole.
//
// Install blocks until that is done or its context ends. Nothing half fetched or
// unpacked is ever found by anybody.
package provision

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"studioworker/worker/engine"
)

// Limits of one release.
const (
	maxArchive  = 2 << 30 // bytes
	maxUnpacked = 2 << 30 // bytes
	maxEntries  = 2000
	maxPage     = 8 << 20 // bytes of a release page
	totalLimit  = 30 * time.Minute
	stallLimit  = time.Minute
	maxHops     = 5
	marker      = ".release" // in the folder of a release: its address and its sum
)

// Config is what an installer works with.
type Config struct {
	// Root is the models folder in force.
	Root      func() string
	HTTP      *http.Client
	UserAgent string
	// Pages is where release pages are; empty = the public place.
	Pages string
	Log   *slog.Logger
}

// Installer installs releases, one at a time. It is safe for concurrent use.
type Installer struct {
	cfg  Config
	http *http.Client
	mu   sync.Mutex
}

// New makes an installer. It touches nothing and calls nobody yet.
func New(cfg Config) *Installer {
	if cfg.Pages == "" {
		cfg.Pages = "https://api.github.com"
	}
	client := *cfg.HTTP
	client.Timeout = 0 // the limits are ours
	client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) >= maxHops {
			return errors.New("too many redirects")
		}
		return checkURL(r.URL)
	}
	return &Installer{cfg: cfg, http: &client}
}

// checkURL allows HTTPS, and HTTP to this computer.
func checkURL(u *url.URL) error {
	host := u.Hostname()
	local := host == "localhost" || net.ParseIP(host).IsLoopback()
	if u.Scheme == "https" || u.Scheme == "http" && local {
		return nil
	}
	return fmt.Errorf("the address %s://%s is refused: only https is allowed", u.Scheme, host)
}

// Installed returns the path of what a release is for, when that release is the
// one that lies in its place.
func (i *Installer) Installed(r Release) (string, bool) {
	dir := filepath.Join(i.cfg.Root(), filepath.FromSlash(r.Dir))
	data, err := os.ReadFile(filepath.Join(dir, markerOf(r)))
	if err != nil {
		return "", false
	}
	address, _, _ := strings.Cut(string(data), "\n")
	path := filepath.Join(dir, r.File)
	info, err := os.Stat(path)
	return path, err == nil && info.Mode().IsRegular() && address == r.URL
}

// markerOf is the name of the file that says which release lies in a folder. The
// one of sd-cli is the reference's.
func markerOf(r Release) string {
	if r.Dir == "bin" {
		return ".sd-cli-release"
	}
	return marker
}

// Install returns the path of what a release is for, and fetches the release when
// it is not here. The error says what the person can do; it has a class.
func (i *Installer) Install(ctx context.Context, r Release) (string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if path, ok := i.Installed(r); ok {
		return path, nil
	}
	path, err := i.install(ctx, r)
	if err != nil && ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", &engine.Error{Class: engine.ClassEngineMissing, Err: fmt.Errorf("fetch %s: %w", r.Engine, err)}
	}
	return path, nil
}

func (i *Installer) install(ctx context.Context, r Release) (path string, err error) {
	root := i.cfg.Root()
	if err := os.MkdirAll(root, 0o755); err != nil { // #nosec G301 -- model files are no secret
		return "", err
	}
	// Both lie in the models folder, so that the last step is a rename.
	scratch, err := os.MkdirTemp(root, ".engine-")
	if err != nil {
		return "", err
	}
	defer func() {
		if removeErr := os.RemoveAll(scratch); removeErr != nil {
			i.cfg.Log.Warn("a temporary folder was not removed", "error", removeErr)
		}
	}()
	want := strings.ToLower(r.SHA256)
	if want == "" && r.Repo != "" {
		if want, err = i.published(ctx, r); err != nil {
			return "", err
		}
		i.cfg.Log.Info("the archive is checked by the sum on its release page, not by one of this worker", "engine", r.Engine, "sha256", want)
	}
	i.cfg.Log.Info("fetching an engine", "engine", r.Engine, "release", r.Tag, "archive", r.Asset)
	archive := filepath.Join(scratch, "archive")
	sum, err := i.download(ctx, r, archive)
	if err != nil {
		return "", err
	}
	switch {
	case want == "": // the person named the address
		i.cfg.Log.Warn("the archive was not checked: it is one that you named", "engine", r.Engine, "sha256", sum)
	case sum != want:
		return "", fmt.Errorf("%s is not what was published: its sum is %s, not %s", r.Asset, sum, want)
	}
	stage := filepath.Join(scratch, "stage")
	if err := os.Mkdir(stage, 0o755); err != nil { // #nosec G301 -- as above
		return "", err
	}
	if err := unpack(archive, r.Asset, stage); err != nil {
		return "", fmt.Errorf("unpack %s: %w", r.Asset, err)
	}
	if info, err := os.Stat(filepath.Join(stage, r.File)); err != nil || !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s holds no %s", r.Asset, r.File)
	}
	if err := os.WriteFile(filepath.Join(stage, markerOf(r)), []byte(r.URL+"\n"+sum+"\n"), 0o600); err != nil {
		return "", err
	}
	dir := filepath.Join(root, filepath.FromSlash(r.Dir))
	if err := publish(stage, dir, markerOf(r)); err != nil {
		return "", err
	}
	i.cfg.Log.Info("an engine was fetched", "engine", r.Engine, "release", r.Tag)
	return filepath.Join(dir, r.File), nil
}

// publish moves the files of stage into dir, the marker last: without it what
// lies there is not taken for this release.
func publish(stage, dir, last string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { // #nosec G301 -- as above
		return err
	}
	if err := os.Remove(filepath.Join(dir, last)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	entries, err := os.ReadDir(stage)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == last {
			continue
		}
		if err := os.Rename(filepath.Join(stage, entry.Name()), filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return os.Rename(filepath.Join(stage, last), filepath.Join(dir, last))
}

// get makes a request that ends when nothing comes for a while.
func (i *Installer) get(ctx context.Context, address string, use func(*http.Response, io.Reader) error) error {
	u, err := url.Parse(address)
	if err != nil {
		return errors.New("the address is not a web address")
	}
	if err := checkURL(u); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, totalLimit, fmt.Errorf("it took longer than %v", totalLimit))
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	stalled := time.AfterFunc(stallLimit, func() { stop(fmt.Errorf("nothing came for %v", stallLimit)) })
	defer stalled.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", i.cfg.UserAgent)
	resp, err := i.http.Do(req)
	if err == nil {
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s -> %d", address, resp.StatusCode)
		}
		err = use(resp, &alive{resp.Body, func() { stalled.Reset(stallLimit) }})
	}
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("GET %s: %w", address, context.Cause(ctx))
	}
	return err
}

// alive calls a function for each piece that is read.
type alive struct {
	io.Reader
	heard func()
}

func (a *alive) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if n > 0 {
		a.heard()
	}
	return n, err
}

// published asks the release page for the sum of an archive.
func (i *Installer) published(ctx context.Context, r Release) (string, error) {
	unknown := fmt.Errorf("nobody says the sum of %s, so it cannot be checked; install it by hand", r.Asset)
	var page struct {
		Assets []struct {
			Name   string `json:"name"`
			Digest string `json:"digest"`
		} `json:"assets"`
	}
	address := i.cfg.Pages + "/repos/" + r.Repo + "/releases/tags/" + url.PathEscape(r.Tag)
	err := i.get(ctx, address, func(_ *http.Response, body io.Reader) error {
		data, err := io.ReadAll(io.LimitReader(body, maxPage+1))
		if err != nil {
			return err
		}
		if len(data) > maxPage {
			return errors.New("the release page is too long")
		}
		return json.Unmarshal(data, &page)
	})
	if err != nil {
		return "", fmt.Errorf("ask for the sum of %s: %w", r.Asset, err)
	}
	for _, asset := range page.Assets {
		sum, ok := strings.CutPrefix(strings.ToLower(asset.Digest), "sha256:")
		if raw, err := hex.DecodeString(sum); asset.Name == r.Asset && ok && err == nil && len(raw) == sha256.Size {
			return sum, nil
		}
	}
	return "", unknown
}

// download saves an archive and returns its sum.
func (i *Installer) download(ctx context.Context, r Release, path string) (sum string, err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	hash := sha256.New()
	err = i.get(ctx, r.URL, func(resp *http.Response, body io.Reader) error {
		n, err := io.Copy(io.MultiWriter(file, hash), io.LimitReader(body, maxArchive+1))
		switch {
		case err != nil:
			return err
		case n > maxArchive:
			return errors.New("the archive is too large")
		case resp.ContentLength >= 0 && n != resp.ContentLength:
			return fmt.Errorf("got %d of %d bytes", n, resp.ContentLength)
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("download %s: %w", r.Asset, err)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
