// Command feed writes and signs what updaters believe (package worker/update/feed):
//
//	feed release VERSION FOLDER    release.json of the archives in FOLDER, and signatures
//	feed keys [flags] FOLDER       keys.json, at the key ceremony
//
// docs/release.md tells when and where each is run.
package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"aead.dev/minisign"

	"studioworker/worker/update/feed"
)

func main() {
	if err := run(os.Args[1:], os.Getenv, os.Stdout, time.Now().UTC()); err != nil {
		fmt.Fprintln(os.Stderr, "feed:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: feed release VERSION FOLDER, or feed keys -root-key FILE -key FILE [-key FILE] [-days N] [-revoke ID] -epoch N FOLDER")

// run carries out one command at the time now. env is the environment.
func run(args []string, env func(string) string, out io.Writer, now time.Time) error {
	if len(args) == 0 {
		return errUsage
	}
	switch args[0] {
	case "release":
		if len(args) != 3 {
			return errUsage
		}
		return release(args[1], args[2], env, out, now)
	case "keys":
		return keys(args[1:], env, out, now)
	}
	return errUsage
}

// Defaults of a release.
const (
	releaseDays = 180 // how long a release may be begun with
	keysDays    = 365 // how long keys.json may be believed
)

// number reads a whole number of the environment.
func number(env func(string) string, name string, otherwise int64) (int64, error) {
	text := env(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s must be a whole number, not %q", name, text)
	}
	return n, nil
}

// release writes release.json for the archives in folder, signs it and SHA256SUMS, and
// reads all of it back as an updater would.
func release(version, folder string, env func(string) string, out io.Writer, now time.Time) error {
	key, err := secretKey(env, "RELEASE_KEY_FILE", "RELEASE_KEY")
	if err != nil {
		return err
	}
	sums, err := os.ReadFile(filepath.Join(folder, "SHA256SUMS"))
	if err != nil {
		return fmt.Errorf("the folder of a release has checksums: %w", err)
	}
	r := feed.Release{Version: version, Channel: feed.ChannelStable, Released: now, Notes: env("RELEASE_NOTES")}
	if strings.Contains(version, "-") {
		r.Channel = feed.ChannelPrerelease
	}
	if r.Seq, err = sequence(folder, version); err != nil {
		return err
	}
	var numbers [3]int64
	for i, n := range []struct {
		name      string
		otherwise int64
	}{{"RELEASE_MIN_SEQ", 0}, {"RELEASE_PERCENT", 100}, {"RELEASE_DAYS", releaseDays}} {
		if numbers[i], err = number(env, n.name, n.otherwise); err != nil {
			return err
		}
	}
	r.MinSeq, r.Percent = uint64(numbers[0]), int(numbers[1])
	r.Expires = now.AddDate(0, 0, int(numbers[2]))
	if r.Targets, err = targets(folder, version, sums); err != nil {
		return err
	}
	text, err := r.Encode()
	if err != nil {
		return fmt.Errorf("write %s: %w", feed.ReleaseName, err)
	}
	documents := map[string][]byte{feed.ReleaseName: text, feed.ReleaseName + feed.SignatureSuffix: feed.Sign(text, feed.ReleaseName, key, now)}
	documents["SHA256SUMS"+feed.SignatureSuffix] = feed.Sign(sums, "SHA256SUMS", key, now)
	if from := env("RELEASE_KEYS"); from != "" {
		if err := takeKeys(documents, from, env("RELEASE_ROOT_KEYS"), now); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(out, "feed: RELEASE_KEYS is not set: publish keys.json and keys.json.minisig of the key ceremony beside release.json")
	}
	for _, name := range slices.Sorted(maps.Keys(documents)) {
		if err := os.WriteFile(filepath.Join(folder, name), documents[name], 0o644); err != nil { //nolint:gosec // G306: these are published
			return err
		}
	}
	if base := env("RELEASE_URL"); base != "" {
		if err := list(folder, base, r); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "feed: release %s has place %d in the order, is for %d %% of installs, and may be begun with until %s; signed by key %016X\n",
		r.Version, r.Seq, r.Percent, r.Expires.Format(time.DateOnly), key.ID())
	return nil
}

// sequence reads the place in the order of releases that the programs in folder were
// stamped with.
func sequence(folder, version string) (uint64, error) {
	text, err := os.ReadFile(filepath.Join(folder, "BUILD"))
	if err != nil {
		return 0, fmt.Errorf("the folder of a release says what it was built of: %w", err)
	}
	said := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		said[key] = value
	}
	if said["version"] != version {
		return 0, fmt.Errorf("this is version %q, not %s", said["version"], version)
	}
	seq, err := strconv.ParseUint(said["seq"], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the place in the order of releases in BUILD: %w", err)
	}
	return seq, nil
}

// archiveName is the name of an archive that an updater can unpack.
var archiveName = regexp.MustCompile(`^studio-worker(-headless)?_(.+)_([a-z]+)_([a-z0-9]+)\.(?:tar\.gz|zip)$`)

// targets describes the archives in folder, whose hashes stand in sums, too.
func targets(folder, version string, sums []byte) ([]feed.Target, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var all []feed.Target
	for _, e := range entries {
		part := archiveName.FindStringSubmatch(e.Name())
		if part == nil {
			continue
		}
		if part[2] != version {
			return nil, fmt.Errorf("%s is not of version %s", e.Name(), version)
		}
		t := feed.Target{OS: part[3], Arch: part[4], Variant: "window", URL: e.Name()}
		if part[1] != "" {
			t.Variant = "headless"
		}
		if t.Size, t.SHA256, err = digest(filepath.Join(folder, e.Name())); err != nil {
			return nil, err
		}
		if !bytes.Contains(sums, []byte(t.SHA256+"  "+e.Name()+"\n")) {
			return nil, fmt.Errorf("%s has another checksum than in SHA256SUMS: build the release again", e.Name())
		}
		all = append(all, t)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no archives of a release", folder)
	}
	slices.SortFunc(all, func(a, b feed.Target) int { return cmp.Compare(a.URL, b.URL) })
	return all, nil
}

func digest(path string) (size int64, sum string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	size, err = io.Copy(h, f)
	return size, hex.EncodeToString(h.Sum(nil)), err
}

// takeKeys adds keys.json of the key ceremony and makes sure that an updater with these
// roots would believe the documents.
func takeKeys(documents map[string][]byte, from, roots string, now time.Time) error {
	for _, name := range []string{feed.KeysName, feed.KeysName + feed.SignatureSuffix} {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return fmt.Errorf("RELEASE_KEYS: %w", err)
		}
		documents[name] = text
	}
	if roots == "" {
		return errors.New("RELEASE_ROOT_KEYS is not set, so nobody can tell whether RELEASE_KEYS is right")
	}
	public, err := feed.ParseRoots(roots)
	if err != nil {
		return fmt.Errorf("RELEASE_ROOT_KEYS: %w", err)
	}
	known, err := feed.OpenKeys(documents[feed.KeysName], documents[feed.KeysName+feed.SignatureSuffix], public, now)
	if err != nil {
		return fmt.Errorf("no updater would believe it: %w", err)
	}
	if _, err := known.OpenRelease(documents[feed.ReleaseName], documents[feed.ReleaseName+feed.SignatureSuffix], now); err != nil {
		return fmt.Errorf("no updater would believe it: %w", err)
	}
	return nil
}

// list writes releases.json, the list that updaters ask, for who publishes on a plain web
// server. Every file of the release lies below base.
func list(folder, base string, r feed.Release) error {
	u, err := url.Parse(base)
	if err == nil {
		err = feed.CheckURL(u)
	}
	if err != nil {
		return fmt.Errorf("RELEASE_URL: %w", err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	listed := feed.Listed{Tag: "v" + r.Version, Prerelease: r.Channel == feed.ChannelPrerelease}
	for _, e := range entries {
		if e.Name() != listName {
			listed.Assets = append(listed.Assets, feed.Asset{Name: e.Name(), URL: u.JoinPath(e.Name()).String()})
		}
	}
	text, err := json.MarshalIndent([]feed.Listed{listed}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, listName), append(text, '\n'), 0o644) //nolint:gosec // G306: it is published
}

const listName = "releases.json"

// keys writes keys.json and its signature.
func keys(args []string, env func(string) string, out io.Writer, now time.Time) error {
	set := flag.NewFlagSet("feed keys", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	epoch := set.Uint64("epoch", 0, "")
	days := set.Int("days", keysDays, "")
	root := set.String("root-key", "", "")
	k := feed.Keys{}
	var files []string
	set.Func("key", "", func(path string) error { files = append(files, path); return nil })
	set.Func("revoke", "", func(id string) error { k.Revoked = append(k.Revoked, id); return nil })
	if err := set.Parse(args); err != nil || set.NArg() != 1 || *root == "" || *epoch == 0 || len(files) == 0 {
		return errUsage
	}
	k.Epoch, k.Expires = *epoch, now.AddDate(0, 0, *days)
	for _, path := range files {
		public, err := minisign.PublicKeyFromFile(path)
		if err != nil {
			return fmt.Errorf("read the public key %s: %w", path, err)
		}
		k.Keys = append(k.Keys, feed.Key{Public: public, NotAfter: k.Expires})
	}
	raw, err := os.ReadFile(*root)
	if err != nil {
		return err
	}
	key, err := parseSecret(raw, env)
	if err != nil {
		return fmt.Errorf("read the root key: %w", err)
	}
	text, err := k.Encode()
	if err != nil {
		return fmt.Errorf("write %s: %w", feed.KeysName, err)
	}
	folder := set.Arg(0)
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // G301: these are published
		return err
	}
	for name, data := range map[string][]byte{feed.KeysName: text, feed.KeysName + feed.SignatureSuffix: feed.Sign(text, feed.KeysName, key, now)} {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o644); err != nil { //nolint:gosec // G306: these are published
			return err
		}
	}
	fmt.Fprintf(out, "feed: keys.json of epoch %d names %d keys until %s; signed by root key %016X\n", k.Epoch, len(k.Keys), k.Expires.Format(time.DateOnly), key.ID())
	return nil
}

// secretKey reads the key that a variable has, or whose file one names.
func secretKey(env func(string) string, file, text string) (minisign.PrivateKey, error) {
	raw := []byte(env(text))
	if path := env(file); path != "" {
		var err error
		if raw, err = os.ReadFile(path); err != nil {
			return minisign.PrivateKey{}, fmt.Errorf("%s: %w", file, err)
		}
	}
	if len(raw) == 0 {
		return minisign.PrivateKey{}, fmt.Errorf("there is no key to sign with: set %s or %s", file, text)
	}
	key, err := parseSecret(raw, env)
	if err != nil {
		return key, fmt.Errorf("read the key that signs: %w", err)
	}
	return key, nil
}

// parseSecret reads a secret key in minisign's form; one with a password takes it from the
// variable KEY_PASSWORD, or the file that KEY_PASSWORD_FILE names.
func parseSecret(raw []byte, env func(string) string) (minisign.PrivateKey, error) {
	var key minisign.PrivateKey
	if !minisign.IsEncrypted(raw) {
		return key, key.UnmarshalText(raw)
	}
	password := env("KEY_PASSWORD")
	if path := env("KEY_PASSWORD_FILE"); path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return key, fmt.Errorf("KEY_PASSWORD_FILE: %w", err)
		}
		password = strings.TrimRight(string(text), "\r\n")
	}
	if password == "" {
		return key, errors.New("it has a password: set KEY_PASSWORD_FILE or KEY_PASSWORD")
	}
	return minisign.DecryptKey(password, raw)
}
