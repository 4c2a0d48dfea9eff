package app

import (
	"os"
	"path/filepath"
)

func platformStateDir() (string, error) {
	home, err := os.UserHomeDir()
	return filepath.Join(home, ".local", "state"), err
}
