//go:build !windows && !darwin

package identity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// MachineID reads the id that the system gave itself when it was installed.
func MachineID(context.Context) (string, error) {
	return firstOf("/etc/machine-id", "/var/lib/dbus/machine-id")
}

// firstOf returns the id in the first file that holds one.
func firstOf(paths ...string) (string, error) {
	var problems error
	for _, path := range paths {
		text, err := start(path)
		if err == nil {
			text, err = clean(text)
		}
		if err == nil {
			return text, nil
		}
		problems = errors.Join(problems, fmt.Errorf("%s: %w", path, err))
	}
	return "", problems
}

// start reads no more of a file than an id may have.
func start(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(io.LimitReader(f, 1024))
	return string(data), errors.Join(err, f.Close())
}
