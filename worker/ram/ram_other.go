//go:build !linux

package ram

// Available returns ErrUnknown here.
func Available() (uint64, error) { return 0, ErrUnknown }

// Own returns ErrUnknown here.
func Own(int) (uint64, error) { return 0, ErrUnknown }
