package app

import "testing"

// A release stamps these; `version` tells them.
func TestVersionTellsTheStamps(t *testing.T) {
	version, commit, feed := Version, Commit, Feed
	t.Cleanup(func() { Version, Commit, Feed = version, commit, feed })
	Version, Commit, Feed = "1.2.3-rc.1", "0123456789abcdef0123456789abcdef01234567", "https://releases.example.org/feed/"
	want := "studio-worker 1.2.3-rc.1 (" + variant + ")\ncommit 0123456789ab\nupdates from https://releases.example.org/feed/\n"
	if got := versionText(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
