package power

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
)

// maxValue bounds what is read of a file of the kernel, in bytes: the values are
// single words.
const maxValue = 64

// maxSupplies bounds the supplies that are looked at.
const maxSupplies = 64

func (r *Reader) onBattery(context.Context) (bool, error) {
	supplies := r.cfg.Supplies
	if supplies == nil {
		supplies = os.DirFS("/sys/class/power_supply")
	}
	entries, err := fs.ReadDir(supplies, ".")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	}
	discharging := false
	for i, entry := range entries {
		if i == maxSupplies {
			break
		}
		value := func(name string) string { return read(supplies, entry.Name()+"/"+name) }
		if value("scope") == "Device" {
			continue // of a mouse or the like
		}
		switch kind := value("type"); {
		case kind == "Mains" || strings.HasPrefix(kind, "USB"):
			if value("online") == "1" {
				return false, nil // a weak supply, but a supply
			}
		case kind == "Battery" || kind == "UPS":
			discharging = discharging || value("status") == "Discharging"
		}
	}
	return discharging, nil
}

// read returns the word in a file; empty when it cannot be read: a supply may go
// while we look at it.
func read(from fs.FS, name string) string {
	f, err := from.Open(name)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, maxValue))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
