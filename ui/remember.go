package ui

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"fyne.io/fyne/v2"
)

// Size of the window at its first start, and its smallest.
const (
	defaultWidth, defaultHeight = 960, 640
	minWidth, minHeight         = 720, 480
	maxSide                     = 16384
)

// remembered is what the window keeps from one start to the next. A loss of it
// is no loss: it is written without a sync, and anything odd in it is ignored.
type remembered struct {
	Width  float32 `json:"width"`
	Height float32 `json:"height"`
	Page   int     `json:"page"`
	Veil   bool    `json:"veil,omitempty"` // prompts and pictures are hidden
}

// maxRemembered bounds the file that we read.
const maxRemembered = 4096

var errRemembered = errors.New("not what the window writes")

// parseRemembered reads the file's bytes and refuses what no window can have.
func parseRemembered(data []byte) (remembered, error) {
	if len(data) > maxRemembered {
		return remembered{}, fmt.Errorf("%w: %d bytes", errRemembered, len(data))
	}
	var r remembered
	if err := json.Unmarshal(data, &r); err != nil {
		return remembered{}, fmt.Errorf("%w: %w", errRemembered, err)
	}
	if r.Width < minWidth || r.Width > maxSide || r.Height < minHeight || r.Height > maxSide {
		return remembered{}, fmt.Errorf("%w: size %v by %v", errRemembered, r.Width, r.Height)
	}
	if r.Page < 0 || r.Page >= pageCount {
		return remembered{}, fmt.Errorf("%w: page %d", errRemembered, r.Page)
	}
	return r, nil
}

// recall reads the file at path. Without a file it gives the first start's size.
func recall(path string) (remembered, error) {
	first := remembered{Width: defaultWidth, Height: defaultHeight}
	if path == "" {
		return first, nil
	}
	f, err := os.Open(path) // #nosec G304 -- the program's own state folder
	if errors.Is(err, os.ErrNotExist) {
		return first, nil
	}
	if err != nil {
		return first, fmt.Errorf("open window state: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxRemembered+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return first, fmt.Errorf("read window state: %w", err)
	}
	r, err := parseRemembered(data)
	if err != nil {
		return first, fmt.Errorf("read window state %s: %w", path, err)
	}
	return r, nil
}

// remember writes the file at path: beside it first, then by a rename, so that
// no start ever finds half a file.
func remember(path string, size fyne.Size, page int, veil bool) error {
	if path == "" {
		return nil
	}
	data, err := json.Marshal(remembered{Width: max(size.Width, minWidth), Height: max(size.Height, minHeight), Page: page, Veil: veil})
	if err != nil {
		return fmt.Errorf("encode window state: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make folder for window state: %w", err)
	}
	next := path + ".new"
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return fmt.Errorf("write window state: %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return errors.Join(fmt.Errorf("replace window state: %w", err), os.Remove(next))
	}
	return nil
}
