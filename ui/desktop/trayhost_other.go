//go:build !headless && !linux

package desktop

import "context"

// trayHost stands for the desktop's tray, which Windows and macOS always have.
type trayHost struct{}

func openTrayHost() (*trayHost, error) { return &trayHost{}, nil }

func (*trayHost) usable() bool { return true }

func (*trayHost) close() error { return nil }

func (*trayHost) present(context.Context) bool { return true }

func (*trayHost) watch(context.Context, func(present bool)) {}
