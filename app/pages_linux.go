//go:build !headless

package app

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// mapping is a part of the address space that shows the program's file, read only and
// without a page of the process's own: the kernel can bring all of it back.
type mapping struct{ start, end uintptr }

// ownMappings finds in smaps, as /proc has it, the mappings of the file at path.
func ownMappings(smaps io.Reader, path string) ([]mapping, error) {
	var found []mapping
	var at mapping
	ours := false
	for lines := bufio.NewScanner(smaps); lines.Scan(); {
		line := lines.Text()
		if rest, ok := strings.CutPrefix(line, "Anonymous:"); ok {
			if ours && strings.TrimSpace(rest) == "0 kB" {
				found = append(found, at)
			}
			continue
		}
		words := strings.Fields(line)
		if len(words) < 5 || strings.HasSuffix(words[0], ":") {
			continue
		}
		from, to, ok := strings.Cut(words[0], "-")
		if !ok {
			continue
		}
		start, err := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err = errors.Join(err, err2); err != nil || end < start {
			return nil, fmt.Errorf("read the mappings of this process: %q: %w", line, err)
		}
		at = mapping{uintptr(start), uintptr(end)}
		ours = !strings.Contains(words[1], "w") && strings.HasSuffix(line, " "+path)
	}
	return found, nil
}

// shedPages takes the pages of the program's file out of this process's memory. The start
// has touched nearly all of them, and a program that waits needs few: those come back,
// from the kernel's cache, when they are touched.
func shedPages() error {
	path, err := os.Executable()
	if err != nil {
		return err
	}
	smaps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	found, err := ownMappings(smaps, path)
	if err = errors.Join(err, smaps.Close()); err != nil {
		return err
	}
	for _, m := range found {
		if _, _, errno := syscall.Syscall(syscall.SYS_MADVISE, m.start, m.end-m.start, syscall.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("give back pages of the program: %w", errno)
		}
	}
	return nil
}
