package feed

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

// MaxListing bounds a list of releases, in bytes.
const MaxListing = 4 << 20

const (
	maxListed = 1000 // releases in a list
	maxAssets = 1000 // files of a release
)

// Listed is a release as a page of releases lists it (spec §10.2). Nothing of it is
// believed; it only says where the signed documents lie.
type Listed struct {
	Tag        string  `json:"tag_name"`
	Prerelease bool    `json:"prerelease"`
	Draft      bool    `json:"draft"`
	Assets     []Asset `json:"assets"`
}

// Asset is one file of a release.
type Asset struct {
	Name string `json:"name"`
	URL  string `json:"browser_download_url"`
}

// Asset finds a file by its exact name and checks its address.
func (l Listed) Asset(name string) (*url.URL, error) {
	i := slices.IndexFunc(l.Assets, func(a Asset) bool { return a.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("release %.60s has no file %s", l.Tag, name)
	}
	u, err := url.Parse(l.Assets[i].URL)
	if err != nil {
		return nil, fmt.Errorf("release %.60s: the address of %s cannot be read", l.Tag, name)
	}
	if err := CheckURL(u); err != nil {
		return nil, fmt.Errorf("release %.60s: %s: %w", l.Tag, name, err)
	}
	return u, nil
}

// ParseListing reads a list of releases: an array, or one release alone.
func ParseListing(text []byte) ([]Listed, error) {
	if len(text) > MaxListing {
		return nil, errors.New("the feed is too long")
	}
	text = bytes.TrimSpace(text)
	var list []Listed
	var err error
	switch {
	case bytes.HasPrefix(text, []byte("[")):
		err = json.Unmarshal(text, &list)
	case bytes.HasPrefix(text, []byte("{")):
		list = make([]Listed, 1)
		err = json.Unmarshal(text, &list[0])
	default:
		return nil, errors.New("the feed is no list of releases")
	}
	if err != nil {
		return nil, fmt.Errorf("the feed is no list of releases: %w", err)
	}
	if len(list) > maxListed {
		return nil, fmt.Errorf("the feed has more than %d releases", maxListed)
	}
	for _, l := range list {
		if l.Tag == "" {
			return nil, errors.New("the feed is no list of releases: one has no tag_name")
		}
		if len(l.Assets) > maxAssets {
			return nil, fmt.Errorf("the feed has a release with more than %d files", maxAssets)
		}
	}
	return list, nil
}

// ParseTag finds the version in a tag: the tag as it stands, else without its leading v,
// else what follows its last "-v" (spec §10.3). The version has no v.
func ParseTag(tag string) (string, bool) {
	candidates := []string{tag, strings.TrimPrefix(tag, "v")}
	if i := strings.LastIndex(tag, "-v"); i >= 0 {
		candidates = append(candidates, tag[i+len("-v"):])
	}
	for _, v := range candidates {
		if goodVersion(v) {
			return v, true
		}
	}
	return "", false
}

// Newer says whether version a comes after version b. Both are without a v.
func Newer(a, b string) bool { return semver.Compare("v"+a, "v"+b) > 0 }

// Newest finds the release of the highest version in a list, among those that are no
// drafts and, unless prereleases are wanted, not marked as such. unread has the tags of
// those that had to be left out because they are no versions. Without any release the
// version is empty.
func Newest(list []Listed, prereleases bool) (found Listed, version string, unread []string) {
	for _, l := range list {
		if l.Draft || l.Prerelease && !prereleases {
			continue
		}
		v, ok := ParseTag(l.Tag)
		if !ok {
			unread = append(unread, l.Tag)
			continue
		}
		if version == "" || Newer(v, version) {
			found, version = l, v
		}
	}
	return found, version, unread
}
