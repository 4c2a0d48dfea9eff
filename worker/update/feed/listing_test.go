package feed

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestSpec138ListsAndSingleReleases(t *testing.T) {
	const one = `{"tag_name":"v1.2.3","assets":[{"name":"release.json","browser_download_url":"https://example.org/release.json"}]}`
	for _, text := range []string{one, "[" + one + "]", "\n [" + one + "]\n"} {
		list, err := ParseListing([]byte(text))
		if err != nil || len(list) != 1 || list[0].Tag != "v1.2.3" {
			t.Fatalf("%s gives %v, %v", text, list, err)
		}
		if u, err := list[0].Asset("release.json"); err != nil || u.String() != "https://example.org/release.json" {
			t.Errorf("its asset is at %v, %v", u, err)
		}
	}
	if list, err := ParseListing([]byte("[]")); err != nil || len(list) != 0 {
		t.Errorf("an empty list gives %v, %v", list, err)
	}
	for _, text := range []string{
		"", "releases", "<html>", "null", "42", `"v1.2.3"`, "{}", `[{}]`, `[{"tag_name":7}]`, "[" + one, `[null]`,
		"[" + strings.Repeat(one+",", maxListed) + one + "]", strings.Repeat(" ", MaxListing) + "[]",
		fmt.Sprintf(`{"tag_name":"v1.0.0","assets":[%s{}]}`, strings.Repeat("{},", maxAssets)),
	} {
		if list, err := ParseListing([]byte(text)); err == nil {
			t.Errorf("%.60s gives %d releases", text, len(list))
		}
	}
}

func TestSpec139DraftsNeverPrereleasesWhenAsked(t *testing.T) {
	list := []Listed{
		{Tag: "v1.0.0"},
		{Tag: "v9.0.0", Draft: true},
		{Tag: "v2.0.0", Prerelease: true},
		{Tag: "v1.1.0-rc.1"}, // the flag decides, not the suffix
	}
	for wanted, want := range map[bool]string{false: "1.1.0-rc.1", true: "2.0.0"} {
		if _, version, _ := Newest(list, wanted); version != want {
			t.Errorf("prereleases %v: %s, want %s", wanted, version, want)
		}
	}
	if _, version, unread := Newest(list[1:2], true); version != "" || unread != nil {
		t.Errorf("a draft alone gives %q, %v", version, unread)
	}
}

func TestSpec140Tags(t *testing.T) {
	for tag, want := range map[string]string{
		"v1.2.3": "1.2.3", "1.2.3": "1.2.3", "studio-worker-v1.2.3": "1.2.3", "studio-worker-v0.5.0-rc.1": "0.5.0-rc.1",
		"v1.2.3-v2.0.0": "1.2.3-v2.0.0", "a-v1-v3.0.0": "3.0.0",
		"garbage": "", "": "", "v": "", "-v": "", "v1": "", "1.2": "", "01.2.3": "", "v1.2.3+build": "", "vv1.2.3": "", "../1.2.3": "",
	} {
		got, ok := ParseTag(tag)
		if got != want || ok != (want != "") {
			t.Errorf("%q gives %q, %v; want %q", tag, got, ok, want)
		}
	}
	ordered := []string{"0.9.0", "1.0.0-rc.2", "1.0.0-rc.10", "1.0.0", "1.0.1", "1.2.0", "1.10.0"}
	for i, v := range ordered[1:] {
		if !Newer(v, ordered[i]) || Newer(ordered[i], v) || Newer(v, v) {
			t.Errorf("%s does not come after %s", v, ordered[i])
		}
	}
}

func TestSpec141BadTagsAreSaidWhenTheyCount(t *testing.T) {
	_, version, unread := Newest([]Listed{
		{Tag: "nightly"}, {Tag: "v1.0.0"}, {Tag: "draft!", Draft: true}, {Tag: "test!", Prerelease: true},
	}, false)
	if version != "1.0.0" || !slices.Equal(unread, []string{"nightly"}) {
		t.Errorf("got %q, unread %v", version, unread)
	}
}

func TestRefusedAssets(t *testing.T) {
	l := Listed{Tag: "v1.0.0", Assets: []Asset{
		{"a", "http://example.org/a"}, {"b", "::"}, {"c", ""}, {"d", "https://example.org/d"},
	}}
	for _, name := range []string{"a", "b", "c", "D", "e", ""} {
		if u, err := l.Asset(name); err == nil {
			t.Errorf("%q is at %v", name, u)
		}
	}
	if _, err := l.Asset("d"); err != nil {
		t.Error(err)
	}
}
