package gpu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"strings"
)

// maxDevices bounds a list of cards: more than any computer has, few enough to show.
const maxDevices = 64

// The vendors' names as Device.Vendor has them.
const (
	vendorNVIDIA = "NVIDIA"
	vendorAMD    = "AMD"
	vendorIntel  = "Intel"
)

// A Device is one graphics card.
type Device struct {
	Name       string // as its maker calls it; never empty
	Vendor     string // NVIDIA, AMD, Intel, or the name the system has; empty: unknown
	TotalBytes uint64 // memory; 0: unknown
	FreeBytes  uint64 // memory that no program holds; 0 when FreeUnknown
	Driver     string // its name, and its version when known; empty: unknown
	// FreeUnknown: the driver tells how much memory there is, but not how much is free.
	FreeUnknown bool
	// Note says for people why TotalBytes or FreeBytes is unknown, or that the memory is
	// the computer's own; at most 128 bytes, empty when there is nothing to say.
	Note string
}

// Unreadable says whether the card's driver is missing or does not answer. A driver that
// works and tells no memory is something else.
func (d Device) Unreadable() bool {
	return d.Vendor == vendorNVIDIA && d.TotalBytes == 0 && d.Note != NoteUnified
}

// What a Note says, unless it is the driver's own words.
const (
	NoteUnified   = "shares the computer's memory"
	NoteUntold    = "its driver does not tell its memory"
	NoteUntoldUse = "its driver does not tell how much is used"
	NoteNoDriver  = "install NVIDIA's driver to see its memory"
)

// A Card is one entry of the system's list of graphics cards.
type Card struct {
	Address string // on the PCI bus, such as 0000:01:00.0; empty or anything else: unknown
	Name    string
	Vendor  string
	Driver  string
}

// Config says where a Prober looks. The zero value looks at this computer.
type Config struct {
	// Logger hears why a source was of no use. Nil: nobody does.
	Logger *slog.Logger
	// SMI is the nvidia-smi program, by name or path. Empty: nvidia-smi from the PATH.
	SMI string
	// Sys is the kernel's /sys. Nil: the real one on Linux, none elsewhere.
	Sys fs.FS
	// Cards is the system's list of cards. Nil: ghw's.
	Cards func() ([]Card, error)
}

// A Prober lists graphics cards.
type Prober struct {
	log   *slog.Logger
	smi   string
	sys   fs.FS
	cards func() ([]Card, error)
	nvml  cardReader // nil: only nvidia-smi is asked
	os    cardReader // macOS or Windows; nil elsewhere
}

// cardReader lists cards of one source.
type cardReader interface {
	read(ctx context.Context) ([]found, error)
}

// errNoCardReader: this source is not installed here.
var errNoCardReader = errors.New("not installed")

// New returns a Prober that looks where c says.
func New(c Config) *Prober {
	p := &Prober{log: c.Logger, smi: c.SMI, sys: c.Sys, cards: c.Cards}
	if c.SMI == "" && c.Sys == nil && c.Cards == nil { // this computer
		p.nvml, p.os = newNVML(), newOS()
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.smi == "" {
		p.smi = "nvidia-smi"
	}
	if p.sys == nil && runtime.GOOS == "linux" {
		p.sys = os.DirFS("/sys")
	}
	if p.cards == nil {
		p.cards = systemCards
	}
	return p
}

// List returns the cards of this computer, at most 64, in the system's order. A computer
// without one has an empty list and no error. A source that fails is logged and skipped;
// the only error is the context's, wrapped. A call takes up to six seconds when the
// NVIDIA driver hangs, and some milliseconds otherwise.
func (p *Prober) List(ctx context.Context) ([]Device, error) {
	found := p.fromSys()
	// Asking ghw loads the whole database of PCI names, so on Linux only when there is a
	// card to name. There it also lists displays that no card drives.
	if p.sys == nil || len(found) > 0 {
		cards, err := p.cards()
		if err != nil {
			p.log.DebugContext(ctx, "the system's list of graphics cards is of no use", "error", err)
		}
		found = addNames(found, cards, p.sys == nil)
	}
	if p.os != nil {
		cards, err := p.os.read(ctx)
		if err != nil && ctx.Err() == nil {
			p.log.WarnContext(ctx, "the system does not tell the memory of its graphics cards", "error", err)
		}
		found = addCards(found, cards)
	}
	nvidia, err := p.fromNVIDIA(ctx)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("list graphics cards: %w", context.Cause(ctx))
	}
	found = addCards(found, nvidia)
	for i := range found {
		found[i].Note = cmp.Or(found[i].Note, missing(found[i].Device, err))
	}

	devices := make([]Device, 0, len(found))
	for _, f := range found[:min(len(found), maxDevices)] {
		f.Name = cmp.Or(f.Name, strings.TrimSpace(f.Vendor+" graphics card"))
		devices = append(devices, f.Device)
	}
	return devices, nil
}

// fromNVIDIA lists NVIDIA's cards: by its library, else by its program.
func (p *Prober) fromNVIDIA(ctx context.Context) ([]found, error) {
	if p.nvml != nil {
		cards, err := p.nvml.read(ctx)
		switch {
		case err == nil:
			return cards, nil
		case ctx.Err() != nil:
			return nil, err
		case errors.Is(err, errNoCardReader):
			p.log.DebugContext(ctx, "the NVIDIA library is not installed", "error", err)
		default:
			p.log.WarnContext(ctx, "the NVIDIA library is of no use", "error", err)
		}
	}
	cards, err := p.fromSMI(ctx)
	switch {
	case err == nil || ctx.Err() != nil:
	case errors.Is(err, errNoCardReader):
		p.log.DebugContext(ctx, "nvidia-smi is not installed")
	default:
		p.log.WarnContext(ctx, "nvidia-smi is of no use", "error", err)
	}
	return cards, err
}

// missing says why a device's memory is unknown; err is what NVIDIA's driver said.
func missing(d Device, err error) string {
	switch {
	case d.TotalBytes > 0 && d.FreeUnknown:
		return NoteUntoldUse
	case d.TotalBytes > 0:
		return ""
	case d.Vendor == vendorNVIDIA && errors.Is(err, errNoCardReader):
		return NoteNoDriver
	case d.Vendor == vendorNVIDIA && err != nil:
		return clean(err.Error())
	}
	return NoteUntold
}

// TotalVRAMGB is the memory of all devices in units of 1024 MiB, as a heartbeat reports it
// (spec/protocol.md, vramTotalGb). 0 means unknown.
func TotalVRAMGB(devices []Device) float64 {
	var total float64
	for _, d := range devices {
		total += float64(d.TotalBytes)
	}
	return total / (1 << 30)
}

// found is a device with its place on the PCI bus, by which the sources are matched.
type found struct {
	Device
	address string // lower case, domain of four digits; empty: unknown
}

// addNames gives the devices the names of the system's cards. With add, cards that are
// not among the devices are added.
func addNames(devices []found, cards []Card, add bool) []found {
	for _, c := range cards {
		address := normalAddress(c.Address)
		i := indexAddress(devices, address)
		if i < 0 {
			if !add {
				continue
			}
			devices = append(devices, found{address: address})
			i = len(devices) - 1
		}
		d := &devices[i]
		d.Name = cmp.Or(clean(c.Name), d.Name)
		d.Vendor = cmp.Or(vendorName(clean(c.Vendor)), d.Vendor)
		d.Driver = cmp.Or(d.Driver, clean(c.Driver))
	}
	return devices
}

// addCards puts what one source knows over what the others said of the same card. Where
// the system does not tell a card's place on the bus (Windows), the name decides.
func addCards(devices, cards []found) []found {
	taken := make(map[int]bool, len(cards))
	for _, n := range cards {
		i := indexAddress(devices, n.address)
		if i < 0 {
			i = indexName(devices, n.Name, taken)
		}
		if i < 0 || taken[i] {
			devices = append(devices, n)
			taken[len(devices)-1] = true
			continue
		}
		n.Vendor, n.Driver = cmp.Or(n.Vendor, devices[i].Vendor), cmp.Or(n.Driver, devices[i].Driver)
		devices[i] = n
		taken[i] = true
	}
	return devices
}

func indexAddress(devices []found, address string) int {
	for i, d := range devices {
		if address != "" && d.address == address {
			return i
		}
	}
	return -1
}

func indexName(devices []found, name string, taken map[int]bool) int {
	for i, d := range devices {
		if d.address == "" && !taken[i] && d.Name == name {
			return i
		}
	}
	return -1
}

// normalAddress brings a PCI address to one form: nvidia-smi writes 00000000:01:00.0
// for what the kernel calls 0000:01:00.0. What is no such address becomes empty.
func normalAddress(s string) string {
	domain, rest, ok := strings.Cut(strings.ToLower(strings.TrimSpace(s)), ":")
	if !ok || len(rest) != len("01:00.0") || rest[2] != ':' || rest[5] != '.' {
		return ""
	}
	for _, c := range domain + rest[:2] + rest[3:5] + rest[6:] {
		if !strings.ContainsRune("0123456789abcdef", c) {
			return ""
		}
	}
	domain = strings.TrimLeft(domain, "0")
	if len(domain) > 8 {
		return ""
	}
	return strings.Repeat("0", max(0, 4-len(domain))) + domain + ":" + rest
}

// vendorName shortens the long names that the list of PCI vendors has.
func vendorName(s string) string {
	lower := strings.ToLower(s)
	switch {
	case strings.Contains(lower, "nvidia"):
		return vendorNVIDIA
	case strings.Contains(lower, "advanced micro devices"), strings.Contains(lower, "amd/ati"):
		return vendorAMD
	case strings.Contains(lower, "intel"):
		return vendorIntel
	}
	return s
}

// clean makes one line of at most 128 bytes of what a driver or a file said. Words that
// only say "unknown" become empty.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 128 {
		s = strings.TrimSpace(strings.ToValidUTF8(s[:128], ""))
	}
	if strings.EqualFold(s, "unknown") {
		return ""
	}
	return s
}
