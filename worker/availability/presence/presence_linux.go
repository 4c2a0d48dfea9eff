package presence

import (
	"context"
	"errors"
	"os"
	"time"
)

// platform is what a Reader keeps between two questions.
type platform struct{ wayland wayland }

// idleFor asks the X server first, unless it only stands in for a Wayland
// desktop: then it hears of the input to its own windows alone. On Wayland the
// compositor is asked after GNOME, which tells more over D-Bus.
func (p *platform) idleFor(ctx context.Context) (time.Duration, error) {
	var missing []error
	display, socket := os.Getenv("DISPLAY"), waylandSocket()
	onWayland := os.Getenv("WAYLAND_DISPLAY") != "" || os.Getenv("XDG_SESSION_TYPE") == "wayland" || display == "" && socket != ""
	if display != "" && !onWayland {
		idle, err := askX(ctx, display)
		if err == nil {
			return idle, nil
		}
		missing = append(missing, err)
	}
	idle, err := askDesktop(ctx, onWayland)
	if err == nil {
		return idle, nil
	}
	missing = append(missing, err)
	if onWayland && socket != "" {
		if idle, err = p.wayland.idleFor(ctx, socket); err == nil {
			return idle, nil
		}
		missing = append(missing, err)
	}
	return 0, errors.Join(missing...)
}
