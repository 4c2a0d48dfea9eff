// Package power tells whether this computer runs on its battery.
//
// A computer without a battery, or whose system says nothing of one, runs on
// mains power. A [Reader] starts nothing that outlives a call and may be used by
// several goroutines.
package power

import (
	"context"
	"fmt"
	"io/fs"
)

// Config says where a reader looks. The zero value looks at this computer.
type Config struct {
	// Supplies is the kernel's folder of power supplies, on Linux. Nil: the real
	// one.
	Supplies fs.FS
}

// Reader asks this computer for its source of power.
type Reader struct{ cfg Config }

// New returns a reader.
func New(cfg Config) *Reader { return &Reader{cfg} }

// OnBattery says whether the battery is in use. It takes at most three seconds.
func (r *Reader) OnBattery(ctx context.Context) (bool, error) {
	on, err := r.onBattery(ctx)
	if err != nil {
		return false, fmt.Errorf("ask for the source of power: %w", err)
	}
	return on, nil
}
