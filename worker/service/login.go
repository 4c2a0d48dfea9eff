package service

import (
	"errors"
	"fmt"
	"os"
)

// Login starts the window's program, in the tray, when the user logs in.
type Login struct {
	Program string // absolute path of the program
	File    string // absolute path of its config; empty = the usual one
}

func (l Login) arguments() []string {
	arguments := []string{"ui", "--hidden"}
	if l.File != "" {
		arguments = append([]string{"--config", l.File}, arguments...)
	}
	return arguments
}

// Enabled says whether the desktop starts the program at login.
func (l Login) Enabled() (bool, error) {
	text, err := l.read()
	return text != "", err
}

// Enable has the desktop start the program at login. Where it does so already, for
// another path perhaps, the entry is replaced.
func (l Login) Enable() error {
	text, err := l.read()
	if err != nil {
		return err
	}
	if text == l.text() {
		return nil
	}
	if err := l.write(l.text()); err != nil {
		return fmt.Errorf("start at login: %w", err)
	}
	return nil
}

// Disable has the desktop leave the program alone at login.
func (l Login) Disable() error {
	if err := l.remove(); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("do not start at login: %w", err)
	}
	return nil
}

// readFile reads an entry of some lines; absent is empty.
func readFile(path string) (string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the entry for the login: %w", err)
	}
	return string(text), nil
}
