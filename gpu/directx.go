package gpu

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

var errTypeperf = errors.New("not what typeperf writes")

// maxTypeperf is what some thousand counters take.
const maxTypeperf = 1 << 20

// An adapter is a graphics card as Windows lists it for DirectX.
type adapter struct {
	name   string
	luid   uint64 // Windows' number of the adapter, until the next start
	memory uint64 // bytes of the card's own memory
}

// directX tells the memory of Windows' graphics cards. NVIDIA's own program is asked
// after it, and knows its cards better.
//
// It was tested with recorded lists and counters, not on Windows.
type directX struct {
	adapters func() ([]adapter, error)
	usage    func(context.Context) ([]byte, error) // of all adapters, as typeperf writes it
}

func (d directX) read(ctx context.Context) ([]found, error) {
	adapters, err := d.adapters()
	if err != nil {
		return nil, fmt.Errorf("ask for the adapters: %w", err)
	}
	var cards []found
	for _, a := range adapters[:min(len(adapters), maxDevices)] {
		name := clean(a.name)
		// Windows' own renderer is no card, nor is one without memory to tell.
		if name == "" || a.memory == 0 || a.memory > maxMemory || strings.HasPrefix(name, "Microsoft Basic Render") {
			continue
		}
		cards = append(cards, found{Device: Device{Name: name, TotalBytes: a.memory, FreeUnknown: true}})
	}
	if len(cards) == 0 {
		return nil, nil
	}
	out, err := d.usage(ctx)
	if err != nil {
		return cards, fmt.Errorf("ask for the memory in use: %w", err)
	}
	used, err := parseTypeperf(out)
	if err != nil {
		return cards, err
	}
	for i, card := range cards {
		for _, a := range adapters {
			n, ok := used[a.luid]
			if clean(a.name) != card.Name || !ok || a.memory != card.TotalBytes {
				continue
			}
			cards[i].FreeBytes, cards[i].FreeUnknown = card.TotalBytes-min(n, card.TotalBytes), false
			delete(used, a.luid) // twins have a number each
			break
		}
	}
	return cards, nil
}

// counterName is \\COMPUTER\GPU Adapter Memory(luid_0x00000000_0x0000D1B2_phys_0)\Dedicated Usage.
var counterName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\(luid_0x([0-9A-Fa-f]{8})_0x([0-9A-Fa-f]{8})_phys_[0-9]+\)`)
})

// parseTypeperf reads the bytes in use from two lines of comma-separated values: the
// counters' names after a column for the time, and what they say. It adds up what one
// adapter has in parts.
func parseTypeperf(data []byte) (map[uint64]uint64, error) {
	if len(data) > maxTypeperf {
		return nil, fmt.Errorf("%w: more than 1 MiB", errTypeperf)
	}
	r := csv.NewReader(bytes.NewReader(bytes.TrimSpace(data)))
	r.FieldsPerRecord = -1 // words for people follow
	names, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errTypeperf, noEOF(err))
	}
	values, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errTypeperf, noEOF(err))
	}
	if len(values) != len(names) {
		return nil, fmt.Errorf("%w: %d names and %d values", errTypeperf, len(names), len(values))
	}
	used := make(map[uint64]uint64)
	for i, name := range names {
		match := counterName().FindStringSubmatch(name)
		if match == nil {
			continue
		}
		luid, err := strconv.ParseUint(match[1]+match[2], 16, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errTypeperf, err)
		}
		n, err := strconv.ParseFloat(values[i], 64)
		if err != nil || !(n >= 0 && n <= maxMemory) {
			return nil, fmt.Errorf("%w: %s bytes in use", errTypeperf, clean(values[i]))
		}
		used[luid] += uint64(n)
	}
	return used, nil
}

// noEOF names the end of a text that ended too soon.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
