//go:build !cgo

package runtime

import "errors"

const built = false

// load refuses: the library can only be loaded from C.
func load(string) (library, error) {
	return nil, errors.New("this build of the worker has no C code in it")
}
