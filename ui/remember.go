package ui

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"studioworker/ui/model"
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
	// Settled says that a studio has let this computer in: a later wait for one is
	// no first start.
	Settled bool `json:"settled,omitempty"`
	Preferences
}

// Preferences are the settings of the window alone. They hold for the person at
// this desktop, not for the worker.
type Preferences struct {
	Language     string `json:"language,omitempty"`      // of package words; empty = the desktop's
	Theme        string `json:"theme,omitempty"`         // dark or light; empty = the desktop's
	ReduceMotion bool   `json:"reduce_motion,omitempty"` // progress bars move in steps
	Veil         bool   `json:"veil,omitempty"`          // hide prompts and pictures
	NotifyDone   bool   `json:"notify_done"`             // tell when jobs are done
	NotifyFailed bool   `json:"notify_failed"`           // tell when a job failed
}

// values gives the preferences the way the page of settings has them.
func (p Preferences) values() map[string]string {
	return map[string]string{
		model.KeyLanguage: p.Language, model.KeyTheme: p.Theme,
		model.KeyReduceMotion: strconv.FormatBool(p.ReduceMotion), model.KeyVeil: strconv.FormatBool(p.Veil),
		model.KeyNotifyDone: strconv.FormatBool(p.NotifyDone), model.KeyNotifyFailed: strconv.FormatBool(p.NotifyFailed),
	}
}

// with gives the preferences after changes; keys that are none are left out.
func (p Preferences) with(changes map[string]string) Preferences {
	for key, value := range changes {
		on := value == "true"
		switch key {
		case model.KeyLanguage:
			p.Language = value
		case model.KeyTheme:
			p.Theme = value
		case model.KeyReduceMotion:
			p.ReduceMotion = on
		case model.KeyVeil:
			p.Veil = on
		case model.KeyNotifyDone:
			p.NotifyDone = on
		case model.KeyNotifyFailed:
			p.NotifyFailed = on
		}
	}
	return p
}

// firstState is the window of a first start.
func firstState() remembered {
	return remembered{Width: defaultWidth, Height: defaultHeight, Preferences: Preferences{NotifyDone: true, NotifyFailed: true}}
}

// maxRemembered bounds the file that we read.
const maxRemembered = 4096

var errRemembered = errors.New("not what the window writes")

// parseRemembered reads the file's bytes and refuses what no window can have.
func parseRemembered(data []byte) (remembered, error) {
	if len(data) > maxRemembered {
		return remembered{}, fmt.Errorf("%w: %d bytes", errRemembered, len(data))
	}
	r := firstState() // keys that an older version did not write
	if err := json.Unmarshal(data, &r); err != nil {
		return remembered{}, fmt.Errorf("%w: %w", errRemembered, err)
	}
	if r.Width < minWidth || r.Width > maxSide || r.Height < minHeight || r.Height > maxSide {
		return remembered{}, fmt.Errorf("%w: size %v by %v", errRemembered, r.Width, r.Height)
	}
	if r.Page < 0 || r.Page >= pageCount {
		return remembered{}, fmt.Errorf("%w: page %d", errRemembered, r.Page)
	}
	if r.Theme != "" && r.Theme != themeDark && r.Theme != themeLight {
		return remembered{}, fmt.Errorf("%w: theme %q", errRemembered, r.Theme)
	}
	return r, nil
}

// recall reads the file at path. Without a file it gives the first start's size.
func recall(path string) (remembered, error) {
	first := firstState()
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
func remember(path string, r remembered) error {
	if path == "" {
		return nil
	}
	data, err := json.Marshal(r)
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
