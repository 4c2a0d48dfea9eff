package gpu

import (
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// maxSysFile bounds what is read of one of the kernel's files; they hold some lines.
const maxSysFile = 4 << 10

// fromSys lists the cards that the Linux kernel shows under class/drm. The amdgpu driver
// tells its memory there, total and used; the drivers of Intel's cards that have memory
// of their own tell the total.
func (p *Prober) fromSys() []found {
	if p.sys == nil {
		return nil
	}
	entries, err := fs.ReadDir(p.sys, "class/drm")
	if err != nil {
		return nil // no graphics at all: most virtual machines and containers
	}
	type numbered struct {
		number int
		dir    string
	}
	var cards []numbered
	for _, e := range entries {
		// card0 is a card, card0-HDMI-A-1 one of its sockets, renderD128 the card once more.
		digits, ok := strings.CutPrefix(e.Name(), "card")
		if n, err := strconv.ParseUint(digits, 10, 16); ok && err == nil {
			cards = append(cards, numbered{int(n), path.Join("class/drm", e.Name())})
		}
	}
	slices.SortFunc(cards, func(a, b numbered) int { return a.number - b.number })

	var devices []found
	for _, c := range cards[:min(len(cards), maxDevices)] {
		event := readPairs(p.read(path.Join(c.dir, "device/uevent")))
		vendorID, productID, _ := strings.Cut(event["PCI_ID"], ":")
		if event["PCI_ID"] == "" {
			continue // a display without a card, such as a virtual or a USB one
		}
		f := found{
			Device:  Device{Vendor: vendorOfID(vendorID), Driver: clean(event["DRIVER"])},
			address: normalAddress(event["PCI_SLOT_NAME"]),
		}
		// Replaced when ghw knows the product; it has no names where no pci.ids is installed.
		f.Name = clean(strings.TrimSpace(f.Vendor+" graphics card ") + " " + vendorID + ":" + productID)
		f.TotalBytes, f.FreeBytes, f.FreeUnknown = p.sysMemory(c.dir)
		devices = append(devices, f)
	}
	return devices
}

// maxTiles bounds the parts of one of Intel's cards; the largest has two.
const maxTiles = 8

// sysMemory reads a card's memory from its driver's files; total 0 means unknown.
func (p *Prober) sysMemory(dir string) (total, free uint64, freeUnknown bool) {
	if total, ok := readBytes(p.read(path.Join(dir, "device/mem_info_vram_total"))); ok && total > 0 { // amdgpu
		used, ok := readBytes(p.read(path.Join(dir, "device/mem_info_vram_used")))
		if !ok || used > total {
			return total, 0, true
		}
		return total, total - used, false
	}
	if total, ok := readBytes(p.read(path.Join(dir, "lmem_total_bytes"))); ok && total > 0 { // i915
		free, ok := readBytes(p.read(path.Join(dir, "lmem_avail_bytes")))
		if !ok || free > total {
			return total, 0, true
		}
		return total, free, false
	}
	for tile := range maxTiles { // xe
		n, ok := readBytes(p.read(path.Join(dir, "device", "tile"+strconv.Itoa(tile), "physical_vram_size_bytes")))
		if !ok {
			break
		}
		total += n
	}
	return total, 0, total > 0
}

// read returns the first bytes of a file, or nothing when it cannot be read.
func (p *Prober) read(name string) string {
	file, err := p.sys.Open(name)
	if err != nil {
		return ""
	}
	defer file.Close() //nolint:errcheck // only read: a close has nothing to lose
	data, err := io.ReadAll(io.LimitReader(file, maxSysFile))
	if err != nil {
		return ""
	}
	return string(data)
}

// readPairs reads lines of KEY=value.
func readPairs(s string) map[string]string {
	pairs := make(map[string]string)
	for line := range strings.Lines(s) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			pairs[key] = value
		}
	}
	return pairs
}

// readBytes reads a number of bytes, at most maxMemory.
func readBytes(s string) (uint64, bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 64)
	return n, err == nil && n <= maxMemory
}

func vendorOfID(id string) string {
	switch strings.ToLower(id) {
	case "10de":
		return vendorNVIDIA
	case "1002":
		return vendorAMD
	case "8086":
		return vendorIntel
	}
	return ""
}
