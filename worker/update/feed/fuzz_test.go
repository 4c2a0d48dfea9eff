package feed

import (
	"encoding/json"
	"reflect"
	"testing"

	"aead.dev/minisign"
)

// What is read can be written, and reads the same again.

func FuzzDocument(f *testing.F) {
	root, stranger := newPair(f), newPair(f)
	keys, err := exampleKeys(stranger).Encode()
	if err != nil {
		f.Fatal(err)
	}
	release, err := exampleRelease().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(keys, Sign(keys, KeysName, stranger.private, now))
	f.Add(release, Sign(release, ReleaseName, stranger.private, now))
	f.Fuzz(func(t *testing.T, text, signature []byte) {
		if _, err := OpenKeys(text, signature, []minisign.PublicKey{root.public}, now); err == nil {
			t.Fatalf("%q was believed", signature)
		}
		if k, err := parseKeys(text); err == nil {
			again, err := k.Encode()
			if err != nil {
				t.Fatalf("%+v cannot be written: %v", k, err)
			}
			if _, err := parseKeys(again); err != nil {
				t.Fatalf("%s cannot be read: %v", again, err)
			}
		}
		r, err := parseRelease(text)
		if err != nil {
			return
		}
		if !PlainName(r.Version) {
			t.Fatalf("%q is no name for a folder", r.Version)
		}
		again, err := r.Encode()
		if len(again) > MaxDocument {
			return // escapes make it longer
		}
		if err != nil {
			t.Fatalf("%+v cannot be written: %v", r, err)
		}
		second, err := parseRelease(again)
		if err != nil || !reflect.DeepEqual(second.Targets, r.Targets) || second.Seq != r.Seq {
			t.Fatalf("%s cannot be read: %v", again, err)
		}
	})
}

func FuzzListing(f *testing.F) {
	f.Add([]byte(`[{"tag_name":"v1.2.3","draft":true,"assets":[{"name":"keys.json","browser_download_url":"https://example.org/keys.json"}]}]`))
	f.Add([]byte(`{"tag_name":"studio-worker-v0.5.0-rc.1","prerelease":true}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := ParseListing(text)
		if err != nil {
			return
		}
		_, version, _ := Newest(list, true)
		if version != "" && !PlainName(version) {
			t.Fatalf("%q is no name for a folder", version)
		}
		again, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := ParseListing(again); len(list) > 0 && len(again) <= MaxListing && (err != nil || len(second) != len(list)) {
			t.Fatalf("%s reads as %d releases, %v", again, len(second), err)
		}
	})
}
