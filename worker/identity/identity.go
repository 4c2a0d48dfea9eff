// Package identity tells one computer from another, so that a config folder that
// was copied to a second computer is not taken for the first one's.
//
// The system's machine id is only ever kept and compared as a hash together with
// the install id: alone it would tie this program to others on the computer.
package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
)

// errNoID: this system has no id, or one that is not its own yet.
var errNoID = errors.New("this computer has no machine id")

// Hash ties an install id to a computer.
func Hash(machineID, installID string) string {
	sum := sha256.Sum256([]byte(machineID + "\x00" + installID))
	return hex.EncodeToString(sum[:])
}

// clean checks what a system gave as its id, and brings it into one form.
func clean(text string) (string, error) {
	const shortest, longest = 16, 128 // characters; a UUID has 32 to 36
	id := strings.ToLower(strings.TrimSpace(text))
	switch {
	case len(id) < shortest || len(id) > longest:
		return "", errNoID
	case strings.Trim(id, "0-") == "": // firmware without a number
		return "", errNoID
	case strings.Trim(id, "0123456789abcdef-") != "": // "uninitialized", or nonsense
		return "", errNoID
	}
	return id, nil
}

// platformUUID finds the id in what ioreg prints: `"IOPlatformUUID" = "ID"`.
func platformUUID(text string) (string, error) {
	_, rest, found := strings.Cut(text, `"IOPlatformUUID"`)
	_, rest, quoted := strings.Cut(rest, `"`)
	id, _, closed := strings.Cut(rest, `"`)
	if !found || !quoted || !closed {
		return "", errNoID
	}
	return clean(id)
}
