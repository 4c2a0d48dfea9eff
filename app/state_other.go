//go:build !linux

package app

import "os"

// Elsewhere the config folder is the place for application data.
func platformStateDir() (string, error) { return os.UserConfigDir() }
