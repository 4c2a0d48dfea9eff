package power

import (
	"context"
	"unsafe"

	"golang.org/x/sys/windows"
)

// systemPowerStatus is SYSTEM_POWER_STATUS of the Windows API.
type systemPowerStatus struct {
	acLineStatus, batteryFlag, batteryLifePercent, systemStatusFlag byte
	batteryLifeTime, batteryFullLifeTime                            uint32
}

const acOffline = 0 // 1 is online, 255 unknown

func (*Reader) onBattery(context.Context) (bool, error) {
	proc := windows.NewLazySystemDLL("kernel32.dll").NewProc("GetSystemPowerStatus")
	if err := proc.Find(); err != nil {
		return false, err
	}
	var s systemPowerStatus
	if ok, _, err := proc.Call(uintptr(unsafe.Pointer(&s))); ok == 0 { //nolint:gosec // the call needs the address and keeps none
		return false, err
	}
	return s.acLineStatus == acOffline, nil
}
