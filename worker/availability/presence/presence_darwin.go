package presence

import (
	"context"
	"time"

	"studioworker/worker/engine/process"
)

// platform is what a Reader keeps between two questions: nothing here.
type platform struct{}

func (platform) idleFor(ctx context.Context) (time.Duration, error) {
	var last hidIdle
	_, err := process.Run(ctx, process.Config{
		Path: "/usr/sbin/ioreg", Args: []string{"-r", "-d", "1", "-c", "IOHIDSystem"}, WallLimit: askLimit,
		OnLine: func(_ process.Stream, line string) { last.line(line) },
	})
	if err != nil {
		return 0, err
	}
	return last.idle()
}
