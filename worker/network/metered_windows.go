package network

import (
	"context"
	"unsafe"

	"golang.org/x/sys/windows"
)

// connectivityHint is NL_NETWORK_CONNECTIVITY_HINT.
type connectivityHint struct {
	Level, Cost                              int32
	ApproachingDataLimit, OverLimit, Roaming uint8
}

// Costs of a connection (NL_NETWORK_CONNECTIVITY_COST_HINT) that are counted.
const (
	costFixed    = 2
	costVariable = 3
)

// metered asks Windows 10 of 2020 or later; an earlier one does not tell.
func metered(context.Context) bool {
	ask := windows.NewLazySystemDLL("iphlpapi.dll").NewProc("GetNetworkConnectivityHint")
	if ask.Find() != nil {
		return false
	}
	var hint connectivityHint
	if code, _, _ := ask.Call(uintptr(unsafe.Pointer(&hint))); code != 0 { //nolint:gosec // G103: the call fills it
		return false
	}
	return hint.Cost == costFixed || hint.Cost == costVariable || hint.Roaming != 0
}
