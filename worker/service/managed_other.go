//go:build !windows

package service

import "context"

// Managed runs a worker until ctx ends. Service managers of this system need no more of
// a program than that it runs and heeds SIGTERM.
func Managed(ctx context.Context, run func(context.Context) error) error { return run(ctx) }
