//go:build unix && !linux

package process

import "syscall"

// attributes asks for an own process group. There is no parent-death signal.
func (g *group) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// waitEnded reports false: this system has no portable way to wait for a
// process without collecting it.
func waitEnded(int) bool { return false }
