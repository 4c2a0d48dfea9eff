package model

import (
	"time"

	"studioworker/ui/words"
	"studioworker/worker/observe"
	"studioworker/worker/oneline"
)

// maxSaid bounds what others said, in characters.
const maxSaid = 300

// reason says why in the window's language; text is what the worker says of it,
// which stands alone when nobody knows the sort.
func reason(p *words.Printer, why observe.Why, text string, now time.Time) string {
	why.Said, why.More = oneline.Of(why.Said, maxSaid), oneline.Of(why.More, maxSaid)
	says := detailed(p, why, now)
	if says == "" {
		plain, said := reasonWords(why.Reason)
		switch {
		case plain == "":
			return text
		case why.Said == "" || said == "":
			says = p.T(plain) + behind(why.Said)
		default:
			says = p.T(said, why.Said)
		}
	}
	if why.Proxy != "" && why.Reason != observe.ReasonProxy {
		return p.T("the proxy %s does not connect", why.Proxy) + ": " + says
	}
	return says
}

// detailed are the words of reasons that know more than what was said; empty for
// all others.
func detailed(p *words.Printer, why observe.Why, now time.Time) string {
	switch why.Reason { //nolint:exhaustive // the others know no more
	case observe.ReasonUntrusted:
		if why.Said != "" && why.More != "" {
			return p.T("the certificate of %s comes from %s, which this computer does not trust; if that is right, name the issuer's file in the settings as ca_file", why.Said, why.More)
		}
	case observe.ReasonExpired:
		if why.Said != "" && !why.At.IsZero() {
			return p.T("the certificate of %s, issued by %s, was good until %s; is this computer's clock right?", why.Said, why.More, moment(p, why.At, now)) + clocks(p, why, now)
		}
	case observe.ReasonNotYet:
		if why.Said != "" && !why.At.IsZero() {
			return p.T("the certificate of %s, issued by %s, is good only from %s; is this computer's clock right?", why.Said, why.More, moment(p, why.At, now)) + clocks(p, why, now)
		}
	case observe.ReasonProxy:
		if why.Proxy != "" {
			return p.T("the proxy %s does not connect", why.Proxy) + behind(why.Said)
		}
	case observe.ReasonCopied:
		if why.Said != "" {
			return p.T("the settings were copied from another computer; their key is kept in %s", why.Said)
		}
	case observe.ReasonHours:
		if !why.At.IsZero() {
			return p.T("it waits for the hours of updates, until %s", ahead(p, why.At, now))
		}
	case observe.ReasonOutdated:
		if !why.At.IsZero() {
			return p.T("what lies at the address of updates was good until %s; is this computer's clock right?", moment(p, why.At, now)) + behind(why.Said)
		}
	case observe.ReasonNoRoom:
		if why.Said != "" {
			return p.T("there is too little room for it: %s are free, %s are needed", why.Said, why.More)
		}
	}
	return ""
}

// moment is a time that may be years away.
func moment(p *words.Printer, t, now time.Time) string {
	t = t.In(now.Location())
	return p.Date(t, true) + " " + p.Hour(t)
}

// behind puts what was heard behind what it means.
func behind(said string) string {
	if said == "" {
		return ""
	}
	return " (" + said + ")"
}

// clocks says what time it is here, and where a certificate comes from.
func clocks(p *words.Printer, why observe.Why, now time.Time) string {
	here := " " + p.T("It says %s", moment(p, now, now))
	if why.Clock.IsZero() {
		return here
	}
	return here + ", " + p.T("the studio says %s", moment(p, why.Clock, now))
}

// reasonWords are the words of a reason: without what others said, and with it.
// Both are empty for one that is not known; said is for one that never quotes.
func reasonWords(r observe.Reason) (plain, said words.Key) {
	switch r {
	case observe.ReasonUnknown:
	case observe.ReasonNoHost:
		return "no address belongs to this name", "no address belongs to the name %s"
	case observe.ReasonNoLookup:
		return "the name cannot be looked up; is this computer online?", "the name %s cannot be looked up; is this computer online?"
	case observe.ReasonNoNetwork:
		return "there is no network connection to it", "there is no network connection to %s"
	case observe.ReasonNobodyThere:
		return "nobody answers at this address", "nobody answers at %s"
	case observe.ReasonTooLate:
		return "there was no answer in time", ""
	case observe.ReasonCut:
		return "the connection ended", ""
	case observe.ReasonCertificate:
		return "the certificate of the other side does not fit", ""
	case observe.ReasonUntrusted:
		return "this computer does not trust the other side's certificate; if it is right, name its issuer's file in the settings as ca_file", ""
	case observe.ReasonExpired:
		return "the certificate of the other side is not good any more; is this computer's clock right?", ""
	case observe.ReasonNotYet:
		return "the certificate of the other side is not good yet; is this computer's clock right?", ""
	case observe.ReasonNotSecure:
		return "the other side offers no secure connection", ""
	case observe.ReasonProxy:
		return "the proxy does not connect", ""
	case observe.ReasonProxyLogin:
		return "it wants a right name and password in its address, as http://NAME:PASSWORD@HOST:PORT", ""
	case observe.ReasonStatus:
		return "the other side reports an error", "the other side reports error %s"
	case observe.ReasonDiskFull:
		return "the disk is full", ""
	case observe.ReasonNotAllowed:
		return "this computer does not allow it", ""
	case observe.ReasonNotSaved:
		return "the settings cannot be saved", ""
	case observe.ReasonNoPresence:
		return "this computer does not tell whether you are using it", ""
	case observe.ReasonDamaged:
		return "the result on this disk is damaged", ""
	case observe.ReasonUnified:
		return "shares the computer's memory", ""
	case observe.ReasonUntold:
		return "its driver does not tell its memory", ""
	case observe.ReasonNoDriver:
		return "install NVIDIA's driver to see its memory", ""
	case observe.ReasonSlept:
		return "this computer slept", ""
	case observe.ReasonGone:
		return "the key for the studio is not in the settings any more", ""
	case observe.ReasonCopied:
		return "the settings were copied from another computer", ""
	case observe.ReasonToken:
		return "it does not know this computer's key", ""
	case observe.ReasonDuplicate:
		return "another computer uses this name", ""
	case observe.ReasonDeleted:
		return "the people of the studio removed this computer", ""
	case observe.ReasonRestarts:
		return "the studio starts anew", ""
	case observe.ReasonLeft:
		return "the studio signed off", "the studio signed off and says: %s"
	case observe.ReasonStudioSays:
		return "the studio ended the connection", "the studio ended the connection and says: %s"
	case observe.ReasonSilent:
		return "the studio gave no sign of life", ""
	case observe.ReasonViolation:
		return "the studio and this program do not understand each other", ""
	case observe.ReasonNoStudio:
		return "the answer is not from a studio", ""
	case observe.ReasonAddress:
		return "the address of the studio cannot be used", ""
	case observe.ReasonTurn:
		return "it comes to this computer in the next days", ""
	case observe.ReasonHours:
		return "it waits for the hours of updates", ""
	case observe.ReasonMetered:
		return "it waits for a connection that is not metered", ""
	case observe.ReasonTrial:
		return "the running version is new and has to prove itself first", ""
	case observe.ReasonTrialFailed:
		return "it was tried and did not work", ""
	case observe.ReasonFeed:
		return "what lies at the address of updates cannot be used", ""
	case observe.ReasonOutdated:
		return "what lies at the address of updates is out of date; is this computer's clock right?", ""
	case observe.ReasonUnsafe:
		return "the address of updates is not safe", ""
	case observe.ReasonSignature:
		return "its signature is not one that is trusted", ""
	case observe.ReasonOlder:
		return "it is older than one that was here already", ""
	case observe.ReasonByHand:
		return "it has to be installed by hand", ""
	case observe.ReasonNoArchive:
		return "it is not made for this computer", ""
	case observe.ReasonArchive:
		return "what was fetched is damaged", ""
	case observe.ReasonNoRoom:
		return "there is too little room for it", ""
	case observe.ReasonDoesNotRun:
		return "the new version does not start here", ""
	case observe.ReasonOwnFiles:
		return "the folder of updates cannot be used", ""
	case observe.ReasonInstall:
		return "another program keeps it up to date", "%s keeps it up to date"
	case observe.ReasonPackages:
		return "the system's package manager keeps it up to date", ""
	case observe.ReasonPlaced:
		return "whoever put the app into its place keeps it up to date", ""
	case observe.ReasonUnwatched:
		return "nothing watched over its start", ""
	case observe.ReasonNoFeed:
		return "this build has no address of updates", ""
	case observe.ReasonFeedUnset:
		return "no address of updates is known; auto_update_feed of the config may name one", ""
	case observe.ReasonStamp:
		return "this build was put together wrongly", ""
	}
	return "", ""
}
