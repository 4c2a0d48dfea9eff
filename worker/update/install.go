package update

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"studioworker/worker/observe"
	"studioworker/worker/update/versions"
)

const (
	tryTime  = 20 * time.Second // for a new program to say its version
	tryBytes = 4 << 10          // of what it says
	// roomFactor times the size of an archive must be free: it lies beside the program
	// that comes out of it, which is three times as large.
	roomFactor = 5
)

// install fetches a release and puts it beside the installed program. It runs at the
// next start.
func (u *Updater) install(ctx context.Context, o *offer) error {
	if free, err := u.cfg.FreeDisk(); err == nil && free < roomFactor*uint64(o.target.Size) {
		text := fmt.Errorf("there is too little room for the update: %d MB are free, %d MB are needed", free/1e6, roomFactor*o.target.Size/1e6)
		return observe.Explained(text, observe.Why{
			Reason: observe.ReasonNoRoom, Said: megabytes(free), More: megabytes(roomFactor * uint64(o.target.Size)),
		})
	}
	stage, err := u.cfg.Store.Stage()
	if err != nil {
		return observe.Otherwise(err, observe.ReasonOwnFiles)
	}
	shown := time.Now()
	archive := filepath.Join(stage, "archive")
	err = u.fetcher.archive(ctx, o.archive, o.target, archive, func(n int64) {
		if at := time.Now(); at.Sub(shown) >= 100*time.Millisecond || n == o.target.Size {
			shown = at
			u.show(o, observe.UpdateDownloading, observe.Update{}, n)
		}
	})
	if err != nil {
		return observe.Otherwise(err, observe.ReasonArchive)
	}
	program := filepath.Join(stage, "program")
	sum, err := versions.Unpack(archive, program)
	if err != nil {
		return archiveError(err)
	}
	if err := tryProgram(ctx, filepath.Join(program, versions.ProgramName()), o.release.Version); err != nil {
		return observe.Because(err, observe.ReasonDoesNotRun, err.Error())
	}
	err = u.cfg.Store.Keep(program, versions.Candidate{
		Version: versions.Version{Version: o.release.Version, Seq: o.release.Seq, SHA256: sum},
		Notes:   o.release.Notes, Bytes: o.target.Size,
	}, o.epoch)
	return observe.Otherwise(err, observe.ReasonOwnFiles)
}

// archiveError is the error of unpacking: the disk's, or else the archive's.
func archiveError(err error) error {
	reason := observe.WhyOf(err).Reason
	if reason != observe.ReasonDiskFull && reason != observe.ReasonNotAllowed {
		reason = observe.ReasonArchive // one that ends too soon too
	}
	return observe.Because(err, reason, err.Error())
}

func megabytes(n uint64) string { return strconv.FormatUint(n/1e6, 10) + " MB" }

// tryProgram has a new program say its version: one that lacks a library, or is of another
// system, is found out before anything stops for it.
func tryProgram(ctx context.Context, path, version string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, tryTime, fmt.Errorf("it said nothing for %v", tryTime))
	defer cancel()
	var text limited
	var err error
	for wait := 10 * time.Millisecond; wait < time.Second; wait *= 2 {
		cmd := exec.CommandContext(ctx, path, "version")
		cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &text, &text, time.Second
		// Another goroutine that starts a process may have our file open (golang.org/issue/22315).
		if err = cmd.Run(); !errors.Is(err, syscall.ETXTBSY) {
			break
		}
		time.Sleep(wait)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("the new version does not run here: %w: %.200s", err, strings.TrimSpace(text.String()))
	}
	for word := range strings.FieldsSeq(text.String()) {
		if word == version {
			return nil
		}
	}
	return fmt.Errorf("the new version does not say that it is %s: %.200q", version, text.String())
}

// limited keeps the first bytes of what is written.
type limited struct{ strings.Builder }

func (l *limited) Write(p []byte) (int, error) {
	l.Builder.Write(p[:min(len(p), tryBytes-l.Len())])
	return len(p), nil
}
