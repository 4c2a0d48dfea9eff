package presence

import (
	"context"
	"errors"
	"os"
	"time"
)

// idleFor asks the X server first, unless it only stands in for a Wayland
// desktop: then it hears of the input to its own windows alone.
func idleFor(ctx context.Context) (time.Duration, error) {
	var missing []error
	display := os.Getenv("DISPLAY")
	wayland := os.Getenv("WAYLAND_DISPLAY") != "" || os.Getenv("XDG_SESSION_TYPE") == "wayland"
	if display != "" && !wayland {
		idle, err := askX(ctx, display)
		if err == nil {
			return idle, nil
		}
		missing = append(missing, err)
	}
	idle, err := askDesktop(ctx)
	if err == nil {
		return idle, nil
	}
	return 0, errors.Join(append(missing, err)...)
}
