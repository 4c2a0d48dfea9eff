package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"

	"studioworker/worker/update/feed"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// publisher is who has the keys, and a folder with a release.
type publisher struct {
	t      *testing.T
	root   minisign.PublicKey
	env    map[string]string
	folder string // of the release
}

func (p *publisher) run(args ...string) error {
	return run(args, func(name string) string { return p.env[name] }, io.Discard, now)
}

func save(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// newKey writes a pair of keys and returns the public one.
func newKey(t *testing.T, path string) minisign.PublicKey {
	t.Helper()
	public, secret, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := secret.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	save(t, path+".key", text)
	if text, err = public.MarshalText(); err != nil {
		t.Fatal(err)
	}
	save(t, path+".pub", text)
	return public
}

// archives are the files of a release that updaters fetch, with what they hold.
var archives = map[string]string{
	"studio-worker_1.2.3_linux_amd64.tar.gz":          "window",
	"studio-worker-headless_1.2.3_linux_amd64.tar.gz": "headless",
	"studio-worker-headless_1.2.3_windows_amd64.zip":  "windows",
}

func newPublisher(t *testing.T) *publisher {
	t.Helper()
	safe := t.TempDir()
	p := &publisher{t: t, root: newKey(t, filepath.Join(safe, "root")), folder: t.TempDir()}
	newKey(t, filepath.Join(safe, "release"))
	p.env = map[string]string{"RELEASE_KEY_FILE": filepath.Join(safe, "release.key"), "RELEASE_KEYS": filepath.Join(safe, "public"), "RELEASE_ROOT_KEYS": p.root.String()}
	if err := p.run("keys", "-epoch", "1", "-root-key", filepath.Join(safe, "root.key"), "-key", filepath.Join(safe, "release.pub"), filepath.Join(safe, "public")); err != nil {
		t.Fatal(err)
	}
	var sums strings.Builder
	for name, text := range archives {
		save(t, filepath.Join(p.folder, name), []byte(text))
		sum := sha256.Sum256([]byte(text))
		sums.WriteString(hex.EncodeToString(sum[:]) + "  " + name + "\n")
	}
	save(t, filepath.Join(p.folder, "studio-worker_1.2.3-1_amd64.deb"), []byte("not for updaters"))
	save(t, filepath.Join(p.folder, "SHA256SUMS"), []byte(sums.String()))
	save(t, filepath.Join(p.folder, "BUILD"), []byte("version=1.2.3\nseq=7\nfeed=\n"))
	return p
}

// open reads a release as an updater does.
func (p *publisher) open(t *testing.T) feed.Release {
	t.Helper()
	k, err := feed.OpenKeys(read(t, p.folder, "keys.json"), read(t, p.folder, "keys.json.minisig"), []minisign.PublicKey{p.root}, now)
	if err != nil {
		t.Fatal(err)
	}
	r, err := k.OpenRelease(read(t, p.folder, "release.json"), read(t, p.folder, "release.json.minisig"), now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestUpdatersBelieveARelease(t *testing.T) {
	p := newPublisher(t)
	p.env["RELEASE_MIN_SEQ"], p.env["RELEASE_PERCENT"], p.env["RELEASE_DAYS"] = "3", "10", "30"
	p.env["RELEASE_NOTES"], p.env["RELEASE_URL"] = "It is faster.", "https://releases.example.org/v1.2.3/"
	// The key itself, as a vault gives it.
	p.env["RELEASE_KEY"], p.env["RELEASE_KEY_FILE"] = string(read(t, p.env["RELEASE_KEY_FILE"])), ""
	if err := p.run("release", "1.2.3", p.folder); err != nil {
		t.Fatal(err)
	}
	r := p.open(t)
	if r.Version != "1.2.3" || r.Channel != feed.ChannelStable || r.Seq != 7 || r.MinSeq != 3 || r.Percent != 10 ||
		!r.Expires.Equal(now.AddDate(0, 0, 30)) || r.Notes != "It is faster." || len(r.Targets) != len(archives) {
		t.Errorf("release %+v", r)
	}
	for _, target := range r.Targets {
		text := archives[target.URL]
		sum := sha256.Sum256([]byte(text))
		if target.Size != int64(len(text)) || target.SHA256 != hex.EncodeToString(sum[:]) || !strings.Contains(target.URL, "_"+target.OS+"_"+target.Arch) ||
			(target.Variant == "headless") != strings.Contains(target.URL, "headless") {
			t.Errorf("target %+v", target)
		}
	}
	var sums minisign.Signature
	if err := sums.UnmarshalText(read(t, p.folder, "SHA256SUMS.minisig")); err != nil {
		t.Error(err)
	}
	listing, err := feed.ParseListing(read(t, p.folder, "releases.json"))
	if err != nil || len(listing) != 1 || listing[0].Tag != "v1.2.3" || listing[0].Prerelease {
		t.Fatalf("listing %+v, %v", listing, err)
	}
	for _, name := range []string{"release.json", "keys.json.minisig", "studio-worker_1.2.3_linux_amd64.tar.gz"} {
		if u, err := listing[0].Asset(name); err != nil || u.String() != p.env["RELEASE_URL"]+name {
			t.Errorf("%s is listed at %v, %v", name, u, err)
		}
	}
}

func TestAVersionThatIsNotFinalIsAPrerelease(t *testing.T) {
	p := newPublisher(t)
	for name := range archives {
		if err := os.Rename(filepath.Join(p.folder, name), filepath.Join(p.folder, strings.Replace(name, "1.2.3", "1.2.3-rc.1", 1))); err != nil {
			t.Fatal(err)
		}
	}
	save(t, filepath.Join(p.folder, "SHA256SUMS"), []byte(strings.ReplaceAll(string(read(t, p.folder, "SHA256SUMS")), "_1.2.3_", "_1.2.3-rc.1_")))
	save(t, filepath.Join(p.folder, "BUILD"), []byte("version=1.2.3-rc.1\nseq=8\n"))
	if err := p.run("release", "1.2.3-rc.1", p.folder); err != nil {
		t.Fatal(err)
	}
	if r := p.open(t); r.Channel != feed.ChannelPrerelease || r.Seq != 8 || r.Percent != 100 {
		t.Errorf("release %+v", r)
	}
}

// The key of testdata is like minisign's own, but for the work of its password: those take
// seconds and a gigabyte.
func TestAKeyMayHaveAPassword(t *testing.T) {
	p := newPublisher(t)
	delete(p.env, "RELEASE_KEYS")
	p.env["RELEASE_KEY_FILE"] = filepath.Join("testdata", "locked.key")
	password := filepath.Join(t.TempDir(), "password")
	save(t, password, []byte("open sesame\n"))
	if err := p.run("release", "1.2.3", p.folder); err == nil || !strings.Contains(err.Error(), "KEY_PASSWORD") {
		t.Errorf("without the password: %v", err)
	}
	p.env["KEY_PASSWORD"] = "open barley"
	if err := p.run("release", "1.2.3", p.folder); err == nil {
		t.Error("another password: no error")
	}
	p.env["KEY_PASSWORD_FILE"] = password
	if err := p.run("release", "1.2.3", p.folder); err != nil {
		t.Error(err)
	}
}

// Nothing is signed that is not whole, and nothing that no updater would believe.
func TestRefusals(t *testing.T) {
	for _, test := range []struct {
		name   string
		spoil  func(p *publisher)
		reason string
	}{
		{"no key", func(p *publisher) { p.env["RELEASE_KEY_FILE"] = "" }, "no key to sign with"},
		{"no such key", func(p *publisher) { p.env["RELEASE_KEY_FILE"] += ".lost" }, "RELEASE_KEY_FILE"},
		{"not a key", func(p *publisher) { p.env["RELEASE_KEY_FILE"], p.env["RELEASE_KEY"] = "", "secret" }, "read the key"},
		{"no checksums", func(p *publisher) {
			if err := os.Remove(filepath.Join(p.folder, "SHA256SUMS")); err != nil {
				p.t.Fatal(err)
			}
		}, "checksums"},
		{"archive changed after the build", func(p *publisher) {
			save(p.t, filepath.Join(p.folder, "studio-worker_1.2.3_linux_amd64.tar.gz"), []byte("else"))
		}, "another checksum"},
		{"archive of another version", func(p *publisher) {
			save(p.t, filepath.Join(p.folder, "studio-worker_1.2.2_linux_amd64.tar.gz"), []byte("old"))
		}, "not of version"},
		{"no archives", func(p *publisher) {
			for name := range archives {
				if err := os.Remove(filepath.Join(p.folder, name)); err != nil {
					p.t.Fatal(err)
				}
			}
		}, "no archives"},
		{"keys of another root", func(p *publisher) {
			p.env["RELEASE_ROOT_KEYS"] = newKey(p.t, filepath.Join(p.t.TempDir(), "other")).String()
		}, "no updater would believe"},
		{"no roots", func(p *publisher) { p.env["RELEASE_ROOT_KEYS"] = "" }, "RELEASE_ROOT_KEYS"},
		{"key that keys.json does not name", func(p *publisher) {
			path := filepath.Join(p.t.TempDir(), "stranger")
			newKey(p.t, path)
			p.env["RELEASE_KEY_FILE"] = path + ".key"
		}, "no updater would believe"},
		{"more than everybody", func(p *publisher) { p.env["RELEASE_PERCENT"] = "101" }, "share"},
		{"no number", func(p *publisher) { p.env["RELEASE_DAYS"] = "many" }, "RELEASE_DAYS"},
		{"nobody knows of what", func(p *publisher) {
			if err := os.Remove(filepath.Join(p.folder, "BUILD")); err != nil {
				p.t.Fatal(err)
			}
		}, "built of"},
		{"built as another version", func(p *publisher) {
			save(p.t, filepath.Join(p.folder, "BUILD"), []byte("version=1.2.4\nseq=7\n"))
		}, "not 1.2.3"},
		{"built without a place in the order", func(p *publisher) {
			save(p.t, filepath.Join(p.folder, "BUILD"), []byte("version=1.2.3\n"))
		}, "order of releases"},
		{"address that is not safe", func(p *publisher) { p.env["RELEASE_URL"] = "http://releases.example.org/" }, "RELEASE_URL"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPublisher(t)
			test.spoil(p)
			if err := p.run("release", "1.2.3", p.folder); err == nil || !strings.Contains(err.Error(), test.reason) {
				t.Errorf("%v, want a refusal that says %q", err, test.reason)
			}
		})
	}
	p := newPublisher(t)
	for _, args := range [][]string{nil, {"keys"}, {"keys", "-epoch", "1", "folder"}, {"release", "1.2.3"}, {"sign"}} {
		if err := p.run(args...); !errors.Is(err, errUsage) {
			t.Errorf("%q: %v, want the usage", args, err)
		}
	}
	secret := p.env["RELEASE_KEY_FILE"]
	if err := p.run("keys", "-epoch", "1", "-root-key", secret, "-key", secret, t.TempDir()); err == nil || !strings.Contains(err.Error(), "read the public key") {
		t.Errorf("a secret key to be published: %v", err)
	}
}
