package gpu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// smiTimeout is for a driver that hangs; the answer takes less than a second, two
	// on a computer with many cards whose driver was asleep.
	smiTimeout = 5 * time.Second
	// smiWaitDelay is how long a killed nvidia-smi may hold its output open.
	smiWaitDelay = time.Second
	// maxSMIOutput is some hundred times what 64 cards answer.
	maxSMIOutput = 64 << 10
	// maxMemory of one card, 16 TiB: a larger number is a mistake.
	maxMemory = 1 << 44

	smiFields = "pci.bus_id,name,memory.total,memory.free,driver_version"
)

var (
	errSMITooLong  = errors.New("nvidia-smi wrote more than 64 KiB")
	errSMITooMany  = errors.New("nvidia-smi listed more than 64 cards")
	errSMIBadLine  = errors.New("not a line of nvidia-smi")
	errSMINotText  = errors.New("nvidia-smi wrote something that is not text")
	errSMITimedOut = errors.New("nvidia-smi did not answer in 5 s")
)

// fromSMI asks nvidia-smi for its cards.
func (p *Prober) fromSMI(ctx context.Context) ([]found, error) {
	name, err := exec.LookPath(p.smi)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoCardReader, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, smiTimeout, errSMITimedOut)
	defer cancel()
	out := &limited{max: maxSMIOutput}
	cmd := exec.CommandContext(ctx, name, "--query-gpu="+smiFields, "--format=csv,noheader,nounits") //nolint:gosec // the path is the configuration's, the arguments are ours
	cmd.Env = smiEnv(os.Environ())
	cmd.Stdout = out
	cmd.WaitDelay = smiWaitDelay
	hideConsole(cmd)
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("run nvidia-smi: %w", context.Cause(ctx))
	case out.over:
		return nil, errSMITooLong
	case err != nil:
		// Without a driver it says so on stdout and exits with 9.
		said, _, _ := strings.Cut(strings.TrimSpace(out.buf.String()), "\n")
		return nil, fmt.Errorf("run nvidia-smi: %w: %s", err, clean(said))
	}
	return parseSMI(out.buf.Bytes())
}

// smiEnv keeps what a program needs to find its libraries. The rest may hold secrets
// and is not nvidia-smi's concern.
func smiEnv(environ []string) []string {
	keep := []string{"PATH", "LD_LIBRARY_PATH", "HOME", "SYSTEMROOT", "SYSTEMDRIVE", "TEMP", "TMP", "PROGRAMFILES", "PROGRAMDATA"}
	env := []string{"LC_ALL=C"}
	for _, pair := range environ {
		key, _, _ := strings.Cut(pair, "=")
		if slices.Contains(keep, strings.ToUpper(key)) {
			env = append(env, pair)
		}
	}
	return env
}

// parseSMI reads lines of smiFields, memory in MiB. Text in brackets ("[N/A]") is a value
// that the driver does not know: some cards share the computer's memory.
func parseSMI(data []byte) ([]found, error) {
	if len(data) > maxSMIOutput {
		return nil, errSMITooLong
	}
	if !utf8.Valid(data) {
		return nil, errSMINotText
	}
	var devices []found
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if len(devices) == maxDevices {
			return nil, errSMITooMany
		}
		// No product name has had a comma so far; one that has shall not hide the card.
		fields := strings.Split(line, ",")
		if len(fields) < 5 {
			return nil, fmt.Errorf("%w: %d fields, not 5: %q", errSMIBadLine, len(fields), clean(line))
		}
		last := len(fields) - 1
		total, err := parseMiB(fields[last-2])
		if err != nil {
			return nil, fmt.Errorf("%w: total memory: %w", errSMIBadLine, err)
		}
		free, err := parseMiB(fields[last-1])
		if err != nil {
			return nil, fmt.Errorf("%w: free memory: %w", errSMIBadLine, err)
		}
		if total > 0 && free > total {
			return nil, fmt.Errorf("%w: more memory free than there is", errSMIBadLine)
		}
		note := ""
		if total == 0 {
			free = 0 // a part of an unknown whole says nothing
			note = NoteUnified
		}
		freeUnknown := total > 0 && unknownValue(strings.TrimSpace(fields[last-1]))
		address := normalAddress(fields[0])
		name := clean(strings.Join(fields[1:last-2], ","))
		if address == "" || name == "" {
			return nil, fmt.Errorf("%w: without address or name: %q", errSMIBadLine, clean(line))
		}
		driver := "nvidia"
		if version := clean(fields[last]); version != "" && !unknownValue(version) {
			driver += " " + version
		}
		devices = append(devices, found{
			Device: Device{
				Name: name, Vendor: vendorNVIDIA, TotalBytes: total, FreeBytes: free, FreeUnknown: freeUnknown,
				Driver: driver, Note: note,
			},
			address: address,
		})
	}
	return devices, nil
}

func parseMiB(s string) (uint64, error) {
	s = strings.TrimSpace(s)
	if unknownValue(s) {
		return 0, nil
	}
	mib, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("not a number of MiB: %q", clean(s))
	}
	if mib > maxMemory>>20 {
		return 0, fmt.Errorf("%d MiB is more than 16 TiB", mib)
	}
	return mib << 20, nil
}

func unknownValue(s string) bool {
	return strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]")
}

// limited keeps what is written up to max bytes, and takes the rest without an error, so
// that the writer is not stopped halfway and says how it ended.
type limited struct {
	buf  bytes.Buffer
	max  int
	over bool
}

func (l *limited) Write(p []byte) (int, error) {
	room := l.max - l.buf.Len()
	if len(p) > room {
		l.over = true
		l.buf.Write(p[:room])
		return len(p), nil
	}
	return l.buf.Write(p)
}
