// Package disk tells how much room there is on a disk.
package disk

import "fmt"

// Free returns the bytes that this program may still write where the folder dir
// lies. It asks the system each time, which takes microseconds on a local disk.
func Free(dir string) (uint64, error) {
	n, err := free(dir)
	if err != nil {
		return 0, fmt.Errorf("ask for the free space of %s: %w", dir, err)
	}
	return n, nil
}
