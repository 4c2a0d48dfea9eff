package feed

import (
	"bytes"
	"crypto/rand"
	"errors"
	"math"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"
)

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

type pair struct {
	public  minisign.PublicKey
	private minisign.PrivateKey
}

func newPair(tb testing.TB) pair {
	tb.Helper()
	public, private, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return pair{public, private}
}

func exampleKeys(signers ...pair) Keys {
	k := Keys{Epoch: 1, Expires: now.AddDate(1, 0, 0)}
	for _, p := range signers {
		k.Keys = append(k.Keys, Key{p.public, now.AddDate(0, 6, 0)})
	}
	return k
}

func exampleRelease() Release {
	return Release{
		Channel: ChannelStable, Seq: 7, Version: "1.2.3", Released: now.AddDate(0, 0, -1), Expires: now.AddDate(0, 2, 0),
		MinSeq: 2, Percent: 100, Notes: "Faster.", Targets: []Target{
			{OS: "linux", Arch: "amd64", Variant: "headless", URL: "studio-worker_1.2.3_linux_amd64.tar.gz", Size: 12_000_000, SHA256: strings.Repeat("ab", 32)},
			{OS: "windows", Arch: "amd64", Variant: "headless", URL: "https://example.org/w.zip", Size: 1, SHA256: strings.Repeat("0", 64)},
		},
	}
}

func must[T any](tb testing.TB) func(T, error) T {
	tb.Helper()
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

func TestWhatIsSignedIsBelieved(t *testing.T) {
	root, other, signer := newPair(t), newPair(t), newPair(t)
	roots := must[[]minisign.PublicKey](t)(ParseRoots(other.public.String() + ", " + root.public.String()))
	wantKeys, wantRelease := exampleKeys(signer), exampleRelease()
	wantKeys.Revoked = []string{KeyID(other.public)}

	text := must[[]byte](t)(wantKeys.Encode())
	keys, err := OpenKeys(text, Sign(text, KeysName, root.private, now), roots, now)
	if err != nil || !reflect.DeepEqual(keys, wantKeys) {
		t.Fatalf("got %+v, %v; want %+v", keys, err, wantKeys)
	}
	text = must[[]byte](t)(wantRelease.Encode())
	release, err := keys.OpenRelease(text, Sign(text, ReleaseName, signer.private, now), now)
	if err != nil || !reflect.DeepEqual(release, wantRelease) {
		t.Fatalf("got %+v, %v; want %+v", release, err, wantRelease)
	}
	if target, ok := release.Target("windows", "amd64", "headless"); !ok || target.Size != 1 {
		t.Errorf("the target for Windows is %+v, %v", target, ok)
	}
	if _, ok := release.Target("linux", "amd64", "window"); ok {
		t.Error("there is a target for a build that is not in it")
	}
}

// Each byte of each document and signature counts.
func TestEachByteCounts(t *testing.T) {
	root, signer := newPair(t), newPair(t)
	keysText := must[[]byte](t)(exampleKeys(signer).Encode())
	keysSig := Sign(keysText, KeysName, root.private, now)
	releaseText := must[[]byte](t)(exampleRelease().Encode())
	releaseSig := Sign(releaseText, ReleaseName, signer.private, now)
	keys := exampleKeys(signer)
	roots := []minisign.PublicKey{root.public}
	flip := func(b []byte, i int) []byte {
		b = bytes.Clone(b)
		b[i] ^= 0x20
		return b
	}
	for i := range keysText {
		if _, err := OpenKeys(flip(keysText, i), keysSig, roots, now); !errors.Is(err, ErrSignature) {
			t.Fatalf("byte %d of %s is another: %v", i, KeysName, err)
		}
	}
	for i := range releaseText {
		if _, err := keys.OpenRelease(flip(releaseText, i), releaseSig, now); !errors.Is(err, ErrSignature) {
			t.Fatalf("byte %d of %s is another: %v", i, ReleaseName, err)
		}
	}
	signed := bytes.IndexByte(releaseSig, '\n') + 1 // the first line is nobody's promise
	for i := signed; i < len(releaseSig)-1; i++ {
		if releaseSig[i] == '\n' || releaseSig[i] == '=' {
			continue // structure and padding: another form of the same bytes at most
		}
		if _, err := keys.OpenRelease(releaseText, flip(releaseSig, i), now); err == nil {
			t.Fatalf("byte %d of the signature is another, and nobody minds", i)
		}
	}
}

func TestWhoMaySign(t *testing.T) {
	root, signer, stranger := newPair(t), newPair(t), newPair(t)
	roots := []minisign.PublicKey{root.public}
	keysText := must[[]byte](t)(exampleKeys(signer).Encode())
	releaseText := must[[]byte](t)(exampleRelease().Encode())

	if _, err := OpenKeys(keysText, Sign(keysText, KeysName, signer.private, now), roots, now); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("keys signed by a signing key: %v", err)
	}
	keys := exampleKeys(signer)
	for _, p := range []pair{root, stranger} {
		if _, err := keys.OpenRelease(releaseText, Sign(releaseText, ReleaseName, p.private, now), now); !errors.Is(err, ErrUnknownKey) {
			t.Errorf("a release signed by %s: %v", KeyID(p.public), err)
		}
	}
	keys.Revoked = []string{KeyID(signer.public)}
	if _, err := keys.OpenRelease(releaseText, Sign(releaseText, ReleaseName, signer.private, now), now); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("a release signed by a revoked key: %v", err)
	}
	// The signature of one document says nothing of another.
	if _, err := exampleKeys(signer).OpenRelease(keysText, Sign(keysText, KeysName, signer.private, now), now); !errors.Is(err, ErrMalformed) {
		t.Errorf("keys in the place of a release: %v", err)
	}
}

func TestNothingIsBelievedForEver(t *testing.T) {
	root, signer := newPair(t), newPair(t)
	roots := []minisign.PublicKey{root.public}
	keys := exampleKeys(signer)
	keysText := must[[]byte](t)(keys.Encode())
	keysSig := Sign(keysText, KeysName, root.private, now)
	releaseText := must[[]byte](t)(exampleRelease().Encode())
	releaseSig := Sign(releaseText, ReleaseName, signer.private, now)
	for _, c := range []struct {
		name string
		at   time.Time
		open func(time.Time) error
		want string
	}{
		{"keys", keys.Expires, func(at time.Time) error { _, err := OpenKeys(keysText, keysSig, roots, at); return err }, KeysName},
		{"release", exampleRelease().Expires, func(at time.Time) error { _, err := keys.OpenRelease(releaseText, releaseSig, at); return err }, ReleaseName},
		{"signing key", keys.Keys[0].NotAfter, func(at time.Time) error { _, err := keys.OpenRelease(releaseText, releaseSig, at); return err }, "the key " + KeyID(signer.public)},
	} {
		err := c.open(c.at)
		if late, ok := errors.AsType[*ExpiredError](err); !ok || late.Name != c.want || !late.Since.Equal(c.at) {
			t.Errorf("%s at its end: %v", c.name, err)
		}
		if c.name == "signing key" {
			continue // by then the release has ended too
		}
		if err := c.open(c.at.Add(-time.Second)); err != nil {
			t.Errorf("%s a second before: %v", c.name, err)
		}
	}
}

func TestRefusedKeys(t *testing.T) {
	p := newPair(t)
	for name, change := range map[string]func(*Keys){
		"no epoch":      func(k *Keys) { k.Epoch = 0 },
		"no keys":       func(k *Keys) { k.Keys = nil },
		"too many keys": func(k *Keys) { k.Keys = make([]Key, maxKeys+1) },
		"no end":        func(k *Keys) { k.Expires = time.Time{} },
		"a key for ever": func(k *Keys) {
			k.Keys[0].NotAfter = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
		},
		"no id":             func(k *Keys) { k.Revoked = []string{"all"} },
		"too much revoked":  func(k *Keys) { k.Revoked = make([]string, maxRevoked+1) },
		"a lower case id":   func(k *Keys) { k.Revoked = []string{"00000000000000aa"} },
		"an epoch too high": func(k *Keys) { k.Epoch = math.MaxUint64 },
	} {
		k := exampleKeys(p)
		change(&k)
		if _, err := k.Encode(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	text := must[[]byte](t)(exampleKeys(p).Encode())
	for from, to := range map[string]string{
		KeyID(p.public): "0123456789ABCDEF", p.public.String(): "RWQ", keysSchema: "keys/2",
	} {
		if _, err := parseKeys(bytes.ReplaceAll(text, []byte(from), []byte(to))); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s in the place of %s: %v", to, from, err)
		}
	}
}

func TestRefusedReleases(t *testing.T) {
	for name, change := range map[string]func(*Release){
		"no channel":       func(r *Release) { r.Channel = "" },
		"no place":         func(r *Release) { r.Seq = 0 },
		"a place too high": func(r *Release) { r.Seq = maxSeq + 1 },
		"its own future":   func(r *Release) { r.MinSeq = r.Seq + 1 },
		"no version":       func(r *Release) { r.Version = "1.2" },
		"a path":           func(r *Release) { r.Version = "../1.2.3" },
		"build metadata":   func(r *Release) { r.Version = "1.2.3+4" },
		"over the share":   func(r *Release) { r.Percent = 101 },
		"below the share":  func(r *Release) { r.Percent = -1 },
		"a book":           func(r *Release) { r.Notes = strings.Repeat("n", MaxNotes+1) },
		"no targets":       func(r *Release) { r.Targets = nil },
		"many targets":     func(r *Release) { r.Targets = make([]Target, maxTargets+1) },
		"one twice":        func(r *Release) { r.Targets = append(r.Targets, r.Targets[0]) },
		"no system":        func(r *Release) { r.Targets[0].OS = "" },
		"a strange system": func(r *Release) { r.Targets[0].OS = "li/nux" },
		"no size":          func(r *Release) { r.Targets[0].Size = 0 },
		"too large":        func(r *Release) { r.Targets[0].Size = MaxArchive + 1 },
		"half a hash":      func(r *Release) { r.Targets[0].SHA256 = strings.Repeat("a", 32) },
		"a loud hash":      func(r *Release) { r.Targets[0].SHA256 = strings.Repeat("A", 64) },
		"plain http":       func(r *Release) { r.Targets[0].URL = "http://example.org/a.tar.gz" },
		"a way out":        func(r *Release) { r.Targets[0].URL = "../a.tar.gz" },
		"a hidden name":    func(r *Release) { r.Targets[0].URL = ".a" },
		"a file":           func(r *Release) { r.Targets[0].URL = "file:///etc/passwd" },
		"a password":       func(r *Release) { r.Targets[0].URL = "https://me:secret@example.org/a" },
		"no end":           func(r *Release) { r.Expires = time.Time{} },
		"no beginning":     func(r *Release) { r.Released = time.Time{} },
	} {
		r := exampleRelease()
		change(&r)
		if _, err := r.Encode(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	text := must[[]byte](t)(exampleRelease().Encode())
	for from, to := range map[string]string{`"` + Product + `"`: `"another"`, releaseSchema: "release/9", `"seq"`: `"sec`} {
		if _, err := parseRelease(bytes.ReplaceAll(text, []byte(from), []byte(to))); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s in the place of %s: %v", to, from, err)
		}
	}
	if _, err := parseRelease(append(text, bytes.Repeat([]byte(" "), MaxDocument)...)); !errors.Is(err, ErrMalformed) {
		t.Errorf("too long: %v", err)
	}
	if _, err := (Keys{}).OpenRelease(make([]byte, MaxDocument+1), nil, now); !errors.Is(err, ErrMalformed) {
		t.Errorf("too long to look at its signature: %v", err)
	}
}

func TestRefusedRoots(t *testing.T) {
	p := newPair(t).public.String()
	for _, text := range []string{"", "RWQ", p + ",", p + "," + p[1:], strings.Repeat(p+",", maxRoots) + p, "untrusted comment: x\n" + p} {
		if roots, err := ParseRoots(text); err == nil {
			t.Errorf("%q gives %v", text, roots)
		}
	}
}

func TestCheckURL(t *testing.T) {
	for address, good := range map[string]bool{
		"https://example.org/a": true, "http://127.0.0.1:8000/a": true, "http://localhost/a": true, "http://[::1]:1/": true,
		"http://example.org/a": false, "http://localhost.example.org/": false, "http://127.0.0.1.example.org/": false,
		"ftp://example.org/": false, "https:///a": false, "https://u@example.org/": false, "file:///a": false, "a": false,
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckURL(u); (err == nil) != good {
			t.Errorf("%s: %v", address, err)
		}
	}
}
