package power

import (
	"context"
	"time"

	"studioworker/worker/engine/process"
)

const askLimit = 3 * time.Second

func (*Reader) onBattery(ctx context.Context) (bool, error) {
	out, err := process.Run(ctx, process.Config{Path: "/usr/bin/pmset", Args: []string{"-g", "batt"}, WallLimit: askLimit})
	if err != nil {
		return false, err
	}
	return drawsFromBattery(out.Stdout)
}
