//go:build !windows

package service

import "os"

// Linux and macOS keep a file for the login.

func (l Login) read() (string, error) {
	path, err := l.path()
	if err != nil {
		return "", err
	}
	return readFile(path)
}

func (l Login) write(text string) error {
	path, err := l.path()
	if err != nil {
		return err
	}
	return replace(path, text)
}

func (l Login) remove() error {
	path, err := l.path()
	if err != nil {
		return err
	}
	return os.Remove(path)
}
