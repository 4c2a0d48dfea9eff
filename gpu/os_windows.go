package gpu

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/windows/registry"
)

const (
	// directXKey holds a key for each adapter that DirectX found.
	directXKey = `SOFTWARE\Microsoft\DirectX`
	// typeperfTimeout: one sample takes a second.
	typeperfTimeout = 5 * time.Second
)

func newOS() cardReader {
	return directX{adapters: registryAdapters, usage: typeperfUsage}
}

// registryAdapters lists the adapters. A key that is no adapter is skipped.
func registryAdapters() (adapters []adapter, err error) {
	root, err := registry.OpenKey(registry.LOCAL_MACHINE, directXKey, registry.READ)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	names, err := root.ReadSubKeyNames(4 * maxDevices)
	if err != nil && len(names) == 0 {
		return nil, err
	}
	for _, name := range names {
		key, err := registry.OpenKey(root, name, registry.QUERY_VALUE)
		if err != nil {
			continue
		}
		var a adapter
		var errs [3]error
		a.name, _, errs[0] = key.GetStringValue("Description")
		a.luid, _, errs[1] = key.GetIntegerValue("AdapterLuid")
		a.memory, _, errs[2] = key.GetIntegerValue("DedicatedVideoMemory")
		if errors.Join(errors.Join(errs[:]...), key.Close()) == nil {
			adapters = append(adapters, a)
		}
	}
	return adapters, nil
}

func typeperfUsage(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, typeperfTimeout)
	defer cancel()
	program := filepath.Join(os.Getenv("SystemRoot"), "System32", "typeperf.exe")
	cmd := exec.CommandContext(ctx, program, `\GPU Adapter Memory(*)\Dedicated Usage`, "-sc", "1") // #nosec G204 -- Windows' own program
	hideConsole(cmd)
	return cmd.Output()
}
