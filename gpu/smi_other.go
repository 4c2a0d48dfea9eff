//go:build !windows

package gpu

import "os/exec"

// hideConsole has nothing to hide outside Windows.
func hideConsole(*exec.Cmd) {}
