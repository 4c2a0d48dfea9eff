package app

import "runtime/debug"

// What a release writes into the program by the linker (scripts/release: -X). Nothing
// else changes them, but for tests.
var (
	// Version is what the program calls itself, a semantic version.
	Version = "0.1.0"
	// Commit is the whole hash of the sources; empty = ask what Go noted in the build.
	Commit string
	// Feed is the address of the list of releases that the updater asks, https; empty = this
	// build has no feed, and updates come from wherever the program came from.
	Feed string
	// RootKeys are the public keys, in minisign's form, that keys.json may be signed by,
	// separated by commas. They come with Feed.
	RootKeys string
	// CrashDSN is where crash reports go of people who agree to it, as Sentry names it;
	// empty = this build has nowhere to send them.
	CrashDSN string
	// ReleaseSeq is the place of this program in the order of releases, a whole number;
	// 0 = unknown: then it takes no release that wants a certain one to start from.
	ReleaseSeq = "0"
	// Probation is how long a new version must live until it is kept, as Go writes a
	// duration; empty = ten minutes.
	Probation string
)

// commit is the revision of the sources, 12 digits of it; empty when the build did not
// note it. A plus sign says that they had been changed.
func commit() string {
	if Commit != "" {
		return Commit[:min(len(Commit), 12)]
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	var revision, changed string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = "+"
		}
	}
	if revision == "" {
		return ""
	}
	return revision[:min(len(revision), 12)] + changed
}

// versionText is what `version` prints: a line that programs may read, then what a person
// wants to know who reports a fault.
func versionText() string {
	text := "studio-worker " + Version + " (" + variant + ")\n"
	if c := commit(); c != "" {
		text += "commit " + c + "\n"
	}
	if Feed != "" {
		return text + "updates from " + Feed + "\n"
	}
	return text + "no updates: this build has no feed\n"
}
