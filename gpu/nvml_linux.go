//go:build linux && cgo

package gpu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ebitengine/purego"
)

const (
	// nvmlLibrary comes with NVIDIA's driver, under this name on every Linux.
	nvmlLibrary = "libnvidia-ml.so.1"
	// nvmlTimeout is nvidia-smi's: both ask the same driver.
	nvmlTimeout = smiTimeout
	// nvmlText is the room for a name or a version; the library's own limits are 96 and 80.
	nvmlText = 128
)

// Return values of the library that are told apart.
const (
	nvmlSuccess      = 0
	nvmlNotSupported = 3
)

var (
	errNVMLTimedOut = errors.New("the NVIDIA driver did not answer in 5 s")
	errNVMLHangs    = errors.New("an earlier question to the NVIDIA driver has no answer yet")
	errNVMLTooMany  = errors.New("the NVIDIA driver listed more than 64 cards")
	errNVMLBadCard  = errors.New("not a card of the NVIDIA driver")
)

// newNVML returns what asks NVIDIA's management library, loaded at the call: a computer
// without it runs the same program. Loading through purego leaves no undefined symbol in
// the program; a binding that has some stops it at the start on systems that bind at once.
func newNVML() cardReader { return newNVMLAt(nvmlLibrary) }

func newNVMLAt(library string) *nvml {
	return &nvml{library: library, idle: make(chan struct{}, 1)}
}

// nvml asks the library. A driver that hangs takes the calling thread with it, so each
// question runs in a goroutine of its own, and there is never more than one.
type nvml struct {
	library string
	idle    chan struct{} // room for one: holds a token while a question is asked
}

// read lists NVIDIA's cards. It returns errNoCardReader when the library is not there.
func (n *nvml) read(ctx context.Context) ([]found, error) {
	select {
	case n.idle <- struct{}{}:
	default:
		return nil, errNVMLHangs
	}
	type answer struct {
		cards []found
		err   error
	}
	answers := make(chan answer, 1)
	go func() { // ends when the driver answers
		cards, err := n.ask()
		<-n.idle // before who waits can ask again
		answers <- answer{cards, err}
	}()
	timeout := time.NewTimer(nvmlTimeout)
	defer timeout.Stop()
	select {
	case a := <-answers:
		return a.cards, a.err
	case <-timeout.C:
		return nil, errNVMLTimedOut
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// nvmlMemory is nvmlMemory_t.
type nvmlMemory struct{ total, free, _ uint64 }

// nvmlPCI is nvmlPciInfo_t.
type nvmlPCI struct {
	_     [16]byte // the address in its old form, with a domain of four digits
	_     [5]uint32
	busID [32]byte
}

// nvmlCalls are the functions of the library that are used.
type nvmlCalls struct {
	start         func() int32
	shutdown      func() int32
	errorText     func(int32) string
	driverVersion func(*byte, uint32) int32
	count         func(*uint32) int32
	card          func(uint32, *uintptr) int32
	name          func(uintptr, *byte, uint32) int32
	memory        func(uintptr, *nvmlMemory) int32
	place         func(uintptr, *nvmlPCI) int32
}

// load opens the library. The caller closes it.
func (n *nvml) load() (handle uintptr, calls nvmlCalls, err error) {
	handle, err = purego.Dlopen(n.library, purego.RTLD_LAZY|purego.RTLD_LOCAL)
	if err != nil {
		return 0, nvmlCalls{}, fmt.Errorf("%w: %w", errNoCardReader, err)
	}
	for name, call := range map[string]any{
		"nvmlInit_v2": &calls.start, "nvmlShutdown": &calls.shutdown, "nvmlErrorString": &calls.errorText,
		"nvmlSystemGetDriverVersion": &calls.driverVersion, "nvmlDeviceGetCount_v2": &calls.count,
		"nvmlDeviceGetHandleByIndex_v2": &calls.card, "nvmlDeviceGetName": &calls.name,
		"nvmlDeviceGetMemoryInfo": &calls.memory, "nvmlDeviceGetPciInfo_v3": &calls.place,
	} {
		symbol, err := purego.Dlsym(handle, name)
		if err != nil { // a driver of before 2017; nvidia-smi knows it
			return 0, nvmlCalls{}, errors.Join(fmt.Errorf("%w: %s lacks %s", errNoCardReader, n.library, name), purego.Dlclose(handle))
		}
		purego.RegisterFunc(call, symbol)
	}
	return handle, calls, nil
}

// ask lists the cards. The library is loaded, started and closed again each time, so
// that a driver can be replaced, and a card fall asleep, while this program runs.
func (n *nvml) ask() (cards []found, err error) {
	handle, calls, err := n.load()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, purego.Dlclose(handle)) }()
	check := func(what string, code int32) error {
		if code == nvmlSuccess {
			return nil
		}
		return fmt.Errorf("%s: %s", what, clean(calls.errorText(code)))
	}
	if err := check("start the NVIDIA library", calls.start()); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, check("end the NVIDIA library", calls.shutdown())) }()

	driver := "nvidia"
	var text [nvmlText]byte
	if calls.driverVersion(&text[0], nvmlText) == nvmlSuccess {
		driver = clean(driver + " " + cString(text[:]))
	}
	var count uint32
	if err := check("count the NVIDIA cards", calls.count(&count)); err != nil {
		return nil, err
	}
	if count > maxDevices {
		return nil, errNVMLTooMany
	}
	for i := range count {
		var card uintptr
		if err := check("open an NVIDIA card", calls.card(i, &card)); err != nil {
			return nil, err
		}
		f := found{Device: Device{Vendor: vendorNVIDIA, Driver: driver}}
		text = [nvmlText]byte{}
		if err := check("name an NVIDIA card", calls.name(card, &text[0], nvmlText)); err != nil {
			return nil, err
		}
		f.Name = clean(cString(text[:]))
		var place nvmlPCI
		if err := check("find an NVIDIA card", calls.place(card, &place)); err != nil {
			return nil, err
		}
		f.address = normalAddress(cString(place.busID[:]))
		if f.Name == "" || f.address == "" {
			return nil, fmt.Errorf("%w: without address or name", errNVMLBadCard)
		}
		var memory nvmlMemory
		switch code := calls.memory(card, &memory); {
		case code == nvmlNotSupported:
			f.Note = NoteUnified
		case code != nvmlSuccess:
			f.Note = clean(calls.errorText(code))
		case memory.total > maxMemory, memory.free > memory.total:
			return nil, fmt.Errorf("%w: %d of %d bytes free", errNVMLBadCard, memory.free, memory.total)
		default:
			f.TotalBytes, f.FreeBytes = memory.total, memory.free
		}
		cards = append(cards, f)
	}
	return cards, nil
}

// cString is the text before the first zero byte.
func cString(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}
