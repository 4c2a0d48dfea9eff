package update

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"aead.dev/minisign"
	"go.uber.org/goleak"

	"studioworker/worker/observe"
	"studioworker/worker/update/feed"
	"studioworker/worker/update/versions"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimVariable); dir != "" {
		os.Exit(victim(dir))
	}
	goleak.VerifyTestMain(m)
}

// site publishes releases on loopback. Its fields may be changed before it is asked.
type site struct {
	*httptest.Server
	rootKey    minisign.PublicKey
	root, sign minisign.PrivateKey
	signKey    minisign.PublicKey

	mu     sync.Mutex
	asked  []string
	list   []feed.Listed
	files  map[string][]byte
	answer map[string]http.HandlerFunc // instead of the file
}

func newSite(tb testing.TB) *site {
	tb.Helper()
	s := &site{files: map[string][]byte{}, answer: map[string]http.HandlerFunc{}}
	var err error
	if s.rootKey, s.root, err = minisign.GenerateKey(rand.Reader); err != nil {
		tb.Fatal(err)
	}
	if s.signKey, s.sign, err = minisign.GenerateKey(rand.Reader); err != nil {
		tb.Fatal(err)
	}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	tb.Cleanup(s.Close)
	s.keys(tb, 1)
	return s
}

func (s *site) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r.URL.Path)
	handler, file := s.answer[r.URL.Path], s.files[r.URL.Path]
	list := s.list
	s.mu.Unlock()
	switch {
	case handler != nil:
		handler(w, r)
	case r.URL.Path == "/releases":
		_ = json.NewEncoder(w).Encode(list)
	case file != nil:
		_, _ = w.Write(file)
	default:
		http.NotFound(w, r)
	}
}

// keys publishes keys.json.
func (s *site) keys(tb testing.TB, epoch uint64) {
	tb.Helper()
	end := time.Now().AddDate(1, 0, 0)
	text, err := feed.Keys{Epoch: epoch, Expires: end, Keys: []feed.Key{{Public: s.signKey, NotAfter: end}}}.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	s.files["/"+feed.KeysName] = text
	s.files["/"+feed.KeysName+feed.SignatureSuffix] = feed.Sign(text, feed.KeysName, s.root, time.Now())
}

// program is a version that says its name; long makes it large.
func program(version, long string) string {
	return "#!/bin/sh\nif [ \"$1\" = version ]; then echo studio-worker " + version + "; fi\nexit 0\n#" + long + "\n"
}

func archiveOf(tb testing.TB, name, text string) []byte {
	tb.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	t := tar.NewWriter(z)
	err := t.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(text))})
	if err == nil {
		_, err = io.WriteString(t, text)
	}
	if err := errors.Join(err, t.Close(), z.Close()); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// release is one that this computer takes.
func (s *site) release(version string, seq uint64, archive []byte) feed.Release {
	sum := sha256.Sum256(archive)
	return feed.Release{
		Channel: feed.ChannelStable, Seq: seq, Version: version, Released: time.Now(), Expires: time.Now().AddDate(0, 1, 0), Percent: 100,
		Notes: "What it brings.", Targets: []feed.Target{{
			OS: runtime.GOOS, Arch: runtime.GOARCH, Variant: "headless", URL: "archive-" + version, Size: int64(len(archive)), SHA256: hex.EncodeToString(sum[:]),
		}},
	}
}

// publish signs a release and lists it under a tag.
func (s *site) publish(tb testing.TB, tag string, r feed.Release, archive []byte, key minisign.PrivateKey) {
	tb.Helper()
	text, err := r.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	listed := feed.Listed{Tag: tag}
	folder := "/" + tag + "/"
	s.files[folder+feed.ReleaseName] = text
	s.files[folder+feed.ReleaseName+feed.SignatureSuffix] = feed.Sign(text, feed.ReleaseName, key, time.Now())
	s.files[folder+"archive-"+r.Version] = archive
	for name, path := range map[string]string{
		feed.KeysName: "/" + feed.KeysName, feed.KeysName + feed.SignatureSuffix: "/" + feed.KeysName + feed.SignatureSuffix,
		feed.ReleaseName: folder + feed.ReleaseName, feed.ReleaseName + feed.SignatureSuffix: folder + feed.ReleaseName + feed.SignatureSuffix,
		"archive-" + r.Version: folder + "archive-" + r.Version,
	} {
		listed.Assets = append(listed.Assets, feed.Asset{Name: name, URL: s.URL + path})
	}
	s.list = append(s.list, listed)
}

// good publishes a release that works.
func (s *site) good(tb testing.TB, version string, seq uint64) {
	tb.Helper()
	archive := archiveOf(tb, "sw/"+versions.ProgramName(), program(version, ""))
	s.publish(tb, "v"+version, s.release(version, seq, archive), archive, s.sign)
}

// bench is an updater with what it needs.
type bench struct {
	*Updater
	store    *versions.Store
	slot     observe.Slot[observe.Update]
	log      bytes.Buffer
	settings Settings
	busy     bool
	restarts []bool
	free     uint64
}

func newBench(tb testing.TB, s *site) *bench {
	tb.Helper()
	b := &bench{settings: Settings{Enabled: true, Interval: time.Hour}, free: 1 << 40}
	log := slog.New(slog.NewTextHandler(&b.log, nil))
	var err error
	if b.store, err = versions.Open(filepath.Join(tb.TempDir(), versions.Folder), log); err != nil {
		tb.Fatal(err)
	}
	client := s.Client()
	tb.Cleanup(client.CloseIdleConnections)
	b.Updater = New(Config{
		Store: b.store, Observer: &b.slot, Log: log, HTTP: client, Settings: func() Settings { return b.settings },
		InstallID: func() string { return "this one" }, Busy: func() bool { return b.busy }, FreeDisk: func() (uint64, error) { return b.free, nil },
		Restart: func(asked bool) { b.restarts = append(b.restarts, asked) },
		Feed:    s.URL + "/releases", Roots: []minisign.PublicKey{s.rootKey}, Version: "1.0.0", Seq: 5,
		OS: runtime.GOOS, Arch: runtime.GOARCH, Variant: "headless",
	})
	return b
}

// wantNothing checks that the installed program is what starts.
func (b *bench) wantNothing(tb testing.TB) {
	tb.Helper()
	p, err := b.store.Next(versions.Version{Version: "1.0.0"})
	if err != nil || p.Path != "" {
		tb.Errorf("%+v is started, %v", p, err)
	}
}

func TestAReleaseIsTaken(t *testing.T) {
	s := newSite(t)
	s.good(t, "1.1.0", 6)
	b := newBench(t, s)
	if err := b.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if u := b.slot.Get(); u.State != observe.UpdateAvailable || u.Version != "1.1.0" || u.Notes != "What it brings." || u.Bytes == 0 || u.Checked.IsZero() {
		t.Errorf("a look shows %+v", u)
	}
	b.wantNothing(t)
	if d := b.Tick(t.Context()); d != Updated {
		t.Fatalf("the tick: %s, %s", d, b.log.String())
	}
	if u := b.slot.Get(); u.State != observe.UpdateReady || u.Done != u.Bytes {
		t.Errorf("the slot: %+v", u)
	}
	p, err := b.store.Next(versions.Version{Version: "1.0.0"})
	if err != nil || !p.Trial || p.Version.Version != "1.1.0" {
		t.Errorf("%+v is started, %v", p, err)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(p.Path), "..", "..", "stage")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the stage: %v", err)
	}
	// The same from a folder.
	b = newBench(t, s)
	for _, name := range []string{feed.KeysName, feed.KeysName + feed.SignatureSuffix} {
		s.files["/v1.1.0/"+name] = s.files["/"+name]
	}
	b.settings.Feed = s.URL + "/v1.1.0/"
	if err := b.Apply(t.Context(), false); err != nil || len(b.restarts) != 1 || !b.restarts[0] {
		t.Errorf("asked for: %v, restarts %v", err, b.restarts)
	}
}

// Each of these is one thing that is wrong (fault row 50).
func TestRow50Attacks(t *testing.T) {
	const version = "1.1.0"
	name := versions.ProgramName()
	right := archiveOf(t, name, program(version, ""))
	for _, c := range []struct {
		name   string
		change func(t *testing.T, s *site, r *feed.Release, archive *[]byte, key *minisign.PrivateKey)
		after  func(t *testing.T, s *site)
		want   string
		why    observe.Reason
	}{
		{"wrong signature", nil, func(_ *testing.T, s *site) {
			s.files["/v1.1.0/release.json"] = bytes.Replace(s.files["/v1.1.0/release.json"], []byte(`"seq": 9`), []byte(`"seq": 8`), 1)
		}, "signature does not fit", observe.ReasonSignature},
		{"unknown key", func(t *testing.T, _ *site, _ *feed.Release, _ *[]byte, key *minisign.PrivateKey) {
			t.Helper()
			var err error
			if _, *key, err = minisign.GenerateKey(rand.Reader); err != nil {
				t.Fatal(err)
			}
		}, nil, "key that may not sign", observe.ReasonSignature},
		{"older release under a new tag", func(_ *testing.T, _ *site, r *feed.Release, _ *[]byte, _ *minisign.PrivateKey) {
			r.Version, r.Targets[0].URL = "0.9.0", "archive-0.9.0"
		}, nil, "release 1.1.0 holds the documents of release 0.9.0", observe.ReasonFeed},
		{"older place in the order", func(_ *testing.T, _ *site, r *feed.Release, _ *[]byte, _ *minisign.PrivateKey) {
			r.Seq = 4
		}, nil, "was seen here already", observe.ReasonOlder},
		{"swapped asset", nil, func(t *testing.T, s *site) {
			t.Helper()
			s.files["/v1.1.0/archive-1.1.0"] = bytes.Replace(right, right[20:21], []byte{right[20] ^ 1}, 1)
		}, "is not the one of the release", observe.ReasonArchive},
		{"truncated archive", nil, func(_ *testing.T, s *site) {
			s.files["/v1.1.0/archive-1.1.0"] = right[:len(right)-10]
		}, "bytes, and the release says", observe.ReasonArchive},
		{"archive cut on its way", nil, func(_ *testing.T, s *site) {
			s.answer["/v1.1.0/archive-1.1.0"] = func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write(right[:len(right)/2])
				w.(http.Flusher).Flush()
			}
		}, "ended after", observe.ReasonArchive},
		{"path traversal", func(t *testing.T, s *site, r *feed.Release, archive *[]byte, _ *minisign.PrivateKey) {
			t.Helper()
			*archive = archiveOf(t, "../../"+name, program(version, ""))
			*r = s.release(version, 9, *archive)
		}, nil, "leads elsewhere", observe.ReasonArchive},
		{"symbolic link", func(t *testing.T, s *site, r *feed.Release, archive *[]byte, _ *minisign.PrivateKey) {
			t.Helper()
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			w := tar.NewWriter(z)
			err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: "/bin/sh"})
			if err := errors.Join(err, w.Close(), z.Close()); err != nil {
				t.Fatal(err)
			}
			*archive = b.Bytes()
			*r = s.release(version, 9, *archive)
		}, nil, "no plain file", observe.ReasonArchive},
		{"1 GB in its place", nil, func(_ *testing.T, s *site) {
			s.answer["/v1.1.0/archive-1.1.0"] = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "1000000000")
				for block := make([]byte, 1<<16); ; {
					if _, err := w.Write(block); err != nil {
						return
					}
				}
			}
		}, "it has 1000000000 bytes", observe.ReasonArchive},
		{"1 GB without saying so", nil, func(_ *testing.T, s *site) {
			s.answer["/v1.1.0/archive-1.1.0"] = func(w http.ResponseWriter, _ *http.Request) {
				for block, n := make([]byte, 1<<16), 0; n < 1_000_000_000; n += len(block) {
					if _, err := w.Write(block); err != nil {
						return
					}
				}
			}
		}, "it is longer than", observe.ReasonArchive},
		{"redirect to http", nil, func(_ *testing.T, s *site) {
			s.answer["/v1.1.0/archive-1.1.0"] = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://example.org/archive", http.StatusFound)
			}
		}, "releases come over https only", observe.ReasonUnsafe},
		{"redirects without end", nil, func(_ *testing.T, s *site) {
			s.answer["/v1.1.0/archive-1.1.0"] = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, s.URL+"/v1.1.0/archive-1.1.0", http.StatusFound)
			}
		}, "more than 3 redirects", observe.ReasonArchive},
		{"a feed that never ends", nil, func(_ *testing.T, s *site) {
			s.answer["/releases"] = func(w http.ResponseWriter, _ *http.Request) {
				for {
					if _, err := io.WriteString(w, strings.Repeat(" ", 1<<16)); err != nil {
						return
					}
				}
			}
		}, "it is longer than", observe.ReasonFeed},
		{"a document that never ends", nil, func(_ *testing.T, s *site) {
			s.answer["/v1.1.0/release.json"] = func(w http.ResponseWriter, _ *http.Request) {
				for {
					if _, err := io.WriteString(w, strings.Repeat(" ", 1<<16)); err != nil {
						return
					}
				}
			}
		}, "it is longer than", observe.ReasonFeed},
		{"another platform's", func(_ *testing.T, _ *site, r *feed.Release, _ *[]byte, _ *minisign.PrivateKey) {
			r.Targets[0].OS = "plan9"
		}, nil, "no archive for " + runtime.GOOS, observe.ReasonNoArchive},
		{"an old epoch", nil, nil, "epoch 1, and epoch 3 was seen", observe.ReasonOlder},
		{"wants a newer one to start from", func(_ *testing.T, _ *site, r *feed.Release, _ *[]byte, _ *minisign.PrivateKey) {
			r.MinSeq = 8
		}, nil, "install it by hand", observe.ReasonByHand},
		{"says that it is another version", func(t *testing.T, s *site, r *feed.Release, archive *[]byte, _ *minisign.PrivateKey) {
			t.Helper()
			*archive = archiveOf(t, name, program("1.1.1", ""))
			*r = s.release(version, 9, *archive)
		}, nil, "does not say that it is 1.1.0", observe.ReasonDoesNotRun},
		{"does not run", func(t *testing.T, s *site, r *feed.Release, archive *[]byte, _ *minisign.PrivateKey) {
			t.Helper()
			*archive = archiveOf(t, name, "#!/bin/sh\necho no such library >&2\nexit 127\n")
			*r = s.release(version, 9, *archive)
		}, nil, "no such library", observe.ReasonDoesNotRun},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			archive, key := right, s.sign
			r := s.release(version, 9, archive)
			if c.change != nil {
				c.change(t, s, &r, &archive, &key)
			}
			s.publish(t, "v"+version, r, archive, key)
			if c.after != nil {
				c.after(t, s)
			}
			b := newBench(t, s)
			if c.name == "an old epoch" {
				if err := b.store.Change(func(state *versions.State) error { state.Epoch = 3; return nil }); err != nil {
					t.Fatal(err)
				}
			}
			d := b.Tick(t.Context())
			if u := b.slot.Get(); d != CheckError && d != UpdateError || u.State != observe.UpdateFailed || !strings.Contains(u.Detail, c.want) || u.Why.Reason != c.why || u.Why.Said == "" {
				t.Errorf("the tick: %s, %+v; want %q, %s", d, u, c.want, c.why)
			}
			b.wantNothing(t)
		})
	}
}

// A thief's place in the order is forgotten when the roots begin a new epoch.
func TestANewEpoch(t *testing.T) {
	s := newSite(t)
	s.good(t, "1.1.0", 6)
	b := newBench(t, s)
	if err := b.store.Change(func(state *versions.State) error { state.Epoch, state.HighSeq = 1, 1e9; return nil }); err != nil {
		t.Fatal(err)
	}
	if d := b.Tick(t.Context()); d != CheckError {
		t.Errorf("before: %s", d)
	}
	s.keys(t, 2)
	if d := b.Tick(t.Context()); d != Updated {
		t.Errorf("after: %s, %s", d, b.log.String())
	}
	if state, err := b.store.Read(); err != nil || state.Epoch != 2 || state.HighSeq != 6 {
		t.Errorf("the state: %+v, %v", state, err)
	}
}

func TestSpec142AFeedInTrouble(t *testing.T) {
	s := newSite(t)
	s.answer["/releases"] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	b := newBench(t, s)
	if err := b.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "status 503") {
		t.Errorf("got %v", err)
	}
}

// Ours: the documents and the archive take the place of the installer.
func TestSpec143EachFailureHasItsText(t *testing.T) {
	for _, c := range []struct{ gone, want string }{
		{feed.ReleaseName, "release v1.1.0 has no file release.json"},
		{feed.KeysName + feed.SignatureSuffix, "has no file keys.json.minisig"},
		{"archive-1.1.0", "has no file archive-1.1.0"},
	} {
		s := newSite(t)
		s.good(t, "1.1.0", 6)
		for i, a := range s.list[0].Assets {
			if a.Name == c.gone {
				s.list[0].Assets[i].Name = "renamed"
			}
		}
		b := newBench(t, s)
		if d := b.Tick(t.Context()); d != CheckError || !strings.Contains(b.slot.Get().Detail, c.want) {
			t.Errorf("without %s: %s, %+v", c.gone, d, b.slot.Get())
		}
	}
	s := newSite(t)
	s.good(t, "1.1.0", 6)
	delete(s.files, "/v1.1.0/archive-1.1.0")
	b := newBench(t, s)
	if d := b.Tick(t.Context()); d != UpdateError || !strings.Contains(b.slot.Get().Detail, "status 404") ||
		b.slot.Get().Why != (observe.Why{Reason: observe.ReasonStatus, Said: "404 (" + s.URL + "/v1.1.0/archive-1.1.0)"}) {
		t.Errorf("without an archive: %s, %+v", d, b.slot.Get())
	}
}

// Ours: there is no unsigned checksum; nothing is taken without the signature.
func TestSpec144WithoutASignatureNothingIsTaken(t *testing.T) {
	for _, text := range []string{"", "untrusted comment: x\n", "nonsense"} {
		s := newSite(t)
		s.good(t, "1.1.0", 6)
		s.files["/v1.1.0/release.json.minisig"] = []byte(text)
		b := newBench(t, s)
		if d := b.Tick(t.Context()); d != CheckError {
			t.Errorf("with %q for a signature: %s", text, d)
		}
		b.wantNothing(t)
	}
}

func TestSpec145ATruncatedArchiveIsRefused(t *testing.T) {
	s := newSite(t)
	s.good(t, "1.1.0", 6)
	archive := s.files["/v1.1.0/archive-1.1.0"]
	s.files["/v1.1.0/archive-1.1.0"] = archive[:len(archive)-1]
	b := newBench(t, s)
	if d := b.Tick(t.Context()); d != UpdateError {
		t.Errorf("the tick: %s", d)
	}
	b.wantNothing(t)
}

// Ours: the signature says whom to believe, so any host will do, but nothing unsafe.
func TestSpec146AddressesThatAreNotSafe(t *testing.T) {
	for _, address := range []string{"http://example.org/a", "ftp://127.0.0.1/a", "https://u:p@example.org/a"} {
		s := newSite(t)
		s.good(t, "1.1.0", 6)
		for i := range s.list[0].Assets {
			s.list[0].Assets[i].URL = address
		}
		b := newBench(t, s)
		if d := b.Tick(t.Context()); d != CheckError {
			t.Errorf("%s: %s", address, d)
		}
		b.settings.Feed = address
		if err := b.Check(t.Context()); err == nil {
			t.Errorf("%s as the feed was asked", address)
		}
	}
}

func TestSpec147Decisions(t *testing.T) {
	s := newSite(t)
	s.good(t, "1.1.0", 6)
	b := newBench(t, s)
	tick := func(want AutoUpdateDecision, asked int) {
		t.Helper()
		s.mu.Lock()
		s.asked = nil
		s.mu.Unlock()
		if got := b.Tick(t.Context()); got != want {
			t.Errorf("got %s, want %s: %s", got, want, b.log.String())
		}
		if asked == 0 && len(s.asked) > 0 {
			t.Errorf("%s asked for %v", want, s.asked)
		}
	}
	b.busy = true
	tick(SkippedBusy, 0)
	b.settings.Enabled = false
	tick(Disabled, 0)
	b.settings.Enabled, b.busy = true, false
	b.settings.Feed = s.URL + "/nothing"
	tick(CheckError, 1)
	b.settings.Feed = ""
	b.free = 1
	tick(UpdateError, 1)
	if u := b.slot.Get(); !strings.Contains(u.Detail, "too little room") || u.Why.Reason != observe.ReasonNoRoom || u.Why.Said != "0 MB" || u.Why.More == "" {
		t.Errorf("too little room: %+v", u)
	}
	b.free = 1 << 40
	now := time.Now()
	b.settings.Hours = []string{fmt.Sprintf("%s 00:00-24:00", strings.ToLower(now.AddDate(0, 0, 3).Weekday().String()[:3]))}
	tick(Waiting, 1)
	if u := b.slot.Get(); u.State != observe.UpdateAvailable || !strings.Contains(u.Detail, "hours of updates") || u.Why.Reason != observe.ReasonHours || !u.Why.At.After(now) {
		t.Errorf("out of the hours: %+v", u)
	}
	b.settings.Hours = nil
	counted := true
	b.cfg.Metered = func(context.Context) bool { return counted }
	tick(Waiting, 1)
	if u := b.slot.Get(); u.State != observe.UpdateAvailable || !strings.Contains(u.Detail, "not metered") || u.Why.Reason != observe.ReasonMetered {
		t.Errorf("over a metered connection: %+v", u)
	}
	counted = false
	tick(Updated, 1)
	counted = true // what is here needs no connection
	tick(Updated, 1)
	if err := b.store.Change(func(state *versions.State) error {
		state.Hold(state.Candidate.Version, "it crashed", now)
		state.Candidate = nil
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	tick(Held, 1)
	if _, err := b.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "it crashed") {
		t.Errorf("a held release was fetched: %v", err)
	}
	b.Remember()
	if u := b.slot.Get(); u.State != observe.UpdateHeld || u.Detail != "it crashed" || u.Why != (observe.Why{Reason: observe.ReasonTrialFailed, Said: "it crashed"}) {
		t.Errorf("after a restart: %+v", u)
	}
	b.cfg.Version = "1.1.0"
	tick(UpToDate, 1)
	if _, err := b.Fetch(t.Context()); !errors.Is(err, ErrNothing) {
		t.Errorf("the newest was fetched: %v", err)
	}
}

// A machine that always works is updated all the same.
func TestJobsPutALookOffForAnIntervalAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &Updater{}
		for range 60 {
			if u.overdue(time.Hour) {
				t.Fatal("too soon")
			}
			time.Sleep(AutoUpdateTick)
		}
		if !u.overdue(time.Hour) {
			t.Error("never")
		}
	})
}

func TestSpec148TheUpdaterStopsAtOnce(t *testing.T) {
	s := newSite(t)
	b := newBench(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(40 * time.Second):
		t.Fatal("it did not stop")
	}
}

func TestAVersionOnTrialTakesNoOther(t *testing.T) {
	s := newSite(t)
	s.good(t, "1.1.0", 6)
	b := newBench(t, s)
	b.Tick(t.Context())
	if _, err := b.store.Next(versions.Version{Version: "1.0.0"}); err != nil {
		t.Fatal(err)
	}
	s.good(t, "1.2.0", 7)
	b.cfg.Version = "1.1.0"
	if d := b.Tick(t.Context()); d != Waiting {
		t.Errorf("the tick: %s", d)
	}
	if _, err := b.Fetch(t.Context()); !errors.Is(err, errTrial) {
		t.Errorf("asked for: %v", err)
	}
}

func TestRolloutIsShared(t *testing.T) {
	const installs = 100_000
	for _, percent := range []int{1, 10, 50} {
		took := 0
		for i := range installs {
			if share(fmt.Sprintf("install-%d", i), 7) < percent {
				took++
			}
		}
		if got := 100 * float64(took) / installs; got < float64(percent)-1 || got > float64(percent)+1 {
			t.Errorf("of %d percent %.2f took it", percent, got)
		}
	}
	s := newSite(t)
	archive := archiveOf(t, versions.ProgramName(), program("1.1.0", ""))
	r := s.release("1.1.0", 6, archive)
	r.Percent = 0
	s.publish(t, "v1.1.0", r, archive, s.sign)
	b := newBench(t, s)
	if d := b.Tick(t.Context()); d != Waiting {
		t.Errorf("the tick: %s", d)
	}
	if v, err := b.Fetch(t.Context()); err != nil || v != "1.1.0" {
		t.Errorf("asked for: %s, %v", v, err)
	}
}
