// Package presence tells how long nobody has touched this computer.
//
// Where it asks: the X server's screen saver extension, GNOME or KDE over D-Bus, or a
// Wayland compositor by ext-idle-notify-v1 on Linux; the system on Windows and macOS.
// A computer that cannot be asked is an error and never a guess. A [Reader] starts nothing
// that outlives a call, and keeps one connection at most: to the compositor.
package presence

import (
	"context"
	"fmt"
	"time"
)

// askLimit bounds one call.
const askLimit = 3 * time.Second

// Reader asks this computer for the last input. It is safe for concurrent use.
type Reader struct{ on platform }

// New returns a reader.
func New() *Reader { return &Reader{} }

// IdleFor returns how long there has been no input. It takes at most three
// seconds. The error says why this computer cannot tell. With a Wayland compositor it
// knows nothing of before its first call, and counts from there.
func (r *Reader) IdleFor(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	idle, err := r.on.idleFor(ctx)
	if err != nil {
		return 0, fmt.Errorf("ask for the last input: %w", err)
	}
	return idle, nil
}
