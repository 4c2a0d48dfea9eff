package identity

import (
	"context"
	"fmt"
	"os/exec"
	"time"
)

// MachineID asks the system for the id of its hardware.
func MachineID(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice")
	cmd.WaitDelay = time.Second
	text, err := cmd.Output() // a few kilobytes: one entry, no children
	if err != nil {
		return "", fmt.Errorf("ask ioreg: %w", err)
	}
	return platformUUID(string(text))
}
