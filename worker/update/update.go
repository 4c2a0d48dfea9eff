package update

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"aead.dev/minisign"

	"studioworker/worker/availability/hours"
	"studioworker/worker/observe"
	"studioworker/worker/update/feed"
	"studioworker/worker/update/versions"
)

// AutoUpdateTick is how soon an updater that had to wait looks again (spec §10.1).
const AutoUpdateTick = 60 * time.Second

// AutoUpdateDecision is what came of one tick (spec §10.5).
type AutoUpdateDecision string

// The decisions. The first six are the reference's.
const (
	Disabled    AutoUpdateDecision = "disabled"
	SkippedBusy AutoUpdateDecision = "skipped_busy"
	UpToDate    AutoUpdateDecision = "up_to_date"
	CheckError  AutoUpdateDecision = "check_error"
	Updated     AutoUpdateDecision = "updated" // it runs from the next start on
	UpdateError AutoUpdateDecision = "update_error"
	Held        AutoUpdateDecision = "held"    // the newest release failed here
	Waiting     AutoUpdateDecision = "waiting" // for its turn, its hours, a connection, or a version on trial
)

// Settings are the person's.
type Settings struct {
	Enabled    bool
	Interval   time.Duration // between two looks
	Feed       string        // empty = the one of the build
	Prerelease bool
	Hours      []string // when updates are fetched and installed; none = always
}

// Config is what an updater is made of.
type Config struct {
	Store    *versions.Store
	Observer *observe.Slot[observe.Update]
	Log      *slog.Logger
	HTTP     *http.Client
	Settings func() Settings
	// InstallID decides when this computer's turn in a rollout comes.
	InstallID func() string
	// Busy says whether a job runs.
	Busy func() bool
	// Metered says whether the connection's bytes are counted. Such a connection fetches
	// nothing unasked. nil = nobody knows.
	Metered func(ctx context.Context) bool
	// FreeDisk says how many bytes are free where versions lie.
	FreeDisk func() (uint64, error)
	// Restart ends this process for the next version: when no job runs, or, asked by a
	// person, as soon as it can stop in good order. It returns at once.
	Restart func(asked bool)

	Feed    string // of the build
	Roots   []minisign.PublicKey
	Version string // that runs
	Seq     uint64 // place of the installed program in the order of releases; 0 = unknown
	OS      string
	Arch    string
	Variant string
}

// Updater keeps one program up to date. Its methods are safe for concurrent use.
type Updater struct {
	cfg     Config
	fetcher *fetcher
	kick    chan struct{} // room for one: the settings changed

	mu  sync.Mutex // one look or installation at a time
	due time.Time  // when a look that was put off for a job was due
}

// New returns an updater. It touches nothing.
func New(cfg Config) *Updater {
	return &Updater{cfg: cfg, fetcher: newFetcher(cfg.HTTP, "studio-worker/"+cfg.Version), kick: make(chan struct{}, 1)}
}

// Run looks once an interval until ctx ends. The first look comes at a random moment of
// the first interval, so that computers that start together do not ask together.
func (u *Updater) Run(ctx context.Context) error {
	wait := time.Duration(rand.Int64N(int64(max(u.cfg.Settings().Interval, time.Second)))) //nolint:gosec // G404: not a secret
	for {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-u.kick:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		s := u.cfg.Settings()
		wait = s.Interval
		switch u.Tick(ctx) {
		case Updated:
			u.cfg.Restart(false)
		case SkippedBusy, Waiting:
			wait = min(wait, AutoUpdateTick)
		case Disabled, UpToDate, CheckError, UpdateError, Held:
		}
	}
}

// Changed has the updater look at the settings again.
func (u *Updater) Changed() {
	select {
	case u.kick <- struct{}{}:
	default: // it is on its way
	}
}

// Remember shows what came of the last update.
func (u *Updater) Remember() {
	state, err := u.cfg.Store.Read()
	if err != nil {
		u.cfg.Log.Error("the state of updates cannot be read", "error", err)
		return
	}
	if c := state.Candidate; c != nil && c.Version.Version != u.cfg.Version {
		u.cfg.Observer.Set(observe.Update{State: observe.UpdateReady, Version: c.Version.Version, Notes: c.Notes, Bytes: c.Bytes, Done: c.Bytes})
		return
	}
	for _, bad := range state.Bad {
		if feed.Newer(bad.Version, u.cfg.Version) {
			u.cfg.Log.Error("a new version did not work here and is held until a higher one is there", "version", bad.Version, "reason", bad.Reason)
			u.cfg.Observer.Set(observe.Update{State: observe.UpdateHeld, Version: bad.Version, Detail: bad.Reason, Why: observe.Why{Reason: observe.ReasonTrialFailed, Said: bad.Reason}})
		}
	}
}

// Tick does what an interval's end asks for (spec §10.5).
func (u *Updater) Tick(ctx context.Context) AutoUpdateDecision {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.cfg.Settings()
	if !s.Enabled {
		return Disabled
	}
	if u.cfg.Busy() && !u.overdue(s.Interval) {
		u.cfg.Log.Info("no look for updates: a job runs")
		return SkippedBusy
	}
	u.due = time.Time{}
	o, decision, err := u.check(ctx, s)
	if o == nil || decision != Updated {
		return u.say(ctx, o, decision, err)
	}
	if o.later {
		u.show(o, observe.UpdateAvailable, detail("it comes to this computer in the next days", observe.ReasonTurn), 0)
		return Waiting
	}
	if wait, until := closed(s.Hours, time.Now()); wait {
		d := detail("it waits for the hours of updates, until "+until.Format("Monday 15:04"), observe.ReasonHours)
		d.Why.At = until
		u.show(o, observe.UpdateAvailable, d, 0)
		return Waiting
	}
	if !u.here(o) && u.cfg.Metered != nil && u.cfg.Metered(ctx) {
		u.show(o, observe.UpdateAvailable, detail("it waits for a connection that is not metered", observe.ReasonMetered), 0)
		return Waiting
	}
	return u.say(ctx, o, Updated, u.take(ctx, o))
}

// overdue says whether jobs have kept the updater from looking for a whole interval.
// A machine that always works would never be updated else.
func (u *Updater) overdue(interval time.Duration) bool {
	if u.due.IsZero() {
		u.due = time.Now()
	}
	return time.Since(u.due) >= interval
}

// closed says whether hours keep an update away now, and until when.
func closed(entries []string, now time.Time) (bool, time.Time) {
	week, err := hours.Parse(entries)
	if err != nil || week.Open(now) { // the config refuses what cannot be read
		return false, time.Time{}
	}
	until, _ := week.Next(now)
	return true, until
}

// errTrial: the running version is on trial itself.
var errTrial = observe.Because(errors.New("the running version is new and has to prove itself first"), observe.ReasonTrial, "")

// check looks at the feed. Updated stands for a release that is to be taken.
func (u *Updater) check(ctx context.Context, s Settings) (*offer, AutoUpdateDecision, error) {
	u.cfg.Observer.Update(func(o observe.Update) observe.Update {
		o.State, o.Detail, o.Why = observe.UpdateChecking, "", observe.Why{}
		return o
	})
	o, err := u.look(ctx, s)
	if err != nil {
		return nil, CheckError, observe.Otherwise(err, observe.ReasonFeed)
	}
	if o == nil {
		return nil, UpToDate, nil
	}
	if o.bad != nil {
		return o, Held, nil
	}
	u.cfg.Log.Info("a newer version is there", "version", o.release.Version, "bytes", o.target.Size)
	u.show(o, observe.UpdateAvailable, observe.Update{}, 0)
	state, err := u.cfg.Store.Read()
	if err != nil {
		return nil, CheckError, observe.Otherwise(err, observe.ReasonOwnFiles)
	}
	if c := state.Candidate; c != nil && c.Version.Version == u.cfg.Version {
		u.show(o, observe.UpdateAvailable, detailOf(errTrial), 0)
		return o, Waiting, nil
	}
	return o, Updated, nil
}

// take fetches a release, unless it is here already.
func (u *Updater) take(ctx context.Context, o *offer) error {
	if u.here(o) {
		return nil
	}
	u.show(o, observe.UpdateDownloading, observe.Update{}, 0)
	return u.install(ctx, o)
}

// say tells people and the log what came of a tick.
func (u *Updater) say(ctx context.Context, o *offer, d AutoUpdateDecision, err error) AutoUpdateDecision {
	switch {
	case err != nil && ctx.Err() != nil: // we stop
		if d == Updated {
			d = UpdateError
		}
	case d == Updated && err != nil:
		u.cfg.Log.Error("the update failed", "version", o.release.Version, "error", err)
		u.show(o, observe.UpdateFailed, detailOf(err), 0)
		d = UpdateError
	case d == Updated:
		u.cfg.Log.Info("the update is ready and runs when no job does", "version", o.release.Version)
		u.show(o, observe.UpdateReady, observe.Update{}, o.target.Size)
	case d == Held:
		bad := detail(o.bad.Reason, observe.ReasonTrialFailed)
		bad.Why.Said = o.bad.Reason
		u.show(o, observe.UpdateHeld, bad, 0)
	case d == CheckError:
		u.cfg.Log.Warn("the look for updates failed", "error", err)
		d := detailOf(err)
		d.State, d.Checked = observe.UpdateFailed, time.Now()
		u.cfg.Observer.Set(d)
	case d == UpToDate:
		u.cfg.Log.Info("this is the newest version", "version", u.cfg.Version)
		u.cfg.Observer.Set(observe.Update{Checked: time.Now()})
	}
	return d
}

// detail is the part of the slot that says more.
func detail(text string, reason observe.Reason) observe.Update {
	return observe.Update{Detail: text, Why: observe.Why{Reason: reason}}
}

func detailOf(err error) observe.Update {
	return observe.Update{Detail: err.Error(), Why: observe.WhyOf(err)}
}

// show puts a release into the slot. Of more the detail counts.
func (u *Updater) show(o *offer, state observe.UpdateState, more observe.Update, done int64) {
	u.cfg.Observer.Set(observe.Update{
		State: state, Version: o.release.Version, Notes: o.release.Notes, Bytes: o.target.Size, Done: done, Checked: time.Now(),
		Detail: more.Detail, Why: more.Why,
	})
}

// Check looks for a release because a person asks. It takes nothing; the slot has the
// outcome. A release whose turn has not come here is shown, too.
func (u *Updater) Check(ctx context.Context) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	o, d, err := u.check(ctx, u.cfg.Settings())
	if d == Updated { // it is only shown
		u.ready(o)
		return nil
	}
	u.say(ctx, o, d, err)
	return err
}

// here says whether a release was fetched before.
func (u *Updater) here(o *offer) bool {
	state, err := u.cfg.Store.Read()
	c := state.Candidate
	return err == nil && c != nil && c.Version.Version == o.release.Version && c.Seq == o.release.Seq
}

// ready shows a release as ready when it is here already.
func (u *Updater) ready(o *offer) {
	if u.here(o) {
		u.show(o, observe.UpdateReady, observe.Update{}, o.target.Size)
	}
}

// ErrNothing says that there is no release to install.
var ErrNothing = errors.New("there is nothing to install")

// Fetch looks, and makes what it finds ready, because a person asks: also out of the
// hours of updates, over a metered connection, and before its turn. It returns the version. The error is ErrNothing
// when there is none, or says why.
func (u *Updater) Fetch(ctx context.Context) (string, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	o, d, err := u.check(ctx, u.cfg.Settings())
	switch {
	case err != nil:
	case d == Waiting:
		return "", errTrial
	case d == Held:
		u.say(ctx, o, d, nil)
		return "", errors.New("version " + o.release.Version + " did not work here and is held: " + o.bad.Reason)
	case o == nil:
		u.say(ctx, o, d, nil)
		return "", ErrNothing
	default:
		err = u.take(ctx, o)
		u.say(ctx, o, Updated, err)
		return o.release.Version, err
	}
	u.say(ctx, o, d, err)
	return "", err
}

// Apply makes the newest release ready and restarts into it, because a person asks: as
// soon as this version can stop in good order, or when no job runs.
func (u *Updater) Apply(ctx context.Context, whenIdle bool) error {
	state, err := u.cfg.Store.Read()
	if err != nil {
		return err
	}
	if c := state.Candidate; c == nil || c.Version.Version == u.cfg.Version {
		if _, err := u.Fetch(ctx); err != nil {
			return err
		}
	}
	u.cfg.Observer.Update(func(o observe.Update) observe.Update {
		o.State = observe.UpdateApplying
		return o
	})
	u.cfg.Restart(!whenIdle)
	return nil
}
