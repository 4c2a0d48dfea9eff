package presence

import (
	"context"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// lastInputInfo is LASTINPUTINFO of the Windows API.
type lastInputInfo struct{ size, ticks uint32 }

// platform is what a Reader keeps between two questions: nothing here.
type platform struct{}

func (platform) idleFor(context.Context) (time.Duration, error) {
	last := windows.NewLazySystemDLL("user32.dll").NewProc("GetLastInputInfo")
	now := windows.NewLazySystemDLL("kernel32.dll").NewProc("GetTickCount")
	for _, proc := range []*windows.LazyProc{last, now} {
		if err := proc.Find(); err != nil {
			return 0, err
		}
	}
	info := lastInputInfo{size: uint32(unsafe.Sizeof(lastInputInfo{}))}
	if ok, _, err := last.Call(uintptr(unsafe.Pointer(&info))); ok == 0 { //nolint:gosec // the call needs the address and keeps none
		return 0, err
	}
	ticks, _, _ := now.Call()
	// Both count milliseconds in 32 bits and begin anew after 49 days: so does
	// their difference.
	return time.Duration(uint32(ticks)-info.ticks) * time.Millisecond, nil
}
