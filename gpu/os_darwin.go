package gpu

import (
	"context"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// vmStatTimeout is generous: vm_stat answers in milliseconds.
const vmStatTimeout = 2 * time.Second

func newOS() cardReader {
	return apple{
		chip:   func() (string, error) { return unix.Sysctl("machdep.cpu.brand_string") },
		memory: func() (uint64, error) { return unix.SysctlUint64("hw.memsize") },
		vmStat: func(ctx context.Context) ([]byte, error) {
			ctx, cancel := context.WithTimeout(ctx, vmStatTimeout)
			defer cancel()
			return exec.CommandContext(ctx, "/usr/bin/vm_stat").Output()
		},
	}
}
