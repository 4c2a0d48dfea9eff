package update

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"studioworker/worker/observe"
	"studioworker/worker/update/feed"
	"studioworker/worker/update/versions"
)

// offer is a release that this computer can take.
type offer struct {
	release feed.Release
	target  feed.Target
	archive *url.URL
	epoch   uint64
	bad     *versions.Bad // it failed here
	later   bool          // its turn has not come here
}

// look asks the feed and returns what it has for this computer; nil = nothing newer.
func (u *Updater) look(ctx context.Context, s Settings) (*offer, error) {
	address := s.Feed
	if address == "" {
		address = u.cfg.Feed
	}
	at, err := url.Parse(address)
	if err != nil {
		return nil, observe.Because(errors.New("the address of the feed is not a web address"), observe.ReasonUnsafe, err.Error())
	}
	state, err := u.cfg.Store.Read()
	if err != nil {
		return nil, observe.Otherwise(err, observe.ReasonOwnFiles)
	}
	find, tagged, err := u.find(ctx, at, s.Prerelease)
	if err != nil || find == nil {
		return nil, err
	}
	o, err := u.believe(ctx, find, state)
	if err != nil {
		return nil, err
	}
	r := o.release
	switch {
	case tagged != "" && r.Version != tagged:
		return nil, fmt.Errorf("release %s holds the documents of release %s", tagged, r.Version)
	case !feed.Newer(r.Version, u.cfg.Version):
		return nil, nil
	case r.Channel == feed.ChannelPrerelease && !s.Prerelease:
		return nil, nil
	}
	running := u.runningSeq(state)
	anew := state.Epoch != 0 && o.epoch > state.Epoch // the roots have begun a new order
	if high := max(state.HighSeq, running); !anew && r.Seq < high {
		return nil, observe.Because(
			fmt.Errorf("release %s is number %d, and number %d was seen here already: it is not taken", r.Version, r.Seq, high), observe.ReasonOlder, fmt.Sprintf("%s: %d < %d", r.Version, r.Seq, high))
	}
	if r.MinSeq > running {
		return nil, observe.Because(
			fmt.Errorf("release %s wants a newer version to start from: install it by hand", r.Version), observe.ReasonByHand, r.Version)
	}
	var ok bool
	if o.target, ok = r.Target(u.cfg.OS, u.cfg.Arch, u.cfg.Variant); !ok {
		return nil, observe.Because(
			fmt.Errorf("release %s has no archive for %s/%s %s", r.Version, u.cfg.OS, u.cfg.Arch, u.cfg.Variant), observe.ReasonNoArchive,
			fmt.Sprintf("%s: %s/%s %s", r.Version, u.cfg.OS, u.cfg.Arch, u.cfg.Variant))
	}
	if o.archive, err = url.Parse(o.target.URL); err != nil {
		return nil, err
	}
	if feed.PlainName(o.target.URL) {
		if o.archive, err = find(o.target.URL); err != nil {
			return nil, err
		}
	}
	if bad, held := state.Held(r.Seq); held {
		o.bad = &bad
	}
	o.later = share(u.cfg.InstallID(), r.Seq) >= r.Percent
	return o, nil
}

// find returns where the files of the newest release lie, and its version if the feed
// names it; nil when there is nothing newer. A feed is a list of releases (spec §10.2), or,
// when its address ends with a slash, a folder with the files of one.
func (u *Updater) find(ctx context.Context, at *url.URL, prereleases bool) (find func(name string) (*url.URL, error), version string, err error) {
	if strings.HasSuffix(at.Path, "/") {
		return func(name string) (*url.URL, error) { return at.JoinPath(name), nil }, "", nil
	}
	text, err := u.fetcher.document(ctx, at, feed.MaxListing)
	if err != nil {
		return nil, "", err
	}
	list, err := feed.ParseListing(text)
	if err != nil {
		return nil, "", err
	}
	found, version, unread := feed.Newest(list, prereleases)
	if len(unread) > 0 {
		u.cfg.Log.Warn("releases were passed over: their tags are no versions", "count", len(unread), "first", fmt.Sprintf("%.60q", unread[0]))
	}
	if version == "" || !feed.Newer(version, u.cfg.Version) {
		return nil, "", nil
	}
	return found.Asset, version, nil
}

// believe fetches the documents of a release and checks their signatures.
func (u *Updater) believe(ctx context.Context, find func(string) (*url.URL, error), state versions.State) (*offer, error) {
	signed := func(name string) (document, signature []byte, err error) {
		for _, d := range []struct {
			name  string
			limit int64
			to    *[]byte
		}{{name, feed.MaxDocument, &document}, {name + feed.SignatureSuffix, feed.MaxSignature, &signature}} {
			at, err := find(d.name)
			if err != nil {
				return nil, nil, err
			}
			if *d.to, err = u.fetcher.document(ctx, at, d.limit); err != nil {
				return nil, nil, err
			}
		}
		return document, signature, nil
	}
	now := time.Now()
	text, signature, err := signed(feed.KeysName)
	if err != nil {
		return nil, err
	}
	keys, err := feed.OpenKeys(text, signature, u.cfg.Roots, now)
	if err != nil {
		return nil, err
	}
	if keys.Epoch < state.Epoch {
		return nil, observe.Because(
			fmt.Errorf("%s is of epoch %d, and epoch %d was seen here already: it is not believed", feed.KeysName, keys.Epoch, state.Epoch), observe.ReasonOlder,
			fmt.Sprintf("%s: %d < %d", feed.KeysName, keys.Epoch, state.Epoch))
	}
	if text, signature, err = signed(feed.ReleaseName); err != nil {
		return nil, err
	}
	release, err := keys.OpenRelease(text, signature, now)
	if err != nil {
		return nil, err
	}
	return &offer{release: release, epoch: keys.Epoch}, nil
}

// runningSeq is the place of the running version in the order of releases; 0 = unknown.
func (u *Updater) runningSeq(state versions.State) uint64 {
	if c := state.Candidate; c != nil && c.Version.Version == u.cfg.Version {
		return c.Seq
	}
	if a := state.Active; a != nil && a.Version == u.cfg.Version {
		return a.Seq
	}
	return u.cfg.Seq
}

// share spreads installs evenly over 0 to 99, differently for each release.
func share(installID string, seq uint64) int {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", installID, seq))
	return int(binary.BigEndian.Uint64(sum[:8]) % 100)
}
