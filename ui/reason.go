package ui

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"studioworker/ui/words"
)

// reason says why something that the person asked for did not work: what it means in the
// window's language, and behind that what was heard. What has no meaning of its own stays
// as it was heard.
func reason(tr *words.Printer, err error) string {
	switch {
	case errors.Is(err, errBusy):
		return tr.T("the program is still busy with what you asked before")
	case errors.Is(err, errPictureBytes):
		return tr.T("the file is larger than 64 MB")
	case errors.Is(err, errPicturePixels):
		return tr.T("the picture has more than 50 megapixels")
	}
	for _, known := range []struct {
		is    error
		means string
	}{
		{fs.ErrNotExist, tr.T("the file is not there any more")},
		{fs.ErrExist, tr.T("there is a file of that name already")},
		{fs.ErrPermission, tr.T("this computer does not allow it")},
		{syscall.ENOSPC, tr.T("the disk is full")},
		{context.DeadlineExceeded, tr.T("it took too long")},
	} {
		if errors.Is(err, known.is) {
			return known.means + " (" + err.Error() + ")"
		}
	}
	return err.Error()
}
