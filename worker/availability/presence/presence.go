// Package presence tells how long nobody has touched this computer.
//
// Where it asks: the X server's screen saver extension, GNOME or KDE over D-Bus
// on Linux; the system on Windows and macOS. A computer that cannot be asked is
// an error and never a guess. A [Reader] keeps no connection and starts nothing
// that outlives a call.
package presence

import (
	"context"
	"fmt"
	"time"
)

// askLimit bounds one call.
const askLimit = 3 * time.Second

// Reader asks this computer for the last input.
type Reader struct{}

// New returns a reader.
func New() *Reader { return &Reader{} }

// IdleFor returns how long there has been no input. It takes at most three
// seconds. The error says why this computer cannot tell.
func (*Reader) IdleFor(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	idle, err := idleFor(ctx)
	if err != nil {
		return 0, fmt.Errorf("ask for the last input: %w", err)
	}
	return idle, nil
}
