package gpu

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

var (
	errNotAppleChip = errors.New("not an Apple chip")
	errVMStat       = errors.New("not what vm_stat writes")
)

// maxVMStat is some ten times what vm_stat writes.
const maxVMStat = 16 << 10

// apple tells the graphics of an Apple chip: one device that shares the computer's
// memory. What it has free is what the system could give without swapping.
//
// It was tested with the recorded output of macOS programs, not on a Mac.
type apple struct {
	chip   func() (string, error) // such as Apple M2 Pro
	memory func() (uint64, error) // bytes of the whole computer
	vmStat func(context.Context) ([]byte, error)
}

func (a apple) read(ctx context.Context) ([]found, error) {
	chip, err := a.chip()
	if err != nil {
		return nil, fmt.Errorf("ask for the chip: %w", err)
	}
	chip = clean(chip)
	if !strings.HasPrefix(chip, "Apple ") {
		return nil, fmt.Errorf("%w: %s", errNotAppleChip, chip)
	}
	f := found{Device: Device{Name: chip, Vendor: "Apple", Driver: "Metal", Note: NoteUnified}}
	total, err := a.memory()
	if err != nil || total > maxMemory {
		return []found{f}, fmt.Errorf("ask for the memory: %d bytes: %w", total, err)
	}
	f.TotalBytes, f.FreeUnknown = total, true
	out, err := a.vmStat(ctx)
	if err != nil {
		return []found{f}, fmt.Errorf("run vm_stat: %w", err)
	}
	free, err := parseVMStat(out)
	if err != nil {
		return []found{f}, err
	}
	f.FreeBytes, f.FreeUnknown = min(free, total), false
	return []found{f}, nil
}

// parseVMStat adds up the pages that vm_stat calls free, inactive, speculative and
// purgeable, in bytes.
func parseVMStat(data []byte) (uint64, error) {
	if len(data) > maxVMStat {
		return 0, fmt.Errorf("%w: more than 16 KiB", errVMStat)
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	if !lines.Scan() {
		return 0, fmt.Errorf("%w: nothing", errVMStat)
	}
	_, size, ok := strings.Cut(lines.Text(), "page size of ")
	size, _, _ = strings.Cut(size, " ")
	pageSize, err := strconv.ParseUint(size, 10, 32)
	if !ok || err != nil || pageSize == 0 {
		return 0, fmt.Errorf("%w: no page size", errVMStat)
	}
	counts := map[string]bool{"Pages free": true, "Pages inactive": true, "Pages speculative": true, "Pages purgeable": true}
	var pages uint64
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), ":")
		if !ok || !counts[name] {
			continue
		}
		counts[name] = false // a line that comes twice counts once
		n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), "."), 10, 64)
		if err != nil || n > maxMemory/pageSize {
			return 0, fmt.Errorf("%w: %s", errVMStat, clean(lines.Text()))
		}
		pages += n
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("%w: %w", errVMStat, err)
	}
	if counts["Pages free"] {
		return 0, fmt.Errorf("%w: no free pages", errVMStat)
	}
	return pages * pageSize, nil
}
