package identity

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/windows/registry"
)

// MachineID reads the id that the system gave itself when it was installed.
func MachineID(context.Context) (string, error) {
	key, err := registry.OpenKey(registry.LOCAL_MACHINE, `SOFTWARE\Microsoft\Cryptography`, registry.QUERY_VALUE|registry.WOW64_64KEY)
	if err != nil {
		return "", fmt.Errorf("open the registry: %w", err)
	}
	text, _, err := key.GetStringValue("MachineGuid")
	if err := errors.Join(err, key.Close()); err != nil {
		return "", fmt.Errorf("read MachineGuid: %w", err)
	}
	return clean(text)
}
