package ui

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"testing"

	"studioworker/ui/words"
)

func TestReasonsAreInTheWindowsLanguage(t *testing.T) {
	de := words.New(words.German)
	missing := &os.PathError{Op: "open", Path: "/x", Err: syscall.ENOENT}
	for want, err := range map[string]error{
		"das Programm ist noch mit dem vorigen Auftrag von dir beschäftigt": errBusy,
		"das Bild hat mehr als 50 Megapixel":                                fmt.Errorf("decode: %w", errPicturePixels),
		"die Datei ist größer als 64 MB":                                    errPictureBytes,
		"die Datei ist nicht mehr da (open /x: no such file or directory)":  missing,
		"eine Datei dieses Namens gibt es schon (file already exists)":      fs.ErrExist,
		"the words of another":                                              errors.New("the words of another"),
	} {
		if got := reason(de, err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}
