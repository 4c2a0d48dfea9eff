//go:build !headless && !linux

package app

// shedPages does nothing: these systems trim what a program in the background holds.
func shedPages() error { return nil }
