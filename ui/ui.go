package ui

import (
	"context"
	"log/slog"
	"time"

	"studioworker/worker/observe"
)

// AppID is the program's id towards the desktop.
const AppID = "app.studioworker.desktop"

// AppName is the program's name and the first title of its window, from which
// X11 takes the window class.
const AppName = "Studio Worker"

// Controls is what the window may ask of the program. The methods without a
// context return at once and are called on the UI goroutine; the others run on
// a goroutine of the window's, and their context ends with the window.
type Controls interface {
	WorkControls

	// Pause stops taking jobs until Resume; the running one goes on.
	Pause()
	// PauseUntil is Pause that ends by itself when the clock shows t, which is not
	// zero.
	PauseUntil(t time.Time)
	// Resume takes jobs again.
	Resume()
	// ResetRegistration asks the studio anew, after it declined or signed out
	// this computer.
	ResetRegistration(ctx context.Context) error
	// SetThreshold sets the largest job to take, in GB of graphics memory.
	SetThreshold(ctx context.Context, gb float64) error
	// ApplyConfig saves settings, all or none: config keys and their values, as the
	// slot Config has them. What can applies at once.
	ApplyConfig(ctx context.Context, changes map[string]string) error
	// FreeSpace is how many bytes fit on the disk of a folder that may not exist yet.
	FreeSpace(path string) (uint64, error)
	// StartAtLogin says whether the program starts when the person logs in. An error
	// that is [errors.ErrUnsupported] means that this build cannot.
	StartAtLogin() (bool, error)
	// SetStartAtLogin changes that.
	SetStartAtLogin(ctx context.Context, on bool) error
	// CheckUpdate looks for a newer release now; the slot Update has the outcome. An
	// error that is [errors.ErrUnsupported] means that this build does not update
	// itself.
	CheckUpdate(ctx context.Context) error
	// RestartForUpdate installs a release that is ready, which starts the program
	// anew.
	RestartForUpdate(ctx context.Context) error
	// TryHere starts a private studio on this computer.
	TryHere(ctx context.Context) error
	// Join asks the studio at address to let this computer in, after a look whether
	// one is there: an [observe.StudioError] says why not, and nothing has changed.
	Join(ctx context.Context, address string) error
	// SendCrash sends a report of a crash to the makers of this build, once; id is
	// [observe.Crash.ID]. Nothing is sent later because of it.
	SendCrash(ctx context.Context, id string) error
	// DiscardCrash removes such a report.
	DiscardCrash(ctx context.Context, id string) error
	// Submit queues a job in the private studio. kind is a wire task kind.
	Submit(ctx context.Context, kind, text string) error
	// Open shows a result with the system's program for it.
	Open(path string) error
	// Quit stops the whole program in good order; the window's context ends
	// when that is done.
	Quit()
}

// Config is what a window needs.
type Config struct {
	Observers *observe.WorkerObservers
	Controls  Controls
	Log       *slog.Logger
	Hidden    bool            // start in the tray; shown all the same when there is no tray
	Show      <-chan struct{} // a second launch asks for the window; may be nil
	StatePath string          // file for the window's size and page; empty: remember nothing
}
